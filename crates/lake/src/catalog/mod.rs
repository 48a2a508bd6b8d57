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

pub(crate) mod client;
pub(crate) mod dialect;
pub(crate) mod format;
pub(crate) mod installation;
pub mod intent;
pub(crate) mod layout;
pub mod ledger;
pub mod lock;
pub mod meta;
pub(crate) mod partitioning;
pub mod pin;
pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod postgres_connection;
pub mod shape_break;
pub(crate) mod sqlite;
pub(crate) mod sqlite_file;
pub(crate) mod vacant_name;

use ducktide_protocol::commit::CommitMessage;
use ducktide_protocol::error::Result;
use ducktide_protocol::position::{Offset, Partition, Position, SnapshotId, SourceId};
use ducktide_protocol::{Source, SourceSpec};
use jiff::Timestamp;

use self::client::{CatalogClient, WorkerCatalog, WriteError};
use crate::rows::{ProgressRow, SourceRow};
use crate::sql_text::quote;

/// Returns all sources of the lake.
pub fn sources(catalog: &impl CatalogClient) -> Result<Vec<Source>> {
    let rows = catalog.select::<SourceRow>("ORDER BY source_id")?;
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
pub(crate) fn find_source(
    catalog: &impl CatalogClient,
    spec: &SourceSpec,
) -> Result<Option<Source>> {
    let found = sources(catalog)?;
    Ok(found.into_iter().find(|s| s.spec.table == spec.table && s.spec.topic == spec.topic))
}

/// Registers a source and the first positions of its partitions, in one transaction: a worker that
/// sees the source sees its start offsets too.
pub(crate) fn insert_source(
    catalog: WorkerCatalog<'_>,
    spec: &SourceSpec,
    starts: &[(Partition, Offset)],
) -> Result<(), WriteError> {
    let optional = |value: &Option<String>| value.as_deref().map_or("NULL".to_owned(), quote);
    let sources = catalog.written_table("ducktide_source");
    let insert = format!(
        "INSERT INTO {sources}(table_name, topic, pipeline, cluster_id, topic_id, created_at) \
         VALUES ({}, {}, {}, {}, {}, {})",
        quote(&spec.table.to_string()),
        quote(&spec.topic),
        quote(&spec.pipeline),
        optional(&spec.cluster_id),
        optional(&spec.topic_id),
        quote(&jiff::Timestamp::now().to_string()),
    );
    let start = |id| {
        let message = CommitMessage::start(id, starts);
        (!starts.is_empty()).then(|| post_sql(&catalog, &message))
    };
    match catalog {
        WorkerCatalog::Postgres(connection) => {
            Ok(connection.insert_source(&format!("{insert} RETURNING source_id"), start)?)
        }
        WorkerCatalog::Session(session) => {
            session.execute(&format!("BEGIN; {insert}"))?;
            let id = session.query(&format!(
                "SELECT source_id::VARCHAR AS source_id FROM {sources} \
                 WHERE table_name = {} AND topic = {}",
                quote(&spec.table.to_string()),
                quote(&spec.topic)
            ))?;
            let id = id.first().and_then(|row| row.get("source_id").ok());
            if let Some(post) = id.and_then(start) {
                session.execute(&post)?;
            }
            Ok(session.execute("COMMIT")?)
        }
    }
}

/// Inserts a message into the mailbox: progress without rows.
pub fn post<C: CatalogClient>(catalog: &C, message: &CommitMessage) -> Result<(), C::Error> {
    catalog.write(&post_sql(catalog, message))
}

fn post_sql(catalog: &impl CatalogClient, message: &CommitMessage) -> String {
    let mailbox = catalog.written_table("ducktide_commit");
    format!("INSERT INTO {mailbox}(message) VALUES ({})", quote(&message.to_json()))
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
pub fn progress(catalog: &impl CatalogClient, source: SourceId) -> Result<Vec<PartitionProgress>> {
    let rows =
        catalog.select::<ProgressRow>(&format!("WHERE source_id = {source} ORDER BY partition"))?;
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
pub(crate) fn registered_files(catalog: &impl CatalogClient, paths: &[String]) -> Result<u64> {
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
        catalog.native_table("ducklake_data_file"),
        catalog.native_table("ducklake_files_scheduled_for_deletion"),
        catalog.dialect().last_characters("path", 53),
    );
    catalog.catalog_scalar(&sql)
}
