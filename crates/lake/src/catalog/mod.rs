//! Ducktide's tables in the catalog database: sources, progress, the mailbox, and their triggers.
//!
//! | table | one row per | written by |
//! |---|---|---|
//! | `ducktide_meta` | setting, kind of maintenance, last verification, group of a source | installation, maintenance, operators, workers |
//! | `ducktide_source` | table × topic | workers, at registration |
//! | `ducktide_progress` | source × partition | triggers only |
//! | `ducktide_ledger` | committed range | triggers; maintenance coalesces old ones |
//! | `ducktide_commit` | no rows remain | workers: progress without rows |
//! | `ducktide_intent` | announced replay | replays |
//! | `ducktide_pin` | snapshot to keep | operators |
//!
//! Names and columns must stay stable; `layout_version` is the version of a lake's layout.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) mod format;
pub mod intent;
pub mod ledger;
pub mod lock;
pub mod meta;
pub(crate) mod partitioning;
pub mod pin;
pub(crate) mod postgres;
pub mod shape_break;
pub(crate) mod sqlite;
pub(crate) mod vacant_name;

use self::ledger::{LedgerQuery, LedgerRow};
use self::lock::LockFile;
use crate::config::{CatalogLocation, LakeConfig};
use crate::rows::{MetaRow, ProgressRow, SourceRow};
use crate::session::{Session, quote};
use ducktide_protocol::commit::{CommitMessage, ProgressDelta};
use ducktide_protocol::error::{ErrorKind, LakeError, LakeFault, Result};
use ducktide_protocol::position::{Offset, Partition, Position, SnapshotId, SourceId};
use ducktide_protocol::{Source, SourceSpec};
use jiff::Timestamp;

/// Layout of Ducktide's tables that this program writes, and the oldest layout whose programs may
/// still use a lake of this layout. Additive changes raise the first number only.
pub(crate) const LAYOUT_VERSION: u32 = 1;
const OLDEST_COMPATIBLE_LAYOUT: u32 = 1;
/// The same pair for the triggers.
pub(crate) const TRIGGER_VERSION: u32 = 1;
const OLDEST_COMPATIBLE_TRIGGERS: u32 = 1;

/// Longest wait for another installation. Creating a lake takes one to two seconds.
const INSTALLATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The triggers, without which nothing may be written (invariant I7).
pub(crate) const TRIGGERS: [&str; 4] =
    ["ducktide_once", "ducktide_snapshot", "ducktide_unpack", "ducktide_advance"];

/// The tables that the triggers belong to, in the order of [`TRIGGERS`].
const TRIGGER_TABLES: [&str; 4] =
    ["ducklake_data_file", "ducklake_snapshot_changes", "ducktide_commit", "ducktide_ledger"];

/// Returns the triggers and their tables as rows for VALUES: a trigger on another table does not count.
fn triggers_with_tables() -> String {
    let pairs = TRIGGERS.iter().zip(TRIGGER_TABLES);
    let rows: Vec<_> = pairs.map(|(name, table)| format!("('{name}', '{table}')")).collect();
    rows.join(", ")
}

/// Result of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installed {
    /// The tables and triggers were missing.
    Created,
    /// The tables were there; triggers were missing, disabled or on another table.
    TriggersRestored,
    Nothing,
}

/// Returns an error if the triggers of a newer program would be replaced.
fn check_trigger_version(found: Option<&str>) -> Result<()> {
    let found: u32 = found.and_then(|version| version.parse().ok()).unwrap_or(0);
    if found <= TRIGGER_VERSION {
        return Ok(());
    }
    Err(LakeError::invalid(format!(
        "the lake's triggers are missing, and a newer Ducktide has made them; run its `ducktide init`: \
         trigger_version=`{found}` program=`{TRIGGER_VERSION}`"
    )))
}

/// Exclusive right to create a lake, held by one program at a time.
pub(crate) enum Installation {
    Sqlite { path: PathBuf, _lock: LockFile },
    Postgres(Box<postgres::Installer>),
}

