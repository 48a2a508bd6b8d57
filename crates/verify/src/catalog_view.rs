//! State of the catalog at one instant, read in one catalog transaction.
//!
//! Rows, progress and ledger change in one transaction (invariant I1), so the values that one transaction
//! reads are consistent while workers commit. Snapshots may be expired at any time, so nothing is joined to
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ducktide_lake::CatalogClient as _;
use ducktide_lake::catalog::ledger::{LedgerQuery, LedgerRow};
use ducktide_lake::duckdb_error;
use ducktide_lake::row_struct;
use ducktide_lake::rows::{CatalogTable as _, FromRow, FromValue, ProgressRow, Row};
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::dead_letter::dead_letter_name;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::ledger::PartitionChain;
use ducktide_protocol::position::{Partition, Position, SnapshotId, SourceId};
use ducktide_replay::missing;

use super::chain;
use super::finding::{Finding, FindingKind, FindingPlace, Findings};

/// Maximum number of ledger rows read at a time: bounds the memory for a ledger of any length (about 100
/// bytes each).
const LEDGER_PAGE: usize = 100_000;

/// One partition of one source.
pub(super) type Key = (SourceId, Partition);

/// A table of the lake, also a dropped one that old snapshots show.
#[derive(Clone, Debug)]
pub(super) struct TableEntry {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) is_live: bool,
    pub(super) directory: PathBuf,
}

row_struct! {
    /// A row of the query for tables: one for each name and schema that a table had.
    struct NamedTable {
        table_id: i64,
        schema_name: String,
        table_name: String,
        is_live: bool,
        data_path: Option<String>,
        schema_path: Option<String>,
        table_path: Option<String>,
    }
}

row_struct! {
    /// A source as the catalog has it; names are not validated here.
    pub(super) struct SourceEntry {
        pub(super) id: SourceId,
        pub(super) table: String,
        pub(super) topic: String,
    }
}

row_struct! {
    /// A data file or delete file that some snapshot needs.
    pub(super) struct FileEntry {
        pub(super) id: i64,
        pub(super) table_id: i64,
        pub(super) is_delete_file: bool,
        pub(super) path: String,
        pub(super) bytes: u64,
        /// Rows of a data file, or rows that a delete file removes.
        pub(super) records: i64,
        /// Snapshot that ended it; None when the newest snapshot needs it.
        pub(super) ended: Option<i64>,
    }
}

row_struct! {
    /// Changes of a commit without a Ducktide message.
    pub(super) struct ForeignChange {
        pub(super) snapshot: i64,
        /// Client that committed it; empty if it gave no name.
        pub(super) author: String,
        changes: String,
    }
}

row_struct! {
    /// A data file that is scheduled for deletion.
    struct ScheduledDataFile {
        table_id: i64,
        path: String,
    }
}

row_struct! {
    /// A trigger of the catalog database.
    struct Trigger {
        name: String,
        table_name: String,
        enabled: bool,
    }
}

impl ForeignChange {
    pub(super) fn inserts_into(&self, table_id: i64) -> bool {
        self.lists(&["inserted_into_table", "inlined_insert"], table_id)
    }

    pub(super) fn deletes_from(&self, table_id: i64) -> bool {
        self.lists(&["deleted_from_table", "inlined_delete"], table_id)
    }

    fn lists(&self, changes: &[&str], table_id: i64) -> bool {
        self.changes
            .split(',')
            .filter_map(|change| change.split_once(':'))
            .any(|(change, id)| changes.contains(&change) && id.parse() == Ok(table_id))
    }
}

