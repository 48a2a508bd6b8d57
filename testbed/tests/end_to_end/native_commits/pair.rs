//! Two lakes with the same tables and the same files: one is filled by `ducktide_commit_files`, the other
//! by `ducklake_add_data_files`.

use std::{fs, path::PathBuf};

use ducktide_lake::{
    DuckLake,
    conformance::{copy_option, described},
};
use ducktide_protocol::{
    StagedFile, Table,
    commit::{Commit, Counts, ProgressDelta},
    position::{Epoch, Offset, OffsetRange, Partition},
};
use ducktide_testbed::catalog::CatalogKind;
use uuid::Uuid;

use crate::hazards::case::{Case, is_committed};

/// A file of a commit: table, directory within that of the table, and the query of its rows.
pub(super) struct NewFile {
    pub(super) table: &'static str,
    pub(super) directory: &'static str,
    pub(super) rows: String,
}

impl NewFile {
    pub(super) fn new(table: &'static str, rows: impl Into<String>) -> Self {
        Self { table, directory: "", rows: rows.into() }
    }
}

/// Two lakes with catalogs of one kind.
pub(super) struct Pair {
    pub(super) native: Case,
    pub(super) ducklake: Case,
    next_offset: i64,
}

impl Pair {
    /// Creates two lakes with the tables of a script.
    pub(super) fn new(kind: CatalogKind, tables: &str) -> Self {
        let case = || {
            let mut case = Case::new(kind);
            case.sql(tables).unwrap();
            case
        };
        Self { native: case(), ducklake: case(), next_offset: 0 }
    }

    /// Commits the same files to both lakes.
    pub(super) fn commit(&mut self, files: &[NewFile]) {
        let (mut staged, mut versions, mut add) = (Vec::new(), Vec::new(), Vec::new());
        for file in files {
            let name = format!("ducktide-{}.parquet", Uuid::new_v4());
            let table = table(self.native.lake(), file.table);
            let found = write(self.native.lake(), &table, file, &name);
            let other = self.ducklake.table.directory.with_file_name(file.table);
            let other = other.join(file.directory).join(&name);
            fs::create_dir_all(other.parent().unwrap()).unwrap();
            fs::copy(&found.path, &other).unwrap();
            add.push(format!(
                "CALL ducklake_add_data_files('lake', '{}', '{}', hive_partitioning => {});",
                file.table,
                other.display(),
                !file.directory.is_empty()
            ));
            if !versions.contains(&table.version) {
                versions.push(table.version.clone());
            }
            staged.push(found);
        }
        let rows: i64 = staged.iter().map(|file| i64::try_from(file.rows).unwrap()).sum();
        let from = self.next_offset;
        self.next_offset += rows;
        let delta = ProgressDelta {
            source: self.native.source.id,
            partition: Partition(1),
            epoch: Epoch(0),
            range: OffsetRange { from: Offset(from), to: Offset(from + rows) },
            counts: Counts { rows, ..Counts::default() },
        };
        let commit = Commit::ingest(vec![delta], staged, versions);
        assert!(is_committed(self.native.send(&commit)));
        let message = commit.message().to_json();
        self.ducklake
            .sql(&format!(
                "BEGIN; {} CALL lake.set_commit_message('ducktide-consumer', 'ingest', \
                 extra_info => '{message}'); COMMIT",
                add.concat()
            ))
            .unwrap();
    }

    /// Runs the same statements on both lakes.
    pub(super) fn sql(&mut self, statements: &str) {
        for case in [&mut self.native, &mut self.ducklake] {
            case.sql(statements).unwrap();
        }
    }

    /// Checks that a query of the rows has the same result in both lakes. Returns it.
    pub(super) fn assert_same(&mut self, query: &str) -> String {
        let [native, ducklake] =
            [&mut self.native, &mut self.ducklake].map(|case| result(case, query));
        assert_eq!(native, ducklake, "{query}");
        native
    }

    /// Checks that a query of the catalog has the same result in both lakes.
    pub(super) fn assert_same_catalog(&mut self, query: &str) {
        let [native, ducklake] =
            [&mut self.native, &mut self.ducklake].map(|case| catalog_rows(case, query));
        assert_eq!(native, ducklake, "{query}");
    }
}

/// Returns the rows of a query of the catalog, in its own SQL, as JSON, one a line.
pub(super) fn catalog_rows(case: &mut Case, query: &str) -> String {
    let query = case.lake().session().unwrap().native_query(query);
    case.sql("BEGIN").unwrap();
    let rows = result(case, &query);
    case.sql("COMMIT").unwrap();
    rows
}

/// Returns the rows of a DuckDB query as JSON, one a line.
pub(super) fn result(case: &mut Case, query: &str) -> String {
    let connection = case.lake().connection().unwrap();
    let rows = format!("SELECT string_agg(to_json(r)::VARCHAR, chr(10)) FROM ({query}) r");
    let found: Option<String> = connection.query_row(&rows, [], |row| row.get(0)).unwrap();
    found.unwrap_or_default()
}

pub(super) fn table(lake: &mut DuckLake, name: &str) -> Table {
    lake.find_table(&name.parse().unwrap()).unwrap().unwrap()
}

/// Writes a file with DuckDB, with the field IDs of the table.
pub(super) fn write(lake: &mut DuckLake, table: &Table, file: &NewFile, name: &str) -> StagedFile {
    let directory = table.directory.join(file.directory);
    fs::create_dir_all(&directory).unwrap();
    let path: PathBuf = directory.join(name);
    lake.connection()
        .unwrap()
        .execute_batch(&format!(
            "COPY ({}) TO '{}' (FORMAT parquet, FIELD_IDS {})",
            file.rows,
            path.display(),
            copy_option(&table.field_ids)
        ))
        .unwrap();
    described(path, &table.version.table).unwrap()
}