impl Installation {
    /// Waits for the installation lock.
    pub(crate) fn begin(config: &LakeConfig) -> Result<Self> {
        match &config.catalog {
            CatalogLocation::Postgres(settings) => {
                postgres::Installer::lock(settings, &config.metadata_schema)
                    .map(|installer| Self::Postgres(Box::new(installer)))
            }
            CatalogLocation::Sqlite(path) => {
                let mut lock = LockFile::beside(path, "init");
                if lock.lock(INSTALLATION_TIMEOUT)? {
                    return Ok(Self::Sqlite { path: path.clone(), _lock: lock });
                }
                Err(LakeError::unavailable(format!(
                    "another program is making the lake: catalog=`{}`",
                    config.catalog
                )))
            }
        }
    }

    /// Creates Ducktide's tables and triggers in a DuckLake catalog unless they exist, and restores
    /// missing triggers. No DuckDB of this process may have the catalog attached meanwhile.
    ///
    /// The facts become rows of `ducktide_meta`.
    pub(crate) fn install(&mut self, facts: &[(&str, String)]) -> Result<Installed> {
        match self {
            Self::Sqlite { path, .. } => sqlite::install(path, facts),
            Self::Postgres(installer) => installer.install(facts),
        }
    }
}

/// Returns the rows of `ducktide_meta` that an installation writes, in SQL.
fn meta_rows(facts: &[(&str, String)]) -> String {
    let facts = facts.iter().map(|(key, value)| format!(", ({}, {})", quote(key), quote(value)));
    format!(
        "('layout_version', '{LAYOUT_VERSION}'), \
         ('oldest_compatible_layout', '{OLDEST_COMPATIBLE_LAYOUT}'), \
         ('trigger_version', '{TRIGGER_VERSION}'), \
         ('oldest_compatible_triggers', '{OLDEST_COMPATIBLE_TRIGGERS}'){}",
        facts.collect::<String>()
    )
}

/// Returns true if the catalog has Ducktide's tables.
pub(crate) fn is_installed(session: &Session) -> Result<bool> {
    let found: Vec<String> = session.catalog_values(&session.tables_like_sql("ducktide_meta"))?;
    Ok(!found.is_empty())
}

/// Returns an error for a lake whose layout this program does not support.
pub(crate) fn check_layout(session: &Session) -> Result<()> {
    let rows = match session.select::<MetaRow>("") {
        Ok(rows) => rows,
        Err(error) if error.kind() == ErrorKind::Invalid && !is_installed(session)? => {
            return Err(LakeError::from_fault(LakeFault::NotInstalled).because(error));
        }
        Err(error) => return Err(error),
    };
    let meta: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row.value)).collect();
    for (key, ours) in [
        ("oldest_compatible_layout", LAYOUT_VERSION),
        ("oldest_compatible_triggers", TRIGGER_VERSION),
    ] {
        let theirs: u32 = meta.get(key).and_then(|value| value.parse().ok()).ok_or_else(|| {
            LakeError::refused(format!("the lake's ducktide_meta lacks a number: key=`{key}`"))
        })?;
        if theirs > ours {
            return Err(newer_layout(key, theirs, ours));
        }
    }
    Ok(())
}

/// Returns all sources of the lake.
pub fn sources(session: &Session) -> Result<Vec<Source>> {
    let rows = session.select::<SourceRow>("ORDER BY source_id")?;
    let source = |row: SourceRow| Source {
        id: row.source_id,
        spec: SourceSpec {
            table: row.table_name,
            topic: row.topic,
            pipeline: row.pipeline,
            cluster_id: row.cluster_id,
            topic_id: row.topic_id,
        },
    };
    Ok(rows.into_iter().map(source).collect())
}

/// Returns the source of a table and topic; None if it is not registered.
pub(crate) fn find_source(session: &Session, spec: &SourceSpec) -> Result<Option<Source>> {
    let found = sources(session)?;
    Ok(found.into_iter().find(|s| s.spec.table == spec.table && s.spec.topic == spec.topic))
}

