//! Harness of the conformance suite for DuckLake.

pub mod columns;
pub mod rows;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use ducktide_protocol::conformance::{Harness, staged};
use ducktide_protocol::position::{OffsetRange, Partition};
use ducktide_protocol::table::{TableName, quote_identifier};
use ducktide_protocol::{FieldIds, FileFooter, Lake, StagedFile, Table};
use parquet::errors::Result;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use crate::config::LakeConfig;
use crate::parquet_footer::file_footer;
use crate::sql_text::quote;
use crate::{Access, DuckLake};

/// Harness for a DuckLake. DuckDB writes its files.
#[derive(Debug)]
pub struct DuckLakeHarness {
    config: LakeConfig,
}

impl DuckLakeHarness {
    /// Creates the lake.
    ///
    /// # Panics
    /// If the lake cannot be created.
    #[must_use]
    pub fn new(config: LakeConfig) -> Self {
        DuckLake::init(&config).expect("the lake is created");
        Self { config }
    }

    fn duck_lake(&self, access: Access) -> DuckLake {
        DuckLake::open(&self.config, access).expect("the lake opens")
    }
}

impl Harness for DuckLakeHarness {
    fn open(&mut self) -> Box<dyn Lake> {
        Box::new(self.duck_lake(Access::Commit))
    }

    fn stage(&mut self, table: &Table, partition: Partition, range: OffsetRange) -> StagedFile {
        let file = staged(table, range, 0);
        std::fs::create_dir_all(&table.directory).expect("the data path is writable");
        let duckdb = duckdb::Connection::open_in_memory().expect("DuckDB starts");
        let added = table.shape.columns.iter().skip(5);
        let added =
            added.map(|c| format!(", NULL::{} AS {}", c.column_type, quote_identifier(&c.name)));
        let added = added.collect::<String>();
        let ids = copy_option(&table.field_ids);
        duckdb
            .execute_batch(&format!(
                "COPY (SELECT o AS id, 'events' AS _kafka_topic, {partition}::INTEGER AS \
                 _kafka_partition, o AS _kafka_offset, TIMESTAMPTZ '2026-11-01 00:00:00+00' AS \
                 _kafka_timestamp{added} FROM range({}, {}) t(o)) TO '{}' (FORMAT parquet, COMPRESSION zstd, FIELD_IDS {ids})",
                range.from,
                range.to,
                file.path.display()
            ))
            .expect("DuckDB writes a Parquet file");
        described(file.path, &file.table).expect("the file has a footer")
    }

    fn count(&mut self, table: &TableName) -> u64 {
        let mut lake = self.duck_lake(Access::Read);
        let duckdb = lake.connection().expect("the lake opens");
        let sql = format!("SELECT count(*) FROM lake.{}", table.sql());
        duckdb.query_row(&sql, [], |row| row.get(0)).expect("the table can be read")
    }
}

/// Returns the value of COPY's option `FIELD_IDS`.
#[must_use]
pub fn copy_option(ids: &FieldIds) -> String {
    let fields = ids.columns().map(|(name, field)| {
        let (name, id) = (quote(name), field.id);
        let within = copy_option(&field.fields);
        match within.strip_prefix('{') {
            Some("}") | None => format!("{name}: {id}"),
            Some(within) => format!("{name}: {{__duckdb_field_id: {id}, {within}"),
        }
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// Describes a file that DuckDB has written for a table, as a worker describes its own. The file can have
/// Bloom filters before its footer.
pub fn described(path: PathBuf, table: &TableName) -> Result<StagedFile> {
    let file = File::open(&path)?;
    let bytes = file.metadata()?.len();
    let mut length = [0; 4];
    file.read_exact_at(&mut length, bytes - 8)?;
    let reader = SerializedFileReader::new(file)?;
    let footer = file_footer(reader.metadata(), bytes);
    let footer = FileFooter { bytes: u32::from_le_bytes(length).into(), ..footer };
    let rows = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
    Ok(StagedFile { path, table: table.clone(), rows, bytes, footer })
}
