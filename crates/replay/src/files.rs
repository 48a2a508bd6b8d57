//! Files with rows that a replay removes, and the rows of them that it keeps.
//!
//! DuckDB's virtual column `filename` has the file of each row. A table's own column of this name hides it
//! and holds data of records. Such a column is renamed while the files are read, in a transaction that is
//! always rolled back, and every name that is read must be a file of the catalog, below the data path.

use std::collections::BTreeMap;
use std::path::Path;

use ducktide_lake::DuckLake;
use ducktide_lake::data_path::DataPath;
use ducktide_lake::duckdb_error;
use ducktide_lake::session::{LAKE, Session, quote};
use ducktide_protocol::dead_letter::dead_letter_table;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{Offset, OffsetRange, Partition};
use ducktide_protocol::table::{
    KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TOPIC, TableName, quote_identifier,
};
use ducktide_protocol::{FileFooter, Source, StagedFile};
use uuid::Uuid;

/// DuckDB's virtual column with the file of a row.
const FILE_NAME: &str = "filename";

/// A table with rows of the topic's records: its own table, or its dead letters.
#[derive(Clone, Debug)]
pub(super) struct ReplayTarget {
    pub(super) table: TableName,
    pub(super) topic: &'static str,
    pub(super) partition: &'static str,
    pub(super) offset: &'static str,
    /// No two rows have the same topic, partition and offset.
    has_unique_offsets: bool,
    data_path: DataPath,
}

/// A column of a table that hides DuckDB's virtual one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HidingColumn {
    /// Name in the table.
    name: String,
    /// Name while the files are read.
    renamed: String,
}

/// Returns the tables that a source fills: the dead-letter table only once it exists.
pub(super) fn targets(lake: &mut DuckLake, source: &Source) -> Result<Vec<ReplayTarget>> {
    let table = source.spec.table.clone();
    if lake.table_version(&table)?.is_none() {
        return Err(LakeError::invalid(format!("the table is missing: table=`{table}`")));
    }
    let dead_letters = dead_letter_table(&table);
    let has_dead_letters = lake.table_version(&dead_letters)?.is_some();
    let (topic, partition, offset) = (KAFKA_TOPIC, KAFKA_PARTITION, KAFKA_OFFSET);
    let data_path = DataPath::read(lake.session()?)?;
    let dead = ReplayTarget {
        table: dead_letters,
        topic: "topic",
        partition: "partition",
        offset: "offset",
        // The resolution of a dead letter is a row with the same offset.
        has_unique_offsets: false,
        data_path: data_path.clone(),
    };
    let rows =
        ReplayTarget { table, topic, partition, offset, has_unique_offsets: true, data_path };
    Ok(if has_dead_letters { vec![rows, dead] } else { vec![rows] })
}

/// A file with rows that are removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AffectedFile {
    /// Path as in `filename`.
    pub(super) path: String,
    pub(super) removed: u64,
    /// Number of rows that a reader sees.
    pub(super) rows: u64,
    /// Size of the file, in bytes.
    pub(super) bytes: u64,
}

impl AffectedFile {
    /// Returns whether all rows of the file are removed.
    pub(super) const fn is_whole(&self) -> bool {
        self.removed == self.rows
    }
}

impl ReplayTarget {
    fn name(&self) -> String {
        format!("{LAKE}.{}", self.table.sql())
    }

    /// Returns the condition of removed rows: those at and after the partitions' offsets. The smallest
    /// offset is a condition of its own, so that file statistics prune.
    pub(super) fn condition(&self, topic: &str, offsets: &[(Partition, Offset)]) -> String {
        let Self { topic: topics, partition, offset, .. } = self;
        let each = offsets.iter().map(|(number, from)| {
            format!("(\"{partition}\" = {number} AND \"{offset}\" >= {from})")
        });
        let least = offsets.iter().map(|(_, from)| from.0).min().unwrap_or(i64::MAX);
        format!(
            "\"{topics}\" = {} AND \"{offset}\" >= {least} AND ({})",
            quote(topic),
            each.collect::<Vec<_>>().join(" OR ")
        )
    }

    /// Renames a column that hides the virtual one, if the table has one. Must be called inside a
    /// transaction that is rolled back.
    pub(super) fn reveal_file_names(&self, session: &Session) -> Result<Option<HidingColumn>> {
        let found = self.hiding_column(session).map_err(read_failed)?;
        let Some(hiding) = &found else { return Ok(None) };
        if !self.has_unique_offsets {
            return Err(LakeError::invalid(format!(
                "the dead-letter table has a column that Ducktide does not create and that hides the file of a \
                 row; drop or rename the column: table=`{}` column=`{}`",
                self.table, hiding.name
            )));
        }
        let sql = format!(
            "ALTER TABLE {} RENAME COLUMN {} TO {}",
            self.name(),
            quote_identifier(&hiding.name),
            quote_identifier(&hiding.renamed)
        );
        session.execute(&sql).map_err(read_failed)?;
        Ok(found)
    }