/// Registers a source and the first positions of its partitions, in one transaction: a worker that
/// sees the source sees its start offsets too.
pub(crate) fn insert_source(
    session: &Session,
    spec: &SourceSpec,
    starts: &[(Partition, Offset)],
) -> duckdb::Result<()> {
    let optional = |value: &Option<String>| value.as_deref().map_or("NULL".to_owned(), quote);
    let insert = format!(
        "INSERT INTO {}(table_name, topic, pipeline, cluster_id, topic_id, created_at) \
         VALUES ({}, {}, {}, {}, {}, {})",
        session.catalog_table("ducktide_source"),
        quote(&spec.table.to_string()),
        quote(&spec.topic),
        quote(&spec.pipeline),
        optional(&spec.cluster_id),
        optional(&spec.topic_id),
        quote(&jiff::Timestamp::now().to_string()),
    );
    session.execute(&format!("BEGIN; {insert}"))?;
    let id = session.query(&format!(
        "SELECT source_id::VARCHAR AS source_id FROM {} WHERE table_name = {} AND topic = {}",
        session.catalog_table("ducktide_source"),
        quote(&spec.table.to_string()),
        quote(&spec.topic)
    ))?;
    let id = id.first().and_then(|row| row.get("source_id").ok());
    if let Some(id) = id
        && !starts.is_empty()
    {
        post(session, &CommitMessage::start(id, starts))?;
    }
    session.execute("COMMIT")
}

/// Inserts a message into the mailbox: progress without rows.
pub fn post(session: &Session, message: &CommitMessage) -> duckdb::Result<()> {
    session.execute(&format!(
        "INSERT INTO {}(message) VALUES ({})",
        session.catalog_table("ducktide_commit"),
        quote(&message.to_json())
    ))
}

/// Progress of one partition as `status` shows it.
#[derive(Clone, Debug)]
pub struct PartitionProgress {
    /// Kafka's partition number.
    pub partition: Partition,
    /// Epoch and next offset.
    pub position: Position,
    /// Snapshot of the newest commit with rows.
    pub snapshot_id: Option<SnapshotId>,
    /// Time when progress last moved.
    pub updated_at: Option<Timestamp>,
}

/// Returns the progress of a source's partitions, in a new catalog transaction.
pub fn progress(session: &Session, source: SourceId) -> Result<Vec<PartitionProgress>> {
    let rows =
        session.select::<ProgressRow>(&format!("WHERE source_id = {source} ORDER BY partition"))?;
    let progress = |row: ProgressRow| PartitionProgress {
        partition: row.partition,
        position: row.position(),
        snapshot_id: row.snapshot_id,
        updated_at: row.updated_at,
    };
    Ok(rows.into_iter().map(progress).collect())
}

/// Returns the number of files that were ever registered. Paths are relative to the table's directory.
///
/// A merge moves a file from the live files to those scheduled for deletion; a name is used once,
/// so being found in either means that the commit holding it was applied.
pub(crate) fn registered_files(session: &Session, paths: &[String]) -> Result<u64> {
    if paths.is_empty() {
        return Ok(0);
    }
    let list = |of: &dyn Fn(&String) -> String| paths.iter().map(of).collect::<Vec<_>>().join(", ");
    let relative = list(&|path| quote(path));
    // `ducktide-<uuid>.parquet` is 53 characters long; the index of the table is on exactly this
    // expression, which differs between the two dialects.
    let names = list(&|path| quote(path.rsplit('/').next().unwrap_or(path)));
    let sql = format!(
        "SELECT (SELECT count(*) FROM {} WHERE path IN ({relative})) \
         + (SELECT count(*) FROM {} WHERE {} IN ({names})) AS found",
        session.native_table("ducklake_data_file"),
        session.native_table("ducklake_files_scheduled_for_deletion"),
        session.last_characters("path", 53),
    );
    session.catalog_scalar(&sql)
}

