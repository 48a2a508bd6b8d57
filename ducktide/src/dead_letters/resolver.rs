//! Commits what becomes of letters, page by page, each letter once.
//!
//! A letter that somebody else resolves meanwhile, or that a replay takes out, fences the whole page;
//! then the letters that are still open are staged again.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use ducktide_consumer::dead_letter::DecodeFailure;
use ducktide_protocol::commit::{Commit, CommitOutcome, ProgressDelta};
use ducktide_protocol::dead_letter::{RecordPlace, Resolution, dead_letter_shape, dead_letter_table};
use ducktide_protocol::position::{Epoch, Partition, SourceId};
use ducktide_protocol::table::TableName;
use ducktide_lake::{DuckLake, LetterFilter, LetterSummary};
use ducktide_protocol::{ErrorKind, Lake as _, LakeError, StagedFile, Table};

use super::pages::pages;
use crate::failure::Failure;

/// How often a page is staged again after others changed its letters or its table.
const ATTEMPTS: usize = 5;

/// How long a commit is sent again while the catalog does not answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// What a page's commit brings.
#[derive(Default)]
pub(super) struct Staged {
    /// The letters that it resolves.
    pub(super) letters: Vec<RecordPlace>,
    pub(super) files: Vec<StagedFile>,
    /// Letters that stay open, and why.
    pub(super) refused: Vec<(RecordPlace, DecodeFailure)>,
}

/// What became of all letters.
#[derive(Default)]
pub(super) struct Summary {
    pub(super) resolved: usize,
    pub(super) refused: Vec<(RecordPlace, DecodeFailure)>,
}

/// The tables that letters go between.
pub(super) struct Tables {
    pub(super) rows: Table,
    pub(super) letters: Table,
}

/// Resolves letters of one table.
pub(super) struct Resolver<'a> {
    pub(super) lake: &'a mut DuckLake,
    pub(super) table: TableName,
    pub(super) resolution: Resolution,
}

/// Where partitions stand: the source and epoch of each.
type Epochs = BTreeMap<(String, Partition), (SourceId, Epoch)>;

impl Resolver<'_> {
    /// Resolves the letters; `stage` writes the files for those of a page that are open.
    pub(super) fn resolve(
        &mut self,
        letters: &[LetterSummary],
        mut stage: impl FnMut(&mut DuckLake, &Tables, &LetterFilter) -> Result<Staged, Failure>,
    ) -> Result<Summary, Failure> {
        let mut summary = Summary::default();
        for page in pages(letters) {
            let open = LetterFilter { places: page, ..LetterFilter::default() };
            let staged = self.resolve_page(&open, &mut stage)?;
            summary.resolved += staged.letters.len();
            summary.refused.extend(staged.refused);
        }
        Ok(summary)
    }

    fn resolve_page(
        &mut self,
        open: &LetterFilter,
        stage: &mut impl FnMut(&mut DuckLake, &Tables, &LetterFilter) -> Result<Staged, Failure>,
    ) -> Result<Staged, Failure> {
        for _ in 0..ATTEMPTS {
            let tables = self.tables()?;
            // Before the letters: a replay in between then fences the commit.
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
        Err(LakeError::unavailable("the letters are changed by others all the time").into())
    }

    fn tables(&mut self) -> Result<Tables, Failure> {
        let rows = self.lake.find_table(&self.table)?.ok_or_else(|| {
            LakeError::invalid(format!("there is no such table: table=`{}`", self.table))
        })?;
        let letters =
            self.lake.ensure_table(&dead_letter_table(&self.table), &dead_letter_shape())?;
        Ok(Tables { rows, letters })
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

    fn commit(&self, tables: &Tables, epochs: &Epochs, staged: &Staged) -> Result<Commit, Failure> {
        let step = |place: &RecordPlace| {
            let (source, epoch) = epochs.get(&(place.topic.clone(), place.partition))?;
            let RecordPlace { partition, offset, .. } = *place;
            Some(ProgressDelta::resolving(*source, partition, *epoch, offset, self.resolution))
        };
        let steps = staged.letters.iter().map(|place| {
            let unknown = || LakeError::invalid(format!("no source has this letter: {place}"));
            step(place).ok_or_else(unknown)
        });
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        let versions = vec![tables.rows.version.clone(), tables.letters.version.clone()];
        Ok(Commit::resolve(self.resolution, steps, staged.files.clone(), versions))
    }

    /// Sends a commit until its outcome is known.
    fn send(&mut self, commit: &Commit) -> Result<CommitOutcome, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lake.commit(commit) {
                Err(error)
                    if error.kind() == ErrorKind::Unavailable && Instant::now() < deadline =>
                {
                    tracing::warn!(error = error.chain(), "sending the commit again");
                    thread::sleep(PAUSE);
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    let text = "it is not known whether letters were resolved; give the same \
                                command again: those that were are left alone";
                    return Err(LakeError::unavailable(text).because(error.chain()).into());
                }
                outcome => return Ok(outcome?),
            }
        }
    }
}