    fn hiding_column(&self, session: &Session) -> duckdb::Result<Option<HidingColumn>> {
        let sql = format!(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = '{LAKE}' \
             AND schema_name = {} AND table_name = {}",
            quote(&self.table.schema),
            quote(&self.table.table)
        );
        let names = session.texts(&sql)?;
        let hiding = names.iter().find(|name| name.eq_ignore_ascii_case(FILE_NAME));
        Ok(hiding.map(|name| {
            let renamed = format!("_ducktide_{}", Uuid::new_v4().simple());
            HidingColumn { name: name.clone(), renamed }
        }))
    }

    /// Finds the files with rows that match the condition. Must be called inside a transaction, after
    /// [`Self::reveal_file_names`].
    pub(super) fn affected(&self, session: &Session, condition: &str) -> Result<Vec<AffectedFile>> {
        let removed = self.count_by_file(session, condition).map_err(read_failed)?;
        if removed.is_empty() {
            return Ok(Vec::new());
        }
        let sizes = self.file_sizes(session).map_err(read_failed)?;
        let rows = self.count_by_file(session, &in_files(removed.keys())).map_err(read_failed)?;
        let affected = |(path, removed): (String, u64)| {
            let bytes = self.check_file(&path, &sizes)?;
            let rows = rows.get(&path).copied().unwrap_or(removed);
            Ok(AffectedFile { path, removed, rows, bytes })
        };
        removed.into_iter().map(affected).collect()
    }

    fn count_by_file(
        &self,
        session: &Session,
        condition: &str,
    ) -> duckdb::Result<BTreeMap<String, u64>> {
        let sql = format!(
            "SELECT {FILE_NAME}, count(*)::VARCHAR FROM {} WHERE {condition} GROUP BY {FILE_NAME}",
            self.name()
        );
        Ok(session.rows(&sql)?.into_iter().filter_map(path_and_number).collect())
    }

    /// Returns the sizes of the table's files in bytes, by path.
    fn file_sizes(&self, session: &Session) -> duckdb::Result<BTreeMap<String, u64>> {
        let sql = format!(
            "SELECT data_file, data_file_size_bytes::VARCHAR \
             FROM ducklake_list_files('{LAKE}', {}, schema => {})",
            quote(&self.table.table),
            quote(&self.table.schema)
        );
        Ok(session.rows(&sql)?.into_iter().filter_map(path_and_number).collect())
    }

    /// Returns the size of a file. Refuses a name that is no file of the table in the catalog, and a file outside
    /// the data path.
    fn check_file(&self, path: &str, sizes: &BTreeMap<String, u64>) -> Result<u64> {
        let bytes = sizes.get(path).ok_or_else(|| {
            LakeError::invalid(format!(
                "rows that a replay removes are in no data file of the catalog; if they are inlined \
                 there, write them out with ducklake_flush_inlined_data: table=`{}` found=`{path}`",
                self.table
            ))
        })?;
        self.data_path.check(Path::new(path))?;
        Ok(*bytes)
    }

    /// Writes the retained rows of files of one directory to a new file next to them. With a column that hides
    /// the virtual one this is a transaction of its own.
    ///
    /// Rows whose Kafka columns are NULL belong to other clients, and stay.
    pub(super) fn write_retained(
        &self,
        session: &Session,
        files: &[AffectedFile],
        condition: &str,
        hiding: Option<&HidingColumn>,
    ) -> Result<StagedFile> {
        let first = Path::new(&files[0].path);
        let context = || {
            let (path, files) = (first.display(), files.len());
            format!("write the retained rows of files: first=`{path}` files=`{files}`")
        };
        let failed = |error| duckdb_error::failed(context(), error);
        let path = first.with_file_name(format!("ducktide-{}.parquet", Uuid::now_v7()));
        self.data_path.check(&path)?;
        let sources = in_files(files.iter().map(|file| &file.path));
        let copy = |columns: &str| {
            format!(
                "COPY (SELECT {columns} FROM {} WHERE {sources} AND ({condition}) IS NOT TRUE) \
                 TO {} (FORMAT parquet, COMPRESSION zstd)",
                self.name(),
                quote(&path.to_string_lossy())
            )
        };
        if hiding.is_some() {
            session.execute("BEGIN").map_err(failed)?;
            let written = self.reveal_file_names(session).and_then(|hiding| {
                let Some(HidingColumn { name, renamed }) = hiding else {
                    return Err(LakeError::unavailable(context()));
                };
                self.check_offsets(session, &sources)?;
                let (renamed, name) = (quote_identifier(&renamed), quote_identifier(&name));
                let columns = format!("* RENAME ({renamed} AS {name})");
                session.execute(&copy(&columns)).map_err(failed)
            });
            // The files stay; only the renamed column is rolled back.
            let _ = session.execute("ROLLBACK");
            written?;
        } else {
            session.execute(&copy("*")).map_err(failed)?;
        }
        let bytes = self.data_path.storage()?.size(&path);
        let bytes = bytes.map_err(|error| LakeError::of_io(context(), error))?;
        let rows = files.iter().map(|file| file.rows - file.removed).sum();
        // DuckLake reads the footer.
        let (table, footer) = (self.table.clone(), FileFooter::default());
        Ok(StagedFile { path, table, rows, bytes, footer })
    }

