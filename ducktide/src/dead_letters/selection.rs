//! Which letters a retry or a discard is about.

use clap::Args;
use ducktide_lake::{DuckLake, LetterFilter, LetterSummary};
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::TableName;

use crate::failure::Failure;

/// Which open letters are meant: one record, a class, a topic, or all.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which letters")]
pub struct Selection {
    /// The table that the records were meant for. Needed if topics fill several tables.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// Of this topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Of this partition.
    #[arg(long, value_name = "N")]
    pub partition: Option<i32>,

    /// At this offset; with --partition.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub offset: Option<i64>,

    /// Of this error class, such as `unknown_schema`.
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,

    /// All open letters of the table.
    #[arg(long, conflicts_with_all = ["topic", "partition", "class"])]
    pub all: bool,
}

impl Selection {
    /// Whether it is about one record.
    pub(super) const fn names_one_record(&self) -> bool {
        self.offset.is_some()
    }

    /// Refuses a command line that does not say which letters.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let says = self.topic.is_some() || self.partition.is_some() || self.class.is_some();
        if self.all || says {
            return Ok(());
        }
        Err(Failure::Usage(
            "say which letters: --partition and --offset, --class, --topic or --all",
        ))
    }

    /// The letters that are open now.
    pub(super) fn open_letters(
        &self,
        lake: &mut DuckLake,
        table: &TableName,
    ) -> Result<Vec<LetterSummary>, Failure> {
        let filter = LetterFilter {
            topic: self.topic.clone(),
            partition: self.partition.map(Partition),
            offset: self.offset.map(Offset),
            class: self.class.clone(),
            ..LetterFilter::default()
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
    fn letters_have_to_be_named() {
        assert!(selection().check().is_err());
        assert!(Selection { all: true, ..selection() }.check().is_ok());
        assert!(Selection { class: Some("truncated".to_owned()), ..selection() }.check().is_ok());
        assert!(Selection { partition: Some(0), offset: Some(7), ..selection() }.check().is_ok());
    }
}
