//! Verification of a lake: finds lost and duplicate rows.
//!
//! [`verify()`] reads the catalog in one transaction (`catalog_view`), follows each partition's ledger
//! (`chain`), compares sums (`sums`) and checks the files (`files`). A deep verification reads the offsets
//! of the rows themselves (`offsets`), at the snapshot of that transaction, and can compare them with the
//! records that a producer has acknowledged (`acknowledged`). It can run concurrently with workers and the
//! compactor: it takes no lock and reads one instant.

mod acknowledged;
mod catalog_view;
mod chain;
mod files;
mod finding;
mod offsets;
mod producer_ledger;
mod record;
mod sums;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ducktide_lake::DuckLake;
use ducktide_lake::duckdb_error;
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::commit::Counts;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::SnapshotId;
use ducktide_protocol::table::TableName;
use uuid::Uuid;

pub use self::acknowledged::Acknowledged;
use self::catalog_view::{CatalogView, SourceEntry};
pub use self::files::FilesChecked;
pub use self::finding::{Finding, FindingKind, FindingPlace, Findings, Note, NoteKind};
pub use self::offsets::DeepProgress;
use self::offsets::{Occurrences, OffsetsFound, PartitionDifference, TableReader};
use self::producer_ledger::ProducerLedger;
pub use self::record::{LastVerification, last_verification, record_verification};

/// Maximum number of attempts while a compactor with a very short retention removes files.
const MAX_ATTEMPTS: usize = 3;

/// Scope of a verification.
#[derive(Clone, Debug, Default)]
pub struct VerifyRequest {
    /// One table with its sources; None for the whole lake.
    pub table: Option<TableName>,
    /// Reads the offsets of the rows.
    pub deep: bool,
    /// Reads all other columns too, so that values that cannot be decoded are found.
    pub read_all: bool,
    /// Ledger of a producer to compare with; reads the offsets of the rows too.
    pub acknowledged: Option<PathBuf>,
    /// Memory limit of DuckDB for a deep verification, in bytes; beyond it DuckDB spills to disk.
    pub memory_limit: u64,
}

impl VerifyRequest {
    const fn reads_rows(&self) -> bool {
        self.deep || self.read_all || self.acknowledged.is_some()
    }
}

/// Result of a verification.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Snapshot that was verified.
    pub snapshot: SnapshotId,
    /// Sums of the ledger, by source.
    pub sources: Vec<SourceSums>,
    /// Files that were checked.
    pub files: FilesChecked,
    /// Number of rows whose offsets were read; None without a deep verification.
    pub rows_read: Option<u64>,
    /// All columns of these rows were read.
    pub all_columns_read: bool,
    /// Comparison with a producer's ledger, if one was given.
    pub acknowledged: Option<Acknowledged>,
    /// Errors of the lake.
    pub findings: Findings,
    /// Facts of interest that are not errors.
    pub notes: Vec<Note>,
}

/// Sums over the ledger of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSums {
    /// Table with its schema.
    pub table: String,
    /// Kafka topic.
    pub topic: String,
    /// Number of partitions with a ledger.
    pub partitions: u64,
    /// Number of their ranges.
    pub ranges: u64,
    /// Sums of the counts of all ranges.
    pub counts: Counts,
}

/// Verifies the lake, or one table of it. Reports the progress of a deep verification.
///
/// An error means that the verification failed; errors of the lake are in the findings.
pub fn verify(
    lake: &mut DuckLake,
    request: &VerifyRequest,
    progress: &mut dyn FnMut(&DeepProgress),
) -> Result<Verification> {
    let session = lake.session()?;
    let _ledger = if request.reads_rows() { prepare(session, request, progress)? } else { None };
    let mut attempt = 1;
    loop {
        let verification = Verifier::new(session, request)?.run(progress)?;
        let unreadable = verification.findings.has(FindingKind::TableUnreadable);
        let files_are_there = verification.findings.numbers().len() == 1;
        // The compactor may remove a file between the list of files and the read.
        if attempt == MAX_ATTEMPTS || !unreadable || !files_are_there {
            return Ok(verification);
        }
        attempt += 1;
    }
}

/// Gives the session memory and threads for scans, which that of a worker does not have. Sums do not depend
/// on the order of rows, and preserving it takes memory.
///
/// The producer's ledger, if there is one, can be read until the result is dropped.
fn prepare(
    session: &Session,
    request: &VerifyRequest,
    progress: &mut dyn FnMut(&DeepProgress),
) -> Result<Option<ProducerLedger>> {
    let spill = std::env::temp_dir().join(format!("ducktide-verify-{}", std::process::id()));
    let settings = format!(
        "RESET threads; SET memory_limit = '{}MiB'; SET temp_directory = {}; \
         SET preserve_insertion_order = false",
        (request.memory_limit >> 20).max(64),
        quote(&spill.to_string_lossy())
    );
    session
        .execute(&settings)
        .map_err(|error| LakeError::invalid("prepare the deep verification").because(error))?;
    let Some(path) = &request.acknowledged else { return Ok(None) };
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    progress(&DeepProgress::Ledger { bytes });
    let name = format!("ducktide-ledger-{}", Uuid::new_v4().simple());
    ProducerLedger::load(session, path, std::env::temp_dir().join(name)).map(Some)
}

