//! Catalogs with missing triggers, a held commit lock, or a frozen writer.

use std::time::{Duration, Instant};

use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::ErrorKind;
use ducktide_testbed::{
    catalog::CatalogKind,
    faults::{HeldCatalog, HeldCommitLock},
};

use super::{
    case::{Case, assert_exact, is_committed},
    on_both_lakes,
};

on_both_lakes!(
    a_missing_trigger_stops_the_worker,
    a_trigger_on_another_table_stops_the_worker,
    a_trigger_without_effect_stops_the_worker,
    init_restores_a_missing_trigger,
    init_of_an_existing_lake_writes_nothing,
    without_triggers_a_zombie_writes_duplicates,
    without_the_once_trigger_a_file_can_be_registered_twice,
    without_the_mailbox_trigger_progress_does_not_move,
    a_lake_that_needs_newer_programs_is_rejected,
    a_frozen_holder_of_the_commit_lock_only_delays_others,
    a_client_frozen_in_its_commit_only_delays_others,
);

const TRIGGERS: [(&str, &str); 4] = [
    ("ducktide_once", "ducklake_data_file"),
    ("ducktide_snapshot", "ducklake_snapshot_changes"),
    ("ducktide_unpack", "ducktide_commit"),
    ("ducktide_advance", "ducktide_ledger"),
];

fn drop_trigger(case: &mut Case, kind: CatalogKind, trigger: &str) {
    let (_, table) = TRIGGERS.iter().find(|(name, _)| *name == trigger).unwrap();
    let on = if kind == CatalogKind::Postgres { format!(" ON {table}") } else { String::new() };
    case.edit_catalog(&format!("DROP TRIGGER {trigger}{on}"));
}

fn a_missing_trigger_stops_the_worker(kind: CatalogKind) {
    for (trigger, _) in TRIGGERS {
        let mut case = Case::new(kind);
        let (with_rows, without) = (case.rows(0, 100, 110), case.idle(1, 0, 10));
        drop_trigger(&mut case, kind, trigger);

        for commit in [with_rows, without] {
            let error = case.try_send(&commit).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{trigger}: {error}");
            assert!(error.to_string().contains("triggers are missing"), "{trigger}: {error}");
        }

        assert_eq!((case.count(), case.position(0), case.position(1)), (0, (0, 100), (0, 0)));
    }
}

fn a_trigger_on_another_table_stops_the_worker(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 110);
    drop_trigger(&mut case, kind, "ducktide_advance");
    case.edit_catalog(match kind {
        CatalogKind::Sqlite => {
            "CREATE TRIGGER ducktide_advance BEFORE INSERT ON ducktide_pin BEGIN SELECT 1; END"
        }
        CatalogKind::Postgres => {
            "CREATE TRIGGER ducktide_advance BEFORE INSERT ON ducktide_pin \
             FOR EACH ROW EXECUTE FUNCTION ducktide_advance()"
        }
    });

    let error = case.try_send(&commit).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("triggers are missing"), "{error}");
    assert_eq!((case.count(), case.position(0)), (0, (0, 100)));
}

/// A trigger with this name exists on its table, so only the check of the progress after COMMIT detects it.
fn a_trigger_without_effect_stops_the_worker(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 110);
    case.edit_catalog(match kind {
        CatalogKind::Sqlite => {
            "DROP TRIGGER ducktide_advance; \
             CREATE TRIGGER ducktide_advance BEFORE INSERT ON ducktide_ledger BEGIN SELECT 1; END"
        }
        CatalogKind::Postgres => {
            "CREATE OR REPLACE FUNCTION ducktide_advance() RETURNS trigger LANGUAGE plpgsql \
             AS 'BEGIN RETURN NEW; END'"
        }
    });

    let error = case.try_send(&commit).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("progress did not move"), "{error}");
    assert_eq!(case.position(0), (0, 100));
}

fn init_restores_a_missing_trigger(kind: CatalogKind) {
    let mut case = Case::new(kind);
    for (index, (trigger, table)) in (0..).zip(TRIGGERS) {
        let commit = case.rows(0, 100 + index, 101 + index);
        if kind == CatalogKind::Postgres && index % 2 == 1 {
            case.edit_catalog(&format!("ALTER TABLE {table} DISABLE TRIGGER {trigger}"));
        } else {
            drop_trigger(&mut case, kind, trigger);
        }
        case.try_send(&commit).unwrap_err();

        let setup = case.init();

        assert!(setup.triggers_are_restored, "{trigger}");
        assert!(is_committed(case.send(&commit)), "{trigger}");
    }
    assert!(!case.init().triggers_are_restored);
    assert_eq!(case.count(), 4);
    assert_exact(&case);
}