/// State of the catalog at one instant.
#[derive(Debug)]
pub(super) struct CatalogView {
    /// The newest snapshot.
    pub(super) snapshot: SnapshotId,
    /// No snapshot was ever expired, so that all changes are known.
    pub(super) knows_all_changes: bool,
    pub(super) tables: Vec<TableEntry>,
    pub(super) sources: Vec<SourceEntry>,
    pub(super) progress: BTreeMap<Key, Position>,
    pub(super) chains: BTreeMap<Key, PartitionChain>,
    /// ID of the newest ledger row.
    pub(super) last_ledger_id: i64,
    pub(super) files: Vec<FileEntry>,
    /// Table and path of data files that are both registered and scheduled for deletion.
    pub(super) scheduled_files: Vec<(i64, String)>,
    pub(super) foreign: Vec<ForeignChange>,
    /// Snapshots in which a replay ended files that were missing.
    pub(super) missing_files_ended: BTreeSet<i64>,
    triggers: Vec<Trigger>,
    unconsumed_messages: u64,
}

/// Reads the catalog; only the files of `table` if it is given. Adds the errors of the ledger to the
/// findings.
pub(super) fn read(
    session: &Session,
    table: Option<&str>,
    findings: &mut Findings,
) -> Result<CatalogView> {
    let begun = session.execute("BEGIN").map_err(unreadable);
    let view = begun.and_then(|()| Reader { session }.view(table, findings));
    let ended = session.execute(if view.is_ok() { "COMMIT" } else { "ROLLBACK" });
    view.and_then(|view| ended.map(|()| view).map_err(unreadable))
}

/// Reads the ranges of one partition up to a ledger row, to locate an error. Must be called inside an open
/// transaction.
pub(super) fn ranges(
    session: &Session,
    key: Key,
    last_ledger_id: i64,
) -> duckdb::Result<Vec<LedgerRow>> {
    let (source, partition) = key;
    let query = LedgerQuery::all().of_partition(source, partition).up_to(last_ledger_id);
    let rows = session.query(&session.native_query(&query.sql(session)))?;
    // Rows that are not numbers were refused when the whole ledger was read.
    Ok(rows.iter().filter_map(|row| LedgerRow::from_row(row).ok()).collect())
}

/// Returns the IDs of those files that are still registered.
pub(super) fn still_registered(session: &Session, files: &[&FileEntry]) -> Result<BTreeSet<i64>> {
    let ids = |is_delete_file: bool| {
        let of_kind = files.iter().filter(|file| file.is_delete_file == is_delete_file);
        let ids: Vec<_> = of_kind.map(|file| file.id.to_string()).collect();
        if ids.is_empty() { "-1".to_owned() } else { ids.join(", ") }
    };
    // File ids come from one counter, whatever the kind.
    let sql = format!(
        "SELECT data_file_id AS id FROM {} WHERE data_file_id IN ({}) \
         UNION ALL SELECT delete_file_id FROM {} WHERE delete_file_id IN ({})",
        session.native_table("ducklake_data_file"),
        ids(false),
        session.native_table("ducklake_delete_file"),
        ids(true),
    );
    Ok(session.catalog_values(&sql)?.into_iter().collect())
}

impl CatalogView {
    /// Returns the name of a table, for messages.
    pub(super) fn table_name(&self, id: i64) -> &str {
        let found = self.tables.iter().find(|table| table.id == id);
        found.map_or("a table that is gone", |table| &table.name)
    }

    pub(super) fn live_table(&self, name: &str) -> Option<&TableEntry> {
        self.tables.iter().find(|table| table.is_live && table.name == name)
    }

    pub(super) fn place(&self, key: Key) -> FindingPlace {
        let source = self.sources.iter().find(|source| source.id == key.0);
        FindingPlace {
            table: source.map(|source| source.table.clone()),
            topic: source.map(|source| source.topic.clone()),
            partition: Some(key.1.0),
            path: None,
        }
    }

    /// Returns the partitions of a source, in their order.
    pub(super) fn partitions(
        &self,
        source: SourceId,
    ) -> impl Iterator<Item = (Partition, &PartitionChain)> {
        let whole = (source, Partition(i32::MIN))..=(source, Partition(i32::MAX));
        self.chains.range(whole).map(|((_, partition), chain)| (*partition, chain))
    }

