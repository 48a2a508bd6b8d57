//! Proves a lake: did we lose or double anything?
//!
//! [`verify()`] reads the catalog in one transaction (`catalog_view`), follows each
//! partition's ledger (`chain`), compares sums (`sums`) and looks at the files (`files`). A deep look
//! reads the offsets of the rows themselves (`offsets`), at the snapshot of that transaction, and can
//! compare them with what a producer saw acknowledged (`acknowledged`). It may run beside workers
//! and the compactor at any time: it takes no lock and sees one instant.

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
pub use self::finding::{Finding, FindingKind, Findings, Note, NoteKind, Place};
pub use self::offsets::DeepProgress;
use self::offsets::{Apart, Occurrences, OffsetsFound, TableReader};
use self::producer_ledger::ProducerLedger;
pub use self::record::{LastVerification, last_verification, record_verification};

/// Looks at a lake that a compactor with a very short retention cleans up under our hands.
const ATTEMPTS: usize = 3;

/// What is to be proved.
#[derive(Clone, Debug, Default)]
pub struct VerifyRequest {
    /// One table only, with what fills it; all of the lake otherwise.
    pub table: Option<TableName>,
    /// Whether the rows' offsets are read.
    pub deep: bool,
    /// Whether all other columns are read too, so that what cannot be decoded is found.
    pub read_all: bool,
    /// A producer's ledger to compare with; reads the rows' offsets too.
    pub acknowledged: Option<PathBuf>,
    /// The memory that DuckDB may use for a deep look, bytes; it spills to disk beyond.
    pub memory_limit: u64,
}

impl VerifyRequest {
    const fn reads_rows(&self) -> bool {
        self.deep || self.read_all || self.acknowledged.is_some()
    }
}

/// What a verification looked at, and what it found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The snapshot that was judged.
    pub snapshot: SnapshotId,
    /// The sums of the ledger, for each source.
    pub sources: Vec<SourceSums>,
    /// The files that were looked at.
    pub files: FilesChecked,
    /// Rows whose offsets were read; None without a deep look.
    pub rows_read: Option<u64>,
    /// Whether all columns of these rows were read.
    pub all_columns_read: bool,
    /// The comparison with a producer's ledger, when there was one.
    pub acknowledged: Option<Acknowledged>,
    /// Everything that is wrong.
    pub findings: Findings,
    /// What is not wrong, and worth saying.
    pub notes: Vec<Note>,
}

/// The ledger of one source, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSums {
    /// The table with its schema.
    pub table: String,
    /// The topic.
    pub topic: String,
    /// How many partitions have a ledger.
    pub partitions: u64,
    /// How many ranges they have.
    pub ranges: u64,
    /// What became of their records.
    pub counts: Counts,
}

/// Proves the lake, or one table of it. Says how far a deep look is.
///
/// An error means that it could not be judged; what is wrong with the lake is in the findings.
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
        // A file may rightly vanish between the list of files and the read.
        if attempt == ATTEMPTS || !unreadable || !files_are_there {
            return Ok(verification);
        }
        attempt += 1;
    }
}

/// A session for scanning: a worker's is small on purpose. Order does not matter to sums, and
/// keeping it costs memory.
///
/// The producer's ledger, if there is one, can be read until what is returned is dropped.
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
        .map_err(|error| LakeError::invalid("prepare the deep look").because(error))?;
    let Some(path) = &request.acknowledged else { return Ok(None) };
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    progress(&DeepProgress::Ledger { bytes });
    let name = format!("ducktide-ledger-{}", Uuid::new_v4().simple());
    ProducerLedger::load(session, path, std::env::temp_dir().join(name)).map(Some)
}

/// One look at one instant.
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

    /// The sources that were asked for.
    fn sources(&self) -> impl Iterator<Item = &SourceEntry> {
        let table = self.request.table.as_ref().map(ToString::to_string);
        let wanted = move |source: &&SourceEntry| table.as_ref().is_none_or(|t| *t == source.table);
        self.view.sources.iter().filter(wanted)
    }

    /// The tables that sources fill, with their sources.
    fn tables(&self) -> BTreeMap<String, Vec<SourceEntry>> {
        let mut tables: BTreeMap<String, Vec<SourceEntry>> = BTreeMap::new();
        for source in self.sources() {
            tables.entry(source.table.clone()).or_default().push(source.clone());
        }
        tables
    }

    /// Records of a topic that fills no table would be called lost, or be passed over: neither is
    /// an answer.
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
        let (rows, letters) = sums::of_ledger(&self.view, sources.iter());
        sums::compare_dead_letters(&self.view, table, letters, &mut self.findings);
        let is_there = self.view.live_table(table).is_some();
        if self.request.reads_rows() && is_there && !self.lacks_files(table) {
            return self.look_deep(table, sources, progress);
        }
        sums::compare_rows(&self.view, table, rows, &mut self.findings, &mut self.notes);
        Ok(())
    }

    /// Whether the table cannot be read whole: its sums are compared all the same.
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

    fn look_deep(
        &mut self,
        table: &str,
        sources: &[SourceEntry],
        progress: &mut dyn FnMut(&DeepProgress),
    ) -> Result<()> {
        let name = match table.parse::<TableName>() {
            Ok(name) => name,
            // A person renamed the table, and the source with it.
            Err(error) => {
                let kind = FindingKind::TableUnreadable;
                self.findings.add(Finding::new(kind, Place::table(table), 1, error.to_string()));
                return Ok(());
            }
        };
        let begun = self.session.execute("BEGIN");
        let looked = begun.and_then(|()| self.read_rows(&name, sources, progress));
        let ended = self.session.execute(if looked.is_ok() { "COMMIT" } else { "ROLLBACK" });
        let error = match looked.and(ended) {
            Ok(()) => return Ok(()),
            Err(error) => error.to_string(),
        };
        if duckdb_error::is_out_of_memory(&error) {
            return Err(LakeError::invalid(format!(
                "the proof needs more memory; raise --memory-limit, or leave more room in the \
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
        self.findings.add(Finding::new(kind, Place::table(table), 1, detail));
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

    /// Turns what a deep look found into findings.
    fn add_offsets(&mut self, table: &str, found: OffsetsFound) {
        self.rows_read += found.rows;
        if found.foreign > 0 {
            let (kind, place) = (NoteKind::RowsOfOthers, Place::table(table));
            self.notes.push(Note { kind, place, count: found.foreign });
        }
        let id = self.view.live_table(table).map_or(-1, |table| table.id);
        let sums = sums::of_files(&self.view, id);
        let hands = sums::OtherHands::of(&self.view, id);
        let missing: i64 = found.apart.iter().map(|(_, apart)| apart.missing.count).sum();
        let missing = sums::missing_kind(missing, &sums);
        for (key, apart) in found.apart {
            let Apart { missing: mut absent, doubled, unexpected } = apart;
            absent.detail += &hands.deleted();
            let kinds = [
                (missing, absent),
                (FindingKind::RowsDoubled, doubled),
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
            let place = Place { topic: Some(source.topic.clone()), ..Place::table(&source.table) };
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
