//! Contract between a worker and its lake, checked for each process.
//!
//! The lake rejects a commit that does not continue its progress, so that a worker that breaks the contract
//! may do no harm. The simulation reports it nevertheless: the rejection is the last line of defence.

use std::collections::{BTreeMap, BTreeSet};

use ducktide_protocol::commit::{Commit, CommitOutcome, ProgressDelta};
use ducktide_protocol::invariants::PartitionKey;
use ducktide_protocol::position::{Partition, Position, SourceId};
use ducktide_protocol::{Result, StagedFile};

use super::violation::Violation;

/// Commits that a process may send next.
#[derive(Clone, Debug, Default)]
pub(super) struct Contract {
    /// Positions of each partition that were reported to the process. A commit may begin at an earlier one, because
    /// it may be sent before the worker handles the last answer.
    reported: BTreeMap<PartitionKey, Vec<Position>>,
    /// Commit whose outcome is unknown: only the same one may be sent, or positions are loaded.
    unknown: Option<(Vec<ProgressDelta>, Vec<StagedFile>)>,
    /// Sources whose positions were loaded since the last commit that was dropped; None before the first.
    loaded_since_drop: Option<BTreeSet<SourceId>>,
}

impl Contract {
    pub(super) fn loaded(&mut self, source: SourceId, positions: &[(Partition, Position)]) {
        for (partition, position) in positions {
            self.tell((source, *partition), *position);
        }
        self.unknown = None;
        if let Some(loaded) = &mut self.loaded_since_drop {
            loaded.insert(source);
        }
    }

    fn tell(&mut self, key: PartitionKey, position: Position) {
        let reported = self.reported.entry(key).or_default();
        if reported.last() != Some(&position) {
            reported.push(position);
        }
    }

    /// Checks a commit before it is sent.
    pub(super) fn check(&self, commit: &Commit) -> std::result::Result<(), Violation> {
        if let Some((progress, files)) = &self.unknown
            && (progress != commit.progress() || files != commit.files())
        {
            return Err(format!("another commit while the outcome of one is unknown: {commit:?}"));
        }
        for step in commit.progress() {
            let key = (step.source, step.partition);
            let is_loaded =
                self.loaded_since_drop.as_ref().is_none_or(|loaded| loaded.contains(&step.source));
            if !is_loaded {
                return Err(format!("a commit after a dropped one, without a load: {step:?}"));
            }
            let reported = self.reported.get(&key).map_or(&[][..], Vec::as_slice);
            if !reported.contains(&step.before()) {
                return Err(format!(
                    "a commit from another position than reported: {reported:?} {step:?}"
                ));
            }
        }
        Ok(())
    }

    /// Records the answer to a commit.
    pub(super) fn answered(&mut self, commit: &Commit, answer: &Result<CommitOutcome>) {
        match answer {
            Ok(CommitOutcome::Committed(_)) => {
                for step in commit.progress() {
                    // The next batch is cut after this answer.
                    self.reported.insert((step.source, step.partition), vec![step.after()]);
                }
                self.unknown = None;
            }
            Ok(_) => (self.unknown, self.loaded_since_drop) = (None, Some(BTreeSet::new())),
            Err(_) => {
                let sent = (commit.progress().to_vec(), commit.files().to_vec());
                self.unknown = Some(sent);
            }
        }
    }
}