    /// Refuses files with rows that cannot be identified by their offsets.
    fn check_offsets(&self, session: &Session, sources: &str) -> Result<()> {
        let Self { topic, partition, offset, .. } = self;
        let sql = format!(
            "SELECT {FILE_NAME}, count(*)::VARCHAR FROM {} WHERE {sources} AND (\"{topic}\" IS NULL \
             OR \"{partition}\" IS NULL OR \"{offset}\" IS NULL) GROUP BY {FILE_NAME} ORDER BY 1 LIMIT 1",
            self.name()
        );
        let foreign = session.rows(&sql).map_err(read_failed)?;
        let Some((path, rows)) = foreign.into_iter().find_map(path_and_number) else {
            return Ok(());
        };
        Err(LakeError::invalid(format!(
            "a column named `{FILE_NAME}` hides the file of a row, and one of the files also has rows of other \
             clients, without offsets; rename the column with ALTER TABLE and repeat the replay, or fill \
             another table with --into: table=`{}` path=`{path}` rows=`{rows}`",
            self.table
        )))
    }

    /// Ends whole files, and returns their number of rows. All their rows are deleted, so no delete file
    /// is written.
    pub(super) fn end_files(
        &self,
        session: &Session,
        files: &[AffectedFile],
    ) -> duckdb::Result<u64> {
        let condition = in_files(files.iter().map(|file| &file.path));
        self.delete(session, &condition)
    }

    /// Ends whole files where a column hides the virtual one: their rows are those that match the
    /// condition, and those with the offsets of the retained rows. The caller compares the number of rows,
    /// and rolls back if it differs.
    pub(super) fn end_files_by_offsets(
        &self,
        session: &Session,
        condition: &str,
        retained: &[&StagedFile],
    ) -> duckdb::Result<u64> {
        let Self { topic, partition, offset, .. } = self;
        let mut rows = format!("({condition})");
        if !retained.is_empty() {
            let paths = retained.iter().map(|file| quote(&file.path.to_string_lossy()));
            let key = format!("\"{topic}\", \"{partition}\", \"{offset}\"");
            rows = format!(
                "{rows} OR ({key}) IN (SELECT ({key}) FROM read_parquet([{}], \
                 hive_partitioning => false))",
                paths.collect::<Vec<_>>().join(", ")
            );
        }
        self.delete(session, &rows)
    }

    fn delete(&self, session: &Session, condition: &str) -> duckdb::Result<u64> {
        let sql = format!("DELETE FROM {} WHERE {condition}", self.name());
        session.connection().execute(&sql, []).map(|rows| rows as u64)
    }

    /// Returns the number of rows in a range of offsets.
    pub(super) fn rows_in(
        &self,
        session: &Session,
        topic: &str,
        partition: Partition,
        range: OffsetRange,
    ) -> duckdb::Result<i64> {
        let within = self.within(topic, partition, range);
        number(session, &format!("SELECT count(*)::VARCHAR FROM {} WHERE {within}", self.name()))
    }

    /// Returns the number of dead letters of a range that have no resolution.
    pub(super) fn open_dead_letters_in(
        &self,
        session: &Session,
        topic: &str,
        partition: Partition,
        range: OffsetRange,
    ) -> duckdb::Result<i64> {
        let (name, within) = (self.name(), self.within(topic, partition, range));
        let sql = format!(
            "SELECT count(*)::VARCHAR FROM (SELECT 1 FROM {name} WHERE {within} \
             GROUP BY \"offset\" HAVING count(resolution) = 0)"
        );
        number(session, &sql)
    }

    fn within(&self, topic: &str, partition: Partition, range: OffsetRange) -> String {
        let Self { topic: topics, partition: partitions, offset, .. } = self;
        let OffsetRange { from, to } = range;
        format!(
            "\"{topics}\" = {} AND \"{partitions}\" = {partition} AND \"{offset}\" >= {from} \
             AND \"{offset}\" < {to}",
            quote(topic)
        )
    }
}

fn in_files<'a>(paths: impl Iterator<Item = &'a String>) -> String {
    let paths: Vec<_> = paths.map(|path| quote(path)).collect();
    format!("{FILE_NAME} IN ({})", paths.join(", "))
}

fn read_failed(error: duckdb::Error) -> LakeError {
    LakeError::unavailable("read the files of the rows").because(error)
}

fn path_and_number(row: Vec<Option<String>>) -> Option<(String, u64)> {
    let mut values = row.into_iter().flatten();
    Some((values.next()?, values.next()?.parse().ok()?))
}

fn number(session: &Session, sql: &str) -> duckdb::Result<i64> {
    let value = session.texts(sql)?.first().and_then(|number| number.parse().ok());
    Ok(value.expect("count(*) is a number"))
}
