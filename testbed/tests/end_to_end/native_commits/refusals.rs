//! Lakes, callers and messages that `ducktide_commit_files` refuses, and what an operator sees.

use ducktide_lake::{Access, DuckLake, config::LakeConfig};
use ducktide_protocol::{
    ErrorKind, FileFooter, Lake as _, LakeFault, StagedFile,
    commit::{Commit, CommitOutcome},
};
use ducktide_testbed::{catalog::CatalogKind, on_both_catalogs};
use uuid::Uuid;

use crate::hazards::case::{Case, is_committed};

on_both_catalogs!(
    a_catalog_with_unknown_columns_is_refused_by_name,
    an_older_layout_is_refused_until_init_upgrades_it,
    a_missing_or_changed_way_to_commit_is_restored_by_init,
    a_file_without_field_ids_is_refused,
    a_trigger_that_does_nothing_is_noticed_before_the_commit,
);

/// Returns the statements that remove what commits.
const fn without_a_way_to_commit(kind: CatalogKind) -> &'static str {
    match kind {
        CatalogKind::Postgres => "DROP FUNCTION ducktide_commit_files(jsonb)",
        CatalogKind::Sqlite => {
            "DROP TABLE ducktide_commit_files; DROP VIEW ducktide_newest_file; \
             DROP VIEW ducktide_unknown_column"
        }
    }
}

fn a_catalog_with_unknown_columns_is_refused_by_name(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 110);
    case.edit_catalog("ALTER TABLE ducklake_data_file ADD COLUMN compression_level BIGINT");

    let error = case.try_send(&commit).unwrap_err();

    let columns = "ducklake_data_file.compression_level".to_owned();
    assert_eq!(error.fault(), Some(&LakeFault::UnknownCatalogColumns { columns }));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!((case.count(), case.position(0)), (0, (0, 100)));
    case.edit_catalog("ALTER TABLE ducklake_data_file DROP COLUMN compression_level");
    assert!(is_committed(case.send(&commit)));
}

fn an_older_layout_is_refused_until_init_upgrades_it(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 110);
    // As an older program has created it.
    case.edit_catalog(&format!(
        "{}; UPDATE ducktide_meta SET value = '1' WHERE key = 'layout_version'",
        without_a_way_to_commit(kind)
    ));

    let error = DuckLake::open(&case.config, Access::Commit).err().unwrap();
    assert_eq!(error.fault(), Some(&LakeFault::OlderLayout { found: 1, needed: 2 }));
    assert!(error.to_string().contains("ducktide init"), "{error}");
    DuckLake::open(&case.config, Access::Read).unwrap();
    DuckLake::open(&case.config, Access::Operate).unwrap();
    assert!(case.init().layout_is_raised);

    assert!(is_committed(case.send(&commit)));
    assert!(!case.init().layout_is_raised);
}

fn a_missing_or_changed_way_to_commit_is_restored_by_init(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 110);
    let without_trigger = "DROP TRIGGER ducktide_commit_files";
    let (damages, changed) = match kind {
        CatalogKind::Postgres => (
            vec![without_a_way_to_commit(kind)],
            "CREATE OR REPLACE FUNCTION ducktide_commit_files(message jsonb) RETURNS jsonb \
             LANGUAGE sql SECURITY DEFINER AS $$ SELECT '{}'::jsonb $$",
        ),
        CatalogKind::Sqlite => (
            vec![without_a_way_to_commit(kind), without_trigger],
            "DROP TRIGGER ducktide_commit_files; CREATE TRIGGER ducktide_commit_files \
             BEFORE INSERT ON ducktide_commit_files BEGIN SELECT raise(IGNORE); END",
        ),
    };
    for damage in damages {
        case.edit_catalog(damage);
        let error = case.try_send(&commit).unwrap_err();
        assert!(matches!(error.fault(), Some(LakeFault::OlderLayout { .. })), "{error}");
        assert!(case.init().layout_is_raised);
    }
    assert!(is_committed(case.send(&commit)));

    case.edit_catalog(changed);
    assert!(case.init().layout_is_raised);
    let next = case.rows(0, 110, 120);
    assert!(is_committed(case.send(&next)));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_worker_needs_no_permission_to_write_to_tables() {
    let mut case = Case::new(CatalogKind::Postgres);
    let [worker, reader] =
        ["worker", "reader"].map(|name| format!("{name}_{}", Uuid::new_v4().simple()));
    case.edit_catalog(&format!(
        "CREATE ROLE {worker} LOGIN; CREATE ROLE {reader} LOGIN; \
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {worker}, {reader}; \
         GRANT EXECUTE ON FUNCTION ducktide_commit_files(jsonb) TO {worker}"
    ));
    let open = |role: &str| {
        let url = case.address.replace("postgres@", &format!("{role}@"));
        let config = LakeConfig { catalog: url.parse().unwrap(), ..case.config.clone() };
        DuckLake::open(&config, Access::Commit).unwrap()
    };
    let (mut worker, mut reader) = (open(&worker), open(&reader));
    let commit = case.rows(0, 100, 110);

    let error = reader.commit(&commit).unwrap_err();
    assert!(error.chain().contains("permission denied for function"), "{}", error.chain());
    assert_eq!(case.count(), 0);
    assert!(is_committed(worker.commit(&commit).unwrap()));
    assert!(is_committed(worker.commit(&case.idle(0, 110, 120)).unwrap()));
    assert_eq!((case.count(), case.position(0)), (10, (0, 120)));
}

fn a_file_without_field_ids_is_refused(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 110);
    let file = StagedFile { footer: FileFooter::default(), ..commit.files()[0].clone() };
    let versions = commit.table_versions().to_vec();
    let unnamed = Commit::ingest(commit.progress().to_vec(), vec![file], versions);

    let error = case.try_send(&unnamed).unwrap_err();

    let text = error.chain();
    assert!(text.contains("a file does not have the columns of"), "{text}");
    assert_eq!((case.count(), case.position(0)), (0, (0, 100)));
}

fn a_trigger_that_does_nothing_is_noticed_before_the_commit(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 110);
    case.edit_catalog(match kind {
        CatalogKind::Postgres => {
            "CREATE OR REPLACE FUNCTION ducktide_advance() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RETURN NEW; END $$"
        }
        CatalogKind::Sqlite => {
            "DROP TRIGGER ducktide_advance; CREATE TRIGGER ducktide_advance \
             BEFORE INSERT ON ducktide_ledger BEGIN SELECT 1; END"
        }
    });

    let error = case.try_send(&commit).unwrap_err();

    assert!(error.to_string().contains("progress did not move"), "{error}");
    assert_eq!((case.count(), case.position(0)), (0, (0, 100)), "the rows are rolled back");
}

/// The server's default must not make the function read an old snapshot.
#[test]
#[ignore = "needs PostgreSQL"]
fn the_isolation_level_of_the_database_is_not_used() {
    let mut case = Case::new(CatalogKind::Postgres);
    let database = case.address.rsplit('/').next().unwrap().to_owned();
    case.edit_catalog(&format!(
        "ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'"
    ));
    let commit = case.rows(0, 100, 110);
    assert_eq!(case.send(&commit), case.send(&commit), "applied, and recognized as applied");
    assert!(matches!(case.send(&case.idle(0, 100, 130)), CommitOutcome::Fenced));
    assert_eq!((case.count(), case.position(0)), (10, (0, 110)));
}
