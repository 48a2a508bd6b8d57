//! Commits resolutions of dead letters, page by page, each dead letter once.
//!
//! A dead letter that another client resolves in the meantime, or that a replay removes, fences the
//! whole page; the ones that are still open are then staged again.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use ducktide_consumer::dead_letter::DecodeFailure;
use ducktide_lake::{DeadLetterFilter, DeadLetterSummary, DuckLake};
use ducktide_protocol::commit::{Commit, CommitOutcome, ProgressDelta};
use ducktide_protocol::dead_letter::{
    RecordLocation, Resolution, dead_letter_shape, dead_letter_table,
};
use ducktide_protocol::position::{Epoch, Partition, SourceId};
use ducktide_protocol::table::TableName;
use ducktide_protocol::{ErrorKind, Lake as _, LakeError, StagedFile, Table};

use super::pages::pages;
use crate::failure::Failure;

/// Maximum number of attempts to commit a page while other clients change its dead letters or its
/// table.
const ATTEMPTS: usize = 5;

/// Maximum time for which a commit is retried while the catalog is unavailable.
const COMMIT_TIMEOUT: Duration = Duration::from_mins(1);

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Contents of the commit of a page.
#[derive(Default)]
pub(super) struct StagedPage {
    /// Dead letters that it resolves.
    pub(super) letters: Vec<RecordLocation>,
    pub(super) files: Vec<StagedFile>,
    /// Dead letters that stay open, with their errors.
    pub(super) still_open: Vec<(RecordLocation, DecodeFailure)>,
}

/// Result for all dead letters.
#[derive(Default)]
pub(super) struct ResolveSummary {
    pub(super) resolved: usize,
    pub(super) still_open: Vec<(RecordLocation, DecodeFailure)>,
}

/// A table and its dead-letter table.
pub(super) struct TablePair {
    pub(super) rows: Table,
    pub(super) letters: Table,
}

/// Resolver of the dead letters of one table.
pub(super) struct Resolver<'a> {
    pub(super) lake: &'a mut DuckLake,
    pub(super) table: TableName,
    pub(super) resolution: Resolution,
}

/// Source and epoch by topic and partition.
type Epochs = BTreeMap<(String, Partition), (SourceId, Epoch)>;

impl Resolver<'_> {
    /// Resolves the dead letters; `stage` writes the files for the open ones of a page.
    pub(super) fn resolve(
        &mut self,
        letters: &[DeadLetterSummary],
        mut stage: impl FnMut(
            &mut DuckLake,
            &TablePair,
            &DeadLetterFilter,
        ) -> Result<StagedPage, Failure>,
    ) -> Result<ResolveSummary, Failure> {
        let mut summary = ResolveSummary::default();
        for page in pages(letters) {
            let open = DeadLetterFilter { places: page, ..DeadLetterFilter::default() };
            let staged = self.resolve_page(&open, &mut stage)?;
            summary.resolved += staged.letters.len();
            summary.still_open.extend(staged.still_open);
        }
        Ok(summary)
    }

    fn resolve_page(
        &mut self,
        open: &DeadLetterFilter,
        stage: &mut impl FnMut(
            &mut DuckLake,
            &TablePair,
            &DeadLetterFilter,
        ) -> Result<StagedPage, Failure>,
    ) -> Result<StagedPage, Failure> {
        for _ in 0..ATTEMPTS {
            let tables = self.tables()?;
            // Before the dead letters, so that a replay in between fences the commit.
            let epochs = self.epochs()?;
            let staged = stage(self.lake, &tables, open)?;
            if staged.letters.is_empty() {
                return Ok(staged);
            }
            let commit = self.commit(&tables, &epochs, &staged)?;
            if let CommitOutcome::Committed(_) = self.send(&commit)? {
                return Ok(staged);
            }
        }
        let text = "other clients change the dead letters continuously; retry later";
        Err(LakeError::unavailable(text).into())
    }

    fn tables(&mut self) -> Result<TablePair, Failure> {
        let rows = self
            .lake
            .find_table(&self.table)?
            .ok_or_else(|| LakeError::invalid(format!("no such table: table=`{}`", self.table)))?;
        let letters =
            self.lake.ensure_table(&dead_letter_table(&self.table), &dead_letter_shape())?;
        Ok(TablePair { rows, letters })
    }

    fn epochs(&mut self) -> Result<Epochs, Failure> {
        let mut epochs = Epochs::new();
        let sources = self.lake.sources()?;
        for source in sources.into_iter().filter(|source| source.spec.table == self.table) {
            for (partition, position) in self.lake.positions(source.id)? {
                let topic = source.spec.topic.clone();
                epochs.insert((topic, partition), (source.id, position.epoch));
            }
        }
        Ok(epochs)
    }

    fn commit(
        &self,
        tables: &TablePair,
        epochs: &Epochs,
        staged: &StagedPage,
    ) -> Result<Commit, Failure> {
        let step = |place: &RecordLocation| {
            let (source, epoch) = epochs.get(&(place.topic.clone(), place.partition))?;
            let RecordLocation { partition, offset, .. } = *place;
            Some(ProgressDelta::resolving(*source, partition, *epoch, offset, self.resolution))
        };
        let steps = staged.letters.iter().map(|place| {
            let unknown = || LakeError::invalid(format!("no source has this dead letter: {place}"));
            step(place).ok_or_else(unknown)
        });
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        let versions = vec![tables.rows.version.clone(), tables.letters.version.clone()];
        Ok(Commit::resolve(self.resolution, steps, staged.files.clone(), versions))
    }

    /// Sends a commit until its outcome is known.
    fn send(&mut self, commit: &Commit) -> Result<CommitOutcome, Failure> {
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        loop {
            match self.lake.commit(commit) {
                Err(error)
                    if error.kind() == ErrorKind::Unavailable && Instant::now() < deadline =>
                {
                    tracing::warn!(
                        error = error.chain(),
                        "catalog unavailable, retrying the commit"
                    );
                    thread::sleep(PAUSE);
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    let text = "unknown commit outcome: the dead letters may be resolved; run the \
                                same command again, it skips resolved ones";
                    return Err(LakeError::unavailable(text).because(error.chain()).into());
                }
                outcome => return Ok(outcome?),
            }
        }
    }
}
