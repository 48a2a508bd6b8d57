//! Conformance check of the columns that are read from the catalog: names and types are those that DuckDB
//! reports.

use ducktide_protocol::table::{ColumnType, TableName};

use crate::config::LakeConfig;
use crate::duck_lake::columns;
use crate::session::LAKE;
use crate::sql_text::quote;
use crate::{Access, DuckLake};

/// Every type of a DuckLake column without fields.
const SCALARS: [&str; 25] = [
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL(18,3)",
    "TIME",
    "TIMETZ",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP_S",
    "TIMESTAMP_MS",
    "TIMESTAMP_NS",
    "TIMESTAMPTZ",
    "VARCHAR",
    "BLOB",
    "UUID",
];

/// Types with fields, and one with an alias.
const NESTED: [&str; 7] = [
    "JSON",
    "DECIMAL(38,0)[]",
    "BIGINT[][]",
    "MAP(VARCHAR, TIMESTAMPTZ)",
    "STRUCT(z BIGINT, \"a b\" VARCHAR, \"c\"\"d\" STRUCT(e DATE[]))",
    "MAP(VARCHAR, STRUCT(x UUID, y JSON)[])",
    "STRUCT(x BIGINT)[]",
];

/// Creates tables in a new lake, and compares their columns with those of DuckDB.
///
/// # Panics
/// If a column differs.
pub fn run(config: &LakeConfig) {
    DuckLake::init(config).expect("the lake is created");
    let mut lake = DuckLake::open(config, Access::Commit).expect("the lake opens");
    let types = SCALARS.iter().chain(&NESTED);
    let definitions = types.enumerate().map(|(n, of)| format!("\"Column {n}\" {of}"));
    let definitions = definitions.collect::<Vec<_>>().join(", ");
    execute(&mut lake, &format!("CREATE TABLE {LAKE}.main.types({definitions})"));
    let mut check = |statement: &str| {
        execute(&mut lake, statement);
        compare(&mut lake, &"types".parse().expect("a table name"));
    };
    check("SELECT 1");
    let last = SCALARS.len() + NESTED.len() - 1;
    check(&format!("ALTER TABLE lake.types ADD COLUMN \"Column {last}\".element.y STRUCT(z TIME)"));
    check(&format!(
        "ALTER TABLE lake.types ADD COLUMN \"Column {}\".added BLOB",
        SCALARS.len() + 4
    ));
    check("ALTER TABLE lake.types ADD COLUMN last VARCHAR DEFAULT 'x'");
    check("ALTER TABLE lake.types RENAME COLUMN \"Column 0\" TO renamed");
    check("ALTER TABLE lake.types DROP COLUMN \"Column 1\"");
    check("ALTER TABLE lake.types ALTER COLUMN \"Column 3\" TYPE BIGINT");
    check("CREATE SCHEMA lake.other; CREATE TABLE lake.other.types(id BIGINT)");
    compare(&mut lake, &"other.types".parse().expect("a table name"));
}

fn execute(lake: &mut DuckLake, sql: &str) {
    lake.session().expect("the lake opens").execute(sql).expect(sql);
}

/// Compares the columns of a table. Types that Ducktide writes are compared as parsed.
fn compare(lake: &mut DuckLake, table: &TableName) {
    let sql = format!(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = '{LAKE}' \
         AND schema_name = {} AND table_name = {} ORDER BY column_index",
        quote(&table.schema),
        quote(&table.table)
    );
    let rows = lake.session().expect("the lake opens").query(&sql).expect("the columns are read");
    let expected: Vec<(String, String)> = rows
        .iter()
        .map(|row| Ok((row.get("column_name")?, row.get("data_type")?)))
        .collect::<ducktide_protocol::error::Result<_>>()
        .expect("names and types");
    let catalog = lake.catalog().expect("the catalog opens");
    let found = columns::described(&catalog, table).expect("the columns are read");

    assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
    for ((name, of), (expected_name, expected_type)) in found.iter().zip(&expected) {
        assert_eq!(name, expected_name);
        match ColumnType::parse(expected_type) {
            Some(expected_type) => {
                assert_eq!(ColumnType::parse(of), Some(expected_type), "{name} {of}");
            }
            None => assert_eq!(of, expected_type, "{name}"),
        }
    }
}
