//! Selection of dead letters to retry or discard.

use clap::Args;
use ducktide_lake::{DeadLetterFilter, DeadLetterSummary, DuckLake};
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::TableName;

use crate::failure::Failure;

/// Selection of open dead letters: one record, a class, a topic, or all.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Dead letters")]
pub struct Selection {
    /// Table of the records. Required if topics fill several tables.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// Select records of this topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Select records of this partition.
    #[arg(long, value_name = "N")]
    pub partition: Option<i32>,

    /// Select the record with this offset. Requires --partition.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub offset: Option<i64>,

    /// Select records of this error class, such as `unknown_schema`.
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,

    /// Select all open dead letters of the table.
    #[arg(long, conflicts_with_all = ["topic", "partition", "class"])]
    pub all: bool,
}

impl Selection {
    /// Returns true if the selection is a single record.
    pub(super) const fn is_single_record(&self) -> bool {
        self.offset.is_some()
    }

    /// Returns an error if nothing is selected.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let is_limited = self.topic.is_some() || self.partition.is_some() || self.class.is_some();
        if self.all || is_limited {
            return Ok(());
        }
        Err(Failure::Usage(
            "select dead letters with --partition and --offset, --class, --topic or --all",
        ))
    }

    /// Returns the selected dead letters that are open.
    pub(super) fn open_letters(
        &self,
        lake: &mut DuckLake,
        table: &TableName,
    ) -> Result<Vec<DeadLetterSummary>, Failure> {
        let filter = DeadLetterFilter {
            topic: self.topic.clone(),
            partition: self.partition.map(Partition),
            offset: self.offset.map(Offset),
            class: self.class.clone(),
            ..DeadLetterFilter::default()
        };
        Ok(lake.dead_letter_summaries(table, &filter)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection() -> Selection {
        Selection {
            table: None,
            topic: None,
            partition: None,
            offset: None,
            class: None,
            all: false,
        }
    }

    #[test]
    fn an_empty_selection_is_an_error() {
        assert!(selection().check().is_err());
        assert!(Selection { all: true, ..selection() }.check().is_ok());
        assert!(Selection { class: Some("truncated".to_owned()), ..selection() }.check().is_ok());
        assert!(Selection { partition: Some(0), offset: Some(7), ..selection() }.check().is_ok());
    }
}