/// `docker compose up` runs `ducktide init` alongside running workers.
fn init_of_an_existing_lake_writes_nothing(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let held = HeldCatalog::hold(&case.address).unwrap();

    let setup = case.init();

    assert!(!setup.lake_is_new && !setup.tables_are_new && !setup.triggers_are_restored);
    held.release();
}

/// Shows that the triggers fence a zombie, and not another mechanism.
fn without_triggers_a_zombie_writes_duplicates(kind: CatalogKind) {
    let zombie_after = |without_triggers: bool| {
        let mut case = Case::new(kind);
        let (first, zombie) = (case.rows(0, 100, 150), case.rows(0, 100, 150));
        if without_triggers {
            for (trigger, _) in TRIGGERS {
                drop_trigger(&mut case, kind, trigger);
            }
        }
        case.register(&first, &first.message().to_json()).unwrap();
        let late = case.register(&zombie, &zombie.message().to_json());
        (late.is_ok(), case.count())
    };
    assert_eq!(zombie_after(false), (false, 50));
    assert_eq!(zombie_after(true), (true, 100));
}

fn without_the_once_trigger_a_file_can_be_registered_twice(kind: CatalogKind) {
    let twice_after = |without_trigger: bool| {
        let mut case = Case::new(kind);
        let commit = case.rows(0, 100, 150);
        if without_trigger {
            drop_trigger(&mut case, kind, "ducktide_once");
        }
        let message = commit.message().to_json();
        case.register(&commit, &message).unwrap();
        let next = message.replace(r#""from":100,"to":150"#, r#""from":150,"to":200"#);
        let again = case.register(&commit, &next);
        (again.is_ok(), case.count())
    };
    assert_eq!(twice_after(false), (false, 50));
    assert_eq!(twice_after(true), (true, 100));
}

fn without_the_mailbox_trigger_progress_does_not_move(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let message = case.idle(0, 100, 130).message().to_json();
    drop_trigger(&mut case, kind, "ducktide_unpack");

    case.post(&message).unwrap();

    assert_eq!(case.position(0), (0, 100));
}

fn a_lake_that_needs_newer_programs_is_rejected(kind: CatalogKind) {
    let mut case = Case::new(kind);
    // Additive changes do not change the oldest compatible layout.
    case.edit_catalog("UPDATE ducktide_meta SET value = '99' WHERE key = 'layout_version'");
    assert!(is_committed(case.send(&case.idle(0, 100, 130))));

    for key in ["oldest_compatible_layout", "oldest_compatible_triggers"] {
        case.edit_catalog(&format!("UPDATE ducktide_meta SET value = '99' WHERE key = '{key}'"));
        let refused = DuckLake::open(&case.config, Access::Commit).err().unwrap();
        assert!(refused.to_string().contains("newer Ducktide"), "{refused}");
        case.edit_catalog(&format!("UPDATE ducktide_meta SET value = '1' WHERE key = '{key}'"));
    }
}

fn a_frozen_holder_of_the_commit_lock_only_delays_others(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 150);
    let _frozen = HeldCommitLock::take(&case.address).unwrap();

    let started = Instant::now();
    assert!(is_committed(case.send(&commit)));

    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(4), "the lock was held: {waited:?}");
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    assert_eq!((case.count(), case.position(0)), (50, (0, 150)));
}

/// The frozen client holds a lock that every commit needs: the next snapshot ID, or in SQLite the
/// write lock.
fn a_client_frozen_in_its_commit_only_delays_others(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 150);
    let frozen = HeldCatalog::hold(&case.address).unwrap();

    let started = Instant::now();
    let error = case.try_send(&commit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    assert_eq!(case.position(0), (0, 100), "reads continue");

    frozen.release();
    assert!(is_committed(case.send(&commit)), "the same files are sent again");
    assert_eq!((case.count(), case.position(0)), (50, (0, 150)));
}