/// Source, partition and offset of a dead letter, as in the ledger.
pub(crate) type DeadLetterKey = (SourceId, Partition, Offset);

/// Returns the dead letters with a resolution in the ledger that no replay removed: the same condition
/// as in the triggers.
pub(crate) fn resolved_letters(
    session: &Session,
    steps: &[ProgressDelta],
) -> Result<BTreeSet<DeadLetterKey>> {
    let key = |step: &ProgressDelta| {
        format!("({}, {}, {})", step.source, step.partition, step.range.from)
    };
    let keys = steps.iter().map(key).collect::<Vec<_>>().join(", ");
    let ledger = session.native_table("ducktide_ledger");
    let resolutions = LedgerQuery::all()
        .that(format!("(l.source_id, l.partition, l.from_offset) IN (VALUES {keys})"))
        .that("l.kind IN ('retry', 'discard')".to_owned())
        .that(format!(
            "NOT EXISTS (SELECT 1 FROM {ledger} r \
             WHERE r.source_id = l.source_id AND r.partition = l.partition AND r.kind = 'replay' \
             AND r.ledger_id > l.ledger_id AND r.to_offset <= l.from_offset)"
        ))
        .read(session)?;
    let key = |row: &LedgerRow| (row.step.source, row.step.partition, row.step.range.from);
    Ok(resolutions.iter().map(key).collect())
}

crate::row_struct! {
    struct OpenDeadLetters {
        table_name: String,
        open: i64,
    }
}

/// Returns the number of open dead letters of each table, as counted in the ledger, without tables
/// that have none.
pub fn open_dead_letters(session: &Session) -> Result<BTreeMap<String, i64>> {
    let sql = format!(
        "SELECT s.table_name, CAST(sum(l.dead) AS BIGINT) AS open FROM {} l \
         JOIN {} s ON s.source_id = l.source_id WHERE l.dead <> 0 GROUP BY s.table_name",
        session.native_table("ducktide_ledger"),
        session.native_table("ducktide_source"),
    );
    let counts: Vec<OpenDeadLetters> = session.catalog_query(&sql)?;
    let counts = counts.into_iter().map(|row| (row.table_name, row.open));
    Ok(counts.filter(|(_, open)| *open != 0).collect())
}

crate::row_struct! {
    /// State of the triggers, the intents and the format, which a commit depends on.
    struct TriggerCheck {
        /// Number of triggers that exist and are enabled.
        triggers: usize,
        /// Oldest version of programs that the triggers work with.
        oldest_compatible: u32,
        /// Number of announced replays.
        intents: u32,
        /// Format of DuckLake's tables.
        format: Option<String>,
    }
}

impl TriggerCheck {
    /// Returns true if an intent is announced; an error if the catalog must not be written to.
    fn check(found: Option<&Self>) -> Result<bool> {
        // Without a row, the connection broke during the response.
        let Some(found) = found else {
            return Err(LakeError::unavailable("the catalog's answer lacks a row"));
        };
        format::require(found.format.as_deref())?;
        require_triggers(found.triggers, found.oldest_compatible, TRIGGER_VERSION)
            .map(|()| found.intents > 0)
    }
}

/// Returns an error unless all triggers exist in a compatible version (invariant I7).
fn require_triggers(found: usize, oldest_compatible: u32, ours: u32) -> Result<()> {
    if found != TRIGGERS.len() {
        return Err(LakeError::from_fault(LakeFault::TriggersMissing {
            found,
            needed: TRIGGERS.len(),
        }));
    }
    if oldest_compatible > ours {
        return Err(newer_layout("oldest_compatible_triggers", oldest_compatible, ours));
    }
    Ok(())
}

fn newer_layout(key: &'static str, required: u32, supported: u32) -> LakeError {
    LakeError::from_fault(LakeFault::NewerLayout { key, required, supported })
}
