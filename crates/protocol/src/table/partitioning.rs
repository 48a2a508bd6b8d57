//! Partition key of a table, and the column that its dates come from.

use thiserror::Error;

use super::{EVENT_DATE, TableName, TableShape};

/// Partition key of a table in the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitioning {
    /// Columns of `PARTITIONED BY`, with their transforms; empty for a table without a key.
    pub key: Vec<String>,
    /// Timestamp column whose UTC date is `event_date`, as recorded in the lake.
    pub date_of: Option<String>,
}

/// Partition key of a table that Ducktide cannot write files for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PartitioningError {
    /// Key that another client set.
    #[error(
        "the table is partitioned by columns that Ducktide does not partition by; remove the key with \
         `ALTER TABLE {table} RESET PARTITIONED BY`{or}: key=`{}`", .key.join(", ")
    )]
    ForeignKey {
        /// Table, as SQL.
        table: String,
        /// Alternative remedy, for a table that has the column `event_date`.
        or: String,
        /// Columns of the key.
        key: Vec<String>,
    },
    /// Setting that names another column than the recorded one.
    #[error(
        "event_date of this table is the date of another column; omit --partition-by \
         (DUCKTIDE_PARTITION_BY), or fill another table with --table: \
         table=`{table}` recorded=`{recorded}` partition_by=`{given}`"
    )]
    OtherColumn {
        /// Table.
        table: String,
        /// Column that the lake has recorded.
        recorded: String,
        /// Column that the setting names.
        given: String,
    },
    /// Key whose column is neither recorded nor set.
    #[error(
        "the table is partitioned by event_date, and the lake has not recorded which column it is the \
         date of; name it with --partition-by (DUCKTIDE_PARTITION_BY): table=`{table}`"
    )]
    UnknownColumn {
        /// Table.
        table: String,
    },
}

impl Partitioning {
    /// Returns the timestamp column whose date becomes `event_date`; None for a table whose files all
    /// go to one directory. `given` is the value of `--partition-by`. Pure.
    ///
    /// | partition key | recorded column | `--partition-by` | result |
    /// |---|---|---|---|
    /// | other than `event_date` | any | any | refused |
    /// | any | R | none, or R | R |
    /// | any | R | another | refused |
    /// | `event_date` | none | none | refused |
    /// | any | none | F | F |
    /// | none | none | none | None, also for a table with a column `event_date` |
    pub fn date_column(
        &self,
        table: &TableName,
        shape: &TableShape,
        given: Option<&str>,
    ) -> Result<Option<String>, PartitioningError> {
        let is_ours = match self.key.as_slice() {
            [] => true,
            [column] => column.eq_ignore_ascii_case(EVENT_DATE),
            _ => false,
        };
        if !is_ours {
            let or = if shape.is_partitioned() {
                format!(
                    ", or restore it with `ALTER TABLE {} SET PARTITIONED BY ({EVENT_DATE})`",
                    table.sql()
                )
            } else {
                String::new()
            };
            return Err(PartitioningError::ForeignKey {
                table: table.sql(),
                or,
                key: self.key.clone(),
            });
        }
        match (&self.date_of, given) {
            (Some(recorded), Some(given)) if !recorded.eq_ignore_ascii_case(given) => {
                Err(PartitioningError::OtherColumn {
                    table: table.to_string(),
                    recorded: recorded.clone(),
                    given: given.to_owned(),
                })
            }
            (Some(recorded), _) => Ok(Some(recorded.clone())),
            (None, Some(given)) => Ok(Some(given.to_owned())),
            (None, None) if self.key.is_empty() => Ok(None),
            (None, None) => Err(PartitioningError::UnknownColumn { table: table.to_string() }),
        }
    }
}

/// Beginning of the comment of `event_date`; the column's name follows. It is stored in the catalog, so
/// it must stay stable.
const COMMENT: &str = "UTC date of ";

/// Returns the comment that records the column of `event_date`.
#[must_use]
pub fn date_comment(column: &str) -> String {
    format!("{COMMENT}{column}")
}

/// Returns the column of such a comment.
#[must_use]
pub fn column_of_comment(comment: &str) -> Option<&str> {
    comment.strip_prefix(COMMENT).filter(|column| !column.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(
        key: &[&str],
        recorded: Option<&str>,
        given: Option<&str>,
    ) -> Result<Option<String>, String> {
        let shape = TableShape::from_described([
            ("ts", "TIMESTAMP WITH TIME ZONE"),
            ("event_date", "DATE"),
        ]);
        let key = key.iter().map(|&column| column.to_owned()).collect();
        let partitioning = Partitioning { key, date_of: recorded.map(str::to_owned) };
        let table = "events".parse().unwrap();
        partitioning.date_column(&table, &shape.unwrap(), given).map_err(|error| error.to_string())
    }

    #[test]
    fn every_line_of_the_truth_table_holds() {
        let ts = Ok(Some("ts".to_owned()));

        assert_eq!(answer(&["event_date"], Some("ts"), None), ts);
        assert_eq!(answer(&["event_date"], Some("ts"), Some("TS")), ts);
        assert_eq!(answer(&[], Some("ts"), None), ts);
        assert_eq!(answer(&["EVENT_DATE"], None, Some("ts")), ts);
        assert_eq!(answer(&[], None, Some("ts")), ts);
        assert_eq!(answer(&[], None, None), Ok(None));
    }

    #[test]
    fn each_refusal_names_its_remedy() {
        let refused = |key: &[&str], recorded, given| answer(key, recorded, given).unwrap_err();

        let foreign = refused(&["status"], Some("ts"), None);
        assert!(
            foreign.contains(r#"ALTER TABLE "main"."events" RESET PARTITIONED BY"#),
            "{foreign}"
        );
        assert!(foreign.contains("SET PARTITIONED BY (event_date)"), "{foreign}");
        assert!(refused(&["day(event_date)"], None, None).contains("key=`day(event_date)`"));
        assert!(refused(&["event_date", "status"], None, None).contains("RESET PARTITIONED BY"));
        let other = refused(&["event_date"], Some("ts"), Some("at"));
        assert!(other.contains("recorded=`ts` partition_by=`at`"), "{other}");
        assert!(refused(&["event_date"], None, None).contains("--partition-by"));
    }

    #[test]
    fn a_comment_keeps_the_name_of_the_column() {
        assert_eq!(column_of_comment(&date_comment("created at")), Some("created at"));
        assert_eq!(column_of_comment("the day"), None);
    }
}