/// Verification of one instant.
struct Verifier<'a> {
    session: &'a Session,
    request: &'a VerifyRequest,
    view: CatalogView,
    findings: Findings,
    notes: Vec<Note>,
    rows_read: u64,
    acknowledged: Acknowledged,
}

impl<'a> Verifier<'a> {
    fn new(session: &'a Session, request: &'a VerifyRequest) -> Result<Self> {
        let table = request.table.as_ref().map(ToString::to_string);
        let mut findings = Findings::default();
        let view = catalog_view::read(session, table.as_deref(), &mut findings)?;
        if let Some(name) = &table
            && view.live_table(name).is_none()
            && view.sources.iter().all(|source| source.table != *name)
        {
            return Err(LakeError::invalid(format!("there is no such table: table=`{name}`")));
        }
        Ok(Self {
            session,
            request,
            view,
            findings,
            notes: Vec::new(),
            rows_read: 0,
            acknowledged: Acknowledged::default(),
        })
    }

    fn run(mut self, progress: &mut dyn FnMut(&DeepProgress)) -> Result<Verification> {
        let sources: BTreeSet<_> = self.sources().map(|source| source.id).collect();
        self.view.check_progress(&sources, &mut self.findings);
        self.view.check_triggers(&mut self.findings);
        let files = files::check(self.session, &self.view, &mut self.findings, &mut self.notes)?;
        self.check_topics()?;
        for (table, sources) in self.tables() {
            self.check_table(&table, &sources, progress)?;
        }
        Ok(self.finish(files))
    }

    /// Returns the requested sources.
    fn sources(&self) -> impl Iterator<Item = &SourceEntry> {
        let table = self.request.table.as_ref().map(ToString::to_string);
        let wanted = move |source: &&SourceEntry| table.as_ref().is_none_or(|t| *t == source.table);
        self.view.sources.iter().filter(wanted)
    }

    /// Returns the tables that sources fill, with their sources.
    fn tables(&self) -> BTreeMap<String, Vec<SourceEntry>> {
        let mut tables: BTreeMap<String, Vec<SourceEntry>> = BTreeMap::new();
        for source in self.sources() {
            tables.entry(source.table.clone()).or_default().push(source.clone());
        }
        tables
    }

    /// Refuses a producer's ledger with a topic that fills no table: its records would be reported lost or
    /// be ignored, and both are wrong.
    fn check_topics(&self) -> Result<()> {
        let Some(path) = &self.request.acknowledged else { return Ok(()) };
        let topics = self.sources().map(|source| source.topic.as_str());
        let unknown = producer_ledger::unknown_topics(self.session, topics)
            .map_err(|error| LakeError::invalid("read the producer's ledger").because(error))?;
        match unknown.first() {
            None => Ok(()),
            Some(topic) => Err(LakeError::invalid(format!(
                "the producer's ledger has a topic that fills no table here: topic=`{topic}` path=`{}`",
                path.display()
            ))),
        }
    }

    fn check_table(
        &mut self,
        table: &str,
        sources: &[SourceEntry],
        progress: &mut dyn FnMut(&DeepProgress),
    ) -> Result<()> {
        let (rows, dead_letters) = sums::of_ledger(&self.view, sources.iter());
        sums::compare_dead_letters(&self.view, table, dead_letters, &mut self.findings);
        let is_there = self.view.live_table(table).is_some();
        if self.request.reads_rows() && is_there && !self.lacks_files(table) {
            return self.verify_rows(table, sources, progress);
        }
        sums::compare_rows(&self.view, table, rows, &mut self.findings, &mut self.notes);
        Ok(())
    }

    /// Returns whether files of the table are missing, so that only its sums can be compared.
    fn lacks_files(&self, table: &str) -> bool {
        let lacks = |finding: &&Finding| {
            let kind = finding.kind;
            finding.place.table.as_deref() == Some(table)
                && (kind == FindingKind::DataFileMissing
                    || kind == FindingKind::DataFileTruncated
                    || kind == FindingKind::DeleteFileMissing)
        };
        self.findings.detailed().iter().any(lacks)
    }

