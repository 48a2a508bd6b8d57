//! Harness of the conformance suite for DuckLake.

pub mod rows;

use ducktide_protocol::conformance::{Harness, staged};
use ducktide_protocol::position::{OffsetRange, Partition};
use ducktide_protocol::table::TableName;
use ducktide_protocol::{Lake, StagedFile, Table};

use crate::config::LakeConfig;
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
        let mut file = staged(table, range, 0);
        std::fs::create_dir_all(&table.directory).expect("the data path is writable");
        let duckdb = duckdb::Connection::open_in_memory().expect("DuckDB starts");
        let added = table.shape.columns.iter().skip(5);
        let added = added.map(|c| format!(", NULL::{} AS \"{}\"", c.column_type, c.name));
        let added = added.collect::<String>();
        duckdb
            .execute_batch(&format!(
                "COPY (SELECT o AS id, 'events' AS _kafka_topic, {partition}::INTEGER AS \
                 _kafka_partition, o AS _kafka_offset, TIMESTAMPTZ '2026-11-01 00:00:00+00' AS \
                 _kafka_timestamp{added} FROM range({}, {}) t(o)) TO '{}' (FORMAT parquet, COMPRESSION zstd)",
                range.from,
                range.to,
                file.path.display()
            ))
            .expect("DuckDB writes a Parquet file");
        file.bytes = file.path.metadata().expect("the file was written").len();
        file
    }

    fn count(&mut self, table: &TableName) -> u64 {
        let mut lake = self.duck_lake(Access::Read);
        let duckdb = lake.connection().expect("the lake opens");
        let sql = format!("SELECT count(*) FROM lake.{}", table.sql());
        duckdb.query_row(&sql, [], |row| row.get(0)).expect("the table can be read")
    }
}