    /// Checks that progress is at the end of the ledger, for every partition.
    pub(super) fn check_progress(&self, sources: &BTreeSet<SourceId>, findings: &mut Findings) {
        let known: BTreeSet<_> = self.sources.iter().map(|source| source.id).collect();
        let keys: BTreeSet<_> = self.progress.keys().chain(self.chains.keys()).collect();
        for key in keys {
            if known.contains(&key.0) && !sources.contains(&key.0) {
                continue;
            }
            let progress = self.progress.get(key).copied();
            let ledger = self.chains.get(key).and_then(PartitionChain::end);
            let text = |at: Option<Position>| match at {
                Some(at) => format!("offset {} in epoch {}", at.next_offset, at.epoch),
                None => "nothing".to_owned(),
            };
            let detail = if !known.contains(&key.0) {
                format!("no source has the number {}, yet ledger and progress do", key.0)
            } else if progress == ledger {
                continue;
            } else {
                format!("progress says {}, the ledger {}", text(progress), text(ledger))
            };
            let kind = FindingKind::ProgressDiffers;
            findings.add(Finding::new(kind, self.place(*key), 1, detail));
        }
    }

    /// Checks that every trigger exists on its table and is enabled (invariant I7).
    pub(super) fn check_triggers(&self, findings: &mut Findings) {
        const TRIGGERS: [(&str, &str); 4] = [
            ("ducktide_once", "ducklake_data_file"),
            ("ducktide_snapshot", "ducklake_snapshot_changes"),
            ("ducktide_unpack", "ducktide_commit"),
            ("ducktide_advance", "ducktide_ledger"),
        ];
        let mut add = |count, detail| {
            let place = FindingPlace::default();
            findings.add(Finding::new(FindingKind::TriggerMissing, place, count, detail));
        };
        for (name, table) in TRIGGERS {
            let is_it = |found: &&Trigger| found.name == name && found.table_name == table;
            match self.triggers.iter().find(is_it) {
                Some(Trigger { enabled: true, .. }) => {}
                Some(_) => add(1, format!("trigger {name} on {table} is disabled")),
                None => add(1, format!("trigger {name} on {table} is missing")),
            }
        }
        if self.unconsumed_messages > 0 {
            let count = self.unconsumed_messages;
            add(count, format!("{count} messages lie in ducktide_commit that no trigger took"));
        }
    }
}

struct Reader<'a> {
    session: &'a Session,
}