    fn verify_rows(
        &mut self,
        table: &str,
        sources: &[SourceEntry],
        progress: &mut dyn FnMut(&DeepProgress),
    ) -> Result<()> {
        let name = match table.parse::<TableName>() {
            Ok(name) => name,
            // An operator renamed the table, and the source with it.
            Err(error) => {
                let kind = FindingKind::TableUnreadable;
                self.findings.add(Finding::new(
                    kind,
                    FindingPlace::table(table),
                    1,
                    error.to_string(),
                ));
                return Ok(());
            }
        };
        let begun = self.session.execute("BEGIN");
        let read = begun.and_then(|()| self.read_rows(&name, sources, progress));
        let ended = self.session.execute(if read.is_ok() { "COMMIT" } else { "ROLLBACK" });
        let error = match read.and(ended) {
            Ok(()) => return Ok(()),
            Err(error) => error.to_string(),
        };
        if duckdb_error::is_out_of_memory(&error) {
            return Err(LakeError::invalid(format!(
                "the verification needs more memory; raise --memory-limit, or free space in the \
                 temporary directory: table=`{table}`"
            ))
            .because(error));
        }
        if duckdb_error::is_outage(&error) || duckdb_error::is_instance_broken(&error) {
            return Err(
                LakeError::unavailable(format!("read the table: table=`{table}`")).because(error)
            );
        }
        let detail = error.lines().next().unwrap_or_default().to_owned();
        let kind = FindingKind::TableUnreadable;
        self.findings.add(Finding::new(kind, FindingPlace::table(table), 1, detail));
        Ok(())
    }

    fn read_rows(
        &mut self,
        name: &TableName,
        sources: &[SourceEntry],
        progress: &mut dyn FnMut(&DeepProgress),
    ) -> duckdb::Result<()> {
        let (table, sources) = (name.to_string(), sources.iter().collect());
        let reader = TableReader {
            session: self.session,
            view: &self.view,
            table: name.clone(),
            sources,
            reads_all: self.request.read_all,
        };
        let found = reader.compare(progress)?;
        if self.request.acknowledged.is_some() {
            let (sums, findings) = (&mut self.acknowledged, &mut self.findings);
            let memory = self.request.memory_limit;
            acknowledged::compare(&reader, memory, progress, sums, findings, &mut self.notes)?;
        }
        self.add_offsets(&table, found);
        Ok(())
    }

    /// Adds the differences that a deep verification found to the findings.
    fn add_offsets(&mut self, table: &str, found: OffsetsFound) {
        self.rows_read += found.rows;
        if found.foreign > 0 {
            let (kind, place) = (NoteKind::RowsOfOthers, FindingPlace::table(table));
            self.notes.push(Note { kind, place, count: found.foreign });
        }
        let id = self.view.live_table(table).map_or(-1, |table| table.id);
        let sums = sums::of_files(&self.view, id);
        let hands = sums::OtherClients::of(&self.view, id);
        let missing: i64 = found.apart.iter().map(|(_, apart)| apart.missing.count).sum();
        let missing = sums::missing_kind(missing, &sums);
        for (key, apart) in found.apart {
            let PartitionDifference { missing: mut absent, duplicated, unexpected } = apart;
            absent.detail += &hands.deleted();
            let kinds = [
                (missing, absent),
                (FindingKind::RowsDuplicated, duplicated),
                (FindingKind::RowsUnexpected, unexpected),
            ];
            for (kind, Occurrences { count, offsets, detail }) in kinds {
                if count > 0 {
                    let (count, place) = (count.unsigned_abs(), self.view.place(key));
                    let finding = Finding::new(kind, place, count, detail);
                    self.findings.add(finding.at_offsets(offsets));
                }
            }
        }
    }

    fn finish(mut self, files: FilesChecked) -> Verification {
        let sources: Vec<_> = self.sources().map(|source| self.sums(source)).collect();
        for source in sources.iter().filter(|source| source.counts.given_up > 0) {
            let place = FindingPlace {
                topic: Some(source.topic.clone()),
                ..FindingPlace::table(&source.table)
            };
            let count = source.counts.given_up.unsigned_abs();
            self.notes.push(Note { kind: NoteKind::GivenUp, place, count });
        }
        Verification {
            snapshot: self.view.snapshot,
            sources,
            files,
            rows_read: self.request.reads_rows().then_some(self.rows_read),
            all_columns_read: self.request.read_all,
            acknowledged: self.request.acknowledged.is_some().then_some(self.acknowledged),
            findings: self.findings,
            notes: self.notes,
        }
    }

    fn sums(&self, source: &SourceEntry) -> SourceSums {
        let mut sums = SourceSums {
            table: source.table.clone(),
            topic: source.topic.clone(),
            partitions: 0,
            ranges: 0,
            counts: Counts::default(),
        };
        for (_, chain) in self.view.partitions(source.id) {
            sums.partitions += 1;
            sums.ranges += chain.entries();
            sums.counts = sums.counts.plus(chain.totals());
        }
        sums
    }
}
