//! Merges small files into larger ones.

use std::time::Duration;

use super::{Maintained, announced, failed, in_transaction};
use crate::duck_lake::DuckLake;
use crate::error::Result;
use crate::session::{LAKE, quote};
use crate::table::TableName;

/// Which files a merge takes, and how much it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeLimits {
    /// Smaller files are left to the tier below; DuckLake's default when None.
    pub min_file_bytes: Option<u64>,
    /// Files of at least this size are left alone. Without it every run rewrites what the one before
    /// has merged.
    pub max_file_bytes: Option<u64>,
    /// How many files are made at most.
    pub max_compacted_files: Option<u32>,
}

impl DuckLake {
    /// Merges the small files of one table; readers of old snapshots see what they saw before.
    ///
    /// Waits at most `timeout` for the maintenance lock. An error of kind
    /// [`Unavailable`](crate::ErrorKind::Unavailable) means that others changed the table meanwhile,
    /// or an outage; nothing was done.
    pub fn merge_adjacent_files(
        &mut self,
        table: &TableName,
        limits: &MergeLimits,
        timeout: Duration,
    ) -> Result<Maintained> {
        self.maintain("merge adjacent files", timeout, |session| {
            if let Some(announced) = announced(session, table)? {
                return Ok(Maintained::ReplayAnnounced(announced));
            }
            let merged = in_transaction(session, &merge_sql(table, limits), "merge_adjacent_files");
            let rows = merged.map_err(failed("merge adjacent files"))?;
            let processed = |row: &Vec<Option<String>>| row.get(2)?.as_deref()?.parse::<u64>().ok();
            Ok(Maintained::Done(rows.iter().filter_map(processed).sum()))
        })
    }
}

fn merge_sql(table: &TableName, limits: &MergeLimits) -> String {
    let mut arguments =
        vec![quote(LAKE), quote(&table.table), format!("schema => {}", quote(&table.schema))];
    let named = [
        ("min_file_size", limits.min_file_bytes),
        ("max_file_size", limits.max_file_bytes),
        ("max_compacted_files", limits.max_compacted_files.map(u64::from)),
    ];
    arguments
        .extend(named.iter().filter_map(|(name, value)| Some(format!("{name} => {}", (*value)?))));
    format!("CALL ducklake_merge_adjacent_files({})", arguments.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_names_its_table_and_only_the_limits_that_are_set() {
        let limits = MergeLimits { max_file_bytes: Some(1024), ..MergeLimits::default() };

        let sql = merge_sql(&"raw.events".parse().unwrap(), &limits);

        assert_eq!(
            sql,
            "CALL ducklake_merge_adjacent_files('lake', 'events', schema => 'raw', max_file_size => 1024)"
        );
    }
}