impl Reader<'_> {
    fn view(&self, table: Option<&str>, findings: &mut Findings) -> Result<CatalogView> {
        let (oldest, snapshot) = self.snapshots()?;
        let tables = self.tables()?;
        let ids = table.map(|name| ids_of(&tables, name));
        let mut view = CatalogView {
            snapshot: SnapshotId(snapshot),
            knows_all_changes: oldest == 0,
            sources: self.sources()?,
            progress: self.progress()?,
            chains: BTreeMap::new(),
            last_ledger_id: 0,
            files: self.files(ids.as_deref())?,
            scheduled_files: self.scheduled_files(ids.as_deref())?,
            foreign: self.foreign()?,
            missing_files_ended: self.missing_files_ended()?,
            triggers: self.triggers()?,
            unconsumed_messages: self.unconsumed_messages()?,
            tables,
        };
        self.follow_ledger(&mut view, table, findings)?;
        Ok(view)
    }

    /// Reads the oldest and the newest snapshot.
    fn snapshots(&self) -> Result<(i64, i64)> {
        let sql =
            "SELECT min(snapshot_id) AS oldest, max(snapshot_id) AS newest FROM @ducklake_snapshot";
        let found: Vec<Row> = self.read(sql)?;
        let found = found.first().ok_or_else(|| LakeError::invalid("the lake has no snapshot"))?;
        Ok((found.get("oldest")?, found.get("newest")?))
    }

    fn tables(&self) -> Result<Vec<TableEntry>> {
        // Renamed tables have a row for each name: the last one counts.
        let sql = "SELECT t.table_id, s.schema_name, t.table_name, \
             CASE WHEN t.end_snapshot IS NULL THEN 1 ELSE 0 END AS is_live, \
             (SELECT value FROM @ducklake_metadata WHERE key = 'data_path' AND scope IS NULL) AS data_path, \
             s.path AS schema_path, t.path AS table_path \
             FROM @ducklake_table t JOIN @ducklake_schema s ON s.schema_id = t.schema_id \
             ORDER BY t.table_id, t.begin_snapshot, s.begin_snapshot";
        let entry = |table: NamedTable| {
            let name = format!("{}.{}", table.schema_name, table.table_name);
            // Joining an absolute path replaces the path before it, as DuckLake does.
            let paths = [table.data_path, table.schema_path, table.table_path];
            let directory = paths.into_iter().map(Option::unwrap_or_default).collect();
            TableEntry { id: table.table_id, name, is_live: table.is_live, directory }
        };
        let tables = self.read(sql)?.into_iter().map(entry);
        let by_id: BTreeMap<_, _> = tables.map(|table| (table.id, table)).collect();
        Ok(by_id.into_values().collect())
    }

    fn sources(&self) -> Result<Vec<SourceEntry>> {
        self.read(
            "SELECT source_id AS id, table_name AS \"table\", topic FROM @ducktide_source \
             ORDER BY source_id",
        )
    }

    fn progress(&self) -> Result<BTreeMap<Key, Position>> {
        let columns = ProgressRow::columns();
        let rows: Vec<ProgressRow> =
            self.read(&format!("SELECT {columns} FROM @ducktide_progress"))?;
        let position = |row: ProgressRow| ((row.source_id, row.partition), row.position());
        Ok(rows.into_iter().map(position).collect())
    }

    fn files(&self, tables: Option<&[i64]>) -> Result<Vec<FileEntry>> {
        let data = format!(
            "SELECT data_file_id AS id, table_id, 0 AS is_delete_file, path, file_size_bytes AS bytes, \
             record_count AS records, end_snapshot AS ended FROM @ducklake_data_file WHERE {}",
            of_tables("table_id", tables),
        );
        // A delete file has no end of its own when its data file ends as a whole, as by a replay.
        let deletes = format!(
            "SELECT d.delete_file_id AS id, d.table_id, 1 AS is_delete_file, d.path, \
             d.file_size_bytes AS bytes, d.delete_count AS records, \
             coalesce(d.end_snapshot, f.end_snapshot) AS ended \
             FROM @ducklake_delete_file d \
             JOIN @ducklake_data_file f ON f.data_file_id = d.data_file_id WHERE {}",
            of_tables("d.table_id", tables),
        );
        let mut files: Vec<FileEntry> = self.read(&data)?;
        files.extend(self.read(&deletes)?);
        Ok(files)
    }

    fn scheduled_files(&self, tables: Option<&[i64]>) -> Result<Vec<(i64, String)>> {
        // `ducktide-<uuid>.parquet` and `ducklake-<uuid>.parquet` have 53 characters; the index of
        // the scheduled files is on exactly this expression.
        let sql = format!(
            "SELECT f.table_id, f.path FROM @ducklake_data_file f \
             JOIN @ducklake_files_scheduled_for_deletion s ON {} = {} WHERE {}",
            self.session.dialect().last_characters("s.path", 53),
            self.session.dialect().last_characters("f.path", 53),
            of_tables("f.table_id", tables),
        );
        let files: Vec<ScheduledDataFile> = self.read(&sql)?;
        Ok(files.into_iter().map(|file| (file.table_id, file.path)).collect())
    }

    fn foreign(&self) -> Result<Vec<ForeignChange>> {
        let sql = format!(
            "SELECT snapshot_id AS snapshot, coalesce(author, '') AS author, changes_made AS changes \
             FROM @ducklake_snapshot_changes \
             WHERE (commit_extra_info IS NULL OR commit_extra_info NOT LIKE '%\"ducktide\"%') \
             AND NOT ({}) AND (changes_made LIKE '%inserted_into_table:%' OR changes_made LIKE '%deleted_from_table:%' \
             OR changes_made LIKE '%inlined_insert:%' OR changes_made LIKE '%inlined_delete:%') \
             ORDER BY snapshot_id",
            ends_missing_files()
        );
        self.read(&sql)
    }

    fn missing_files_ended(&self) -> Result<BTreeSet<i64>> {
        let sql = format!(
            "SELECT snapshot_id FROM @ducklake_snapshot_changes WHERE {}",
            ends_missing_files()
        );
        Ok(self.values(&sql)?.into_iter().collect())
    }

    fn triggers(&self) -> Result<Vec<Trigger>> {
        self.read(&self.session.dialect().triggers_sql())
    }

    fn unconsumed_messages(&self) -> Result<u64> {
        let counts = self.values("SELECT count(*) AS messages FROM @ducktide_commit")?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    fn follow_ledger(
        &self,
        view: &mut CatalogView,
        table: Option<&str>,
        findings: &mut Findings,
    ) -> Result<()> {
        let sources = view.sources.iter().filter(|source| table.is_none_or(|t| t == source.table));
        let wanted: BTreeSet<_> = sources.map(|source| source.id).collect();
        let known: BTreeSet<_> = view.sources.iter().map(|source| source.id).collect();
        let mut last = i64::MIN;
        loop {
            let page = LedgerQuery::all().after(last).limit(LEDGER_PAGE).sql(self.session);
            let mut read = 0;
            self.session.for_each(&self.session.native_query(&page), |row: LedgerRow| {
                (read, last) = (read + 1, row.ledger_id);
                let key = row.key();
                if wanted.contains(&key.0) || !known.contains(&key.0) {
                    let wrong = chain::follow(view.chains.entry(key).or_default(), &row);
                    for (kind, detail) in wrong {
                        findings.add(Finding::new(kind, view.place(key), 1, detail));
                    }
                }
                Ok(())
            })?;
            view.last_ledger_id = last;
            if read < LEDGER_PAGE {
                return Ok(());
            }
        }
    }

    /// Reads rows of a query in which `@` stands before the names of catalog tables.
    fn read<T: FromRow>(&self, sql: &str) -> Result<Vec<T>> {
        let schema = self.session.native_table("");
        self.session.read(&self.session.native_query(&sql.replace('@', &schema)))
    }

    /// Reads the values of a query with one column.
    fn values<T: FromValue>(&self, sql: &str) -> Result<Vec<T>> {
        self.read::<Row>(sql)?.iter().map(Row::first).collect()
    }
}

fn ids_of(tables: &[TableEntry], name: &str) -> Vec<i64> {
    let dead_letters = dead_letter_name(name);
    let wanted = |table: &&TableEntry| table.name == name || table.name == dead_letters;
    tables.iter().filter(wanted).map(|table| table.id).collect()
}

fn of_tables(column: &str, tables: Option<&[i64]>) -> String {
    let Some(tables) = tables else { return "1 = 1".to_owned() };
    let ids: Vec<_> = tables.iter().map(i64::to_string).collect();
    if ids.is_empty() { "1 = 0".to_owned() } else { format!("{column} IN ({})", ids.join(", ")) }
}

/// Returns the SQL condition that a replay ended missing files in a snapshot.
fn ends_missing_files() -> String {
    format!(
        "coalesce(author, '') = {} AND coalesce(commit_message, '') = {}",
        quote(missing::AUTHOR),
        quote(missing::MESSAGE)
    )
}

fn unreadable(error: duckdb::Error) -> LakeError {
    duckdb_error::failed("read the catalog", error)
}
