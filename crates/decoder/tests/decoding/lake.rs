//! Round trip of records of any schema through files and commits into a lake, read back by DuckDB.

use std::env;

use apache_avro::types::Value;
use arrow_array::RecordBatch;
use ducktide_consumer::staging::{ColumnHints, EncoderBudget, StagingWriter};
use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::commit::{Commit, CommitOutcome, Counts, ProgressDelta};
use ducktide_protocol::position::{Epoch, Offset, OffsetRange, Partition};
use ducktide_protocol::table::{AvroType, TableName, UnionAs};
use ducktide_protocol::{Lake as _, SourceSpec, StagedColumn, StagedFile, Table};
use proptest::prelude::any;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tempfile::TempDir;

use super::{
    Fixture,
    generator::record_and_value,
    oracle::{actual_column, expected},
};

/// Number of cases, each with a table, a commit and a query; `PROPTEST_CASES` overrides it.
const CASES: u32 = 48;

/// A lake with a table for each case.
pub(super) struct TestLake {
    pub(super) lake: DuckLake,
    made: u32,
    _folder: TempDir,
}

impl TestLake {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = LakeConfig::at(CatalogLocation::Sqlite(folder.path().join("lake.sqlite")));
        DuckLake::init(&config).unwrap();
        let mut lake = DuckLake::open(&config, Access::Commit).unwrap();
        // UUIDs are read as bytes, like the decoder writes them.
        let lossless = "SET arrow_lossless_conversion = true; SET TimeZone = 'UTC'";
        lake.connection().unwrap().execute_batch(lossless).unwrap();
        Self { lake, made: 0, _folder: folder }
    }

    /// Creates a table for the schema and commits the rows to it.
    pub(super) fn fill(&mut self, fixture: &mut Fixture) -> TableName {
        self.made += 1;
        let name: TableName = format!("t{}", self.made).parse().unwrap();
        let table = self.lake.ensure_table(&name, fixture.decoder.table()).unwrap();
        let spec = SourceSpec::without_ids(name.clone(), "events", "test");
        let source = self.lake.register_source(&spec, &[(Partition(0), Offset(0))]).unwrap();
        let rows = i64::try_from(fixture.rows.rows()).unwrap();
        let files = stage(&table, fixture);
        let delta = ProgressDelta {
            source: source.id,
            partition: Partition(0),
            epoch: Epoch(0),
            range: OffsetRange { from: Offset(0), to: Offset(rows) },
            counts: Counts { rows, ..Counts::default() },
        };
        let commit = Commit::ingest(vec![delta], files, vec![table.version]);
        let outcome = self.lake.commit(&commit).unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed(Some(_))), "{outcome:?}");
        commit.files().iter().for_each(|file| self.assert_footer(file));
        name
    }

    /// Checks that the writer's statistics of a file are those that DuckLake has read from it.
    fn assert_footer(&mut self, file: &StagedFile) {
        let name = file.path.file_name().unwrap().to_string_lossy();
        let connection = self.lake.connection().unwrap();
        let sql = format!(
            "SELECT s.column_id, s.column_size_bytes, s.value_count, s.null_count, s.min_value, \
             s.max_value, f.footer_size FROM __ducklake_metadata_lake.ducklake_data_file f \
             JOIN __ducklake_metadata_lake.ducklake_file_column_stats s USING (data_file_id) \
             WHERE f.path = '{name}' ORDER BY s.column_id"
        );
        let mut statement = connection.prepare(&sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut found = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let column = StagedColumn {
                id: row.get(0).unwrap(),
                bytes: row.get(1).unwrap(),
                values: row.get(2).unwrap(),
                nulls: row.get(3).unwrap(),
                min: row.get(4).unwrap(),
                max: row.get(5).unwrap(),
                contains_nan: None,
            };
            assert_eq!(row.get::<_, u64>(6).unwrap(), file.footer.bytes);
            found.push(column);
        }
        let mut columns = file.footer.columns.clone();
        columns.sort_by_key(|column| column.id);
        // DuckLake does not know it of a file that it has not written.
        for column in &mut columns {
            column.contains_nan = None;
        }
        assert_eq!(columns, found);
    }

    fn read(&mut self, table: &TableName) -> Vec<RecordBatch> {
        let sql = format!("SELECT * FROM lake.{} ORDER BY _kafka_offset", table.sql());
        let connection = self.lake.connection().unwrap();
        connection.prepare(&sql).unwrap().query_arrow([]).unwrap().collect()
    }
}

fn stage(table: &Table, fixture: &mut Fixture) -> Vec<StagedFile> {
    let batch = fixture.rows.finish_batch().unwrap();
    let hints =
        ColumnHints { enums: fixture.decoder.enum_columns().to_vec(), ..Default::default() };
    let encoders = EncoderBudget::of_command();
    let mut writer = StagingWriter::of_table(table, batch.schema(), &hints, &encoders).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap()
}

#[test]
fn duckdb_reads_back_what_apache_avro_decodes() {
    let cases = env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = cases.unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut tables = TestLake::new();
    let tables = std::cell::RefCell::new(&mut tables);

    let checked = TestRunner::new(config).run(
        &(record_and_value(), any::<bool>()),
        |((schema, values), as_struct)| {
            let union_as = if as_struct { UnionAs::Struct } else { UnionAs::Json };
            check(*tables.borrow_mut(), &schema, union_as, &values)
        },
    );

    checked.unwrap();
}

fn check(
    tables: &mut TestLake,
    schema: &str,
    union_as: UnionAs,
    values: &[Value],
) -> Result<(), TestCaseError> {
    if values.is_empty() {
        return Ok(());
    }
    let mut fixture = Fixture::with(schema, union_as);
    let AvroType::Record(fields) = AvroType::resolve(&fixture.ours, union_as).unwrap() else {
        panic!("the schema is a record")
    };
    for value in values {
        fixture.push(&fixture.encode(value.clone()));
    }
    let name = tables.fill(&mut fixture);
    let batches = tables.read(&name);

    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    let rows: Vec<_> = rows.collect();
    proptest::prop_assert_eq!(rows.len(), values.len());
    for ((batch, row), value) in rows.into_iter().zip(values) {
        let Value::Record(values) = value else { panic!("the value is a record") };
        for ((field, (name, value)), column) in fields.iter().zip(values).zip(batch.columns()) {
            let expected = expected(&field.avro_type, value);
            let actual = actual_column(&field.avro_type, column, row);
            proptest::prop_assert_eq!(actual, expected, "{}", name);
        }
    }
    Ok(())
}
