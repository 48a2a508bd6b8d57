//! Failpoints: steps of the commit protocol at which a test can stop a worker, a replay or a compactor.
//!
//! They are in every build, so that the tested program is the released one. A failpoint does nothing
//! unless `DUCKTIDE_FAILPOINTS` arms it, a list such as `commit_answered=crash@2,file_synced=fail`: the
//! action, and the hit at which it runs (default 1). Each action runs once.

use std::env;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use thiserror::Error;

const VARIABLE: &str = "DUCKTIDE_FAILPOINTS";

/// Maximum time that the kernel needs to stop every thread of a process.
const STOPS_WITHIN: Duration = Duration::from_millis(500);

/// Step of the protocol, in the order of a batch or a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// Before the footers of a batch's files are written.
    FileWriting,
    /// After its files were closed, before they are durable.
    FileWritten,
    /// After its files were made durable. `fail` means that they were not.
    FileSynced,
    /// After the commit lock was taken. A replay, and a worker with a SQLite catalog.
    LockTaken,
    /// After BEGIN of a replay.
    TransactionBegun,
    /// After a replay added the files of retained rows to its transaction.
    FilesAdded,
    /// After the message was set: COMMIT, or the statement that commits, is next.
    MessageSet,
    /// After COMMIT was answered. `fail` means that the answer was lost.
    CommitAnswered,
    /// Before the group's offsets are committed to Kafka.
    OffsetsMirroring,
    /// After the group's offsets were handed to Kafka's client.
    OffsetsMirrored,
    /// After a worker stopped fetching revoked partitions, before it joins the group again.
    PartitionsRevoked,
    /// After a compactor merged files, before they are in the catalog.
    FilesMerged,
    /// After the merged files replaced their sources in the catalog.
    FilesExchanged,
    /// After a replay read progress, before it reads the tables.
    ProgressRead,
    /// After a replay ended missing files, before it removes the rows of the others.
    MissingFilesEnded,
}

impl Failpoint {
    /// Failpoints of a worker's commit.
    pub const COMMIT: [Self; 8] = [
        Self::FileWriting,
        Self::FileWritten,
        Self::FileSynced,
        Self::LockTaken,
        Self::MessageSet,
        Self::CommitAnswered,
        Self::OffsetsMirroring,
        Self::OffsetsMirrored,
    ];

    /// Failpoints of a worker in a rebalance.
    const REBALANCE: [Self; 1] = [Self::PartitionsRevoked];

    /// Failpoints of a compactor's merge.
    pub const MERGE: [Self; 2] = [Self::FilesMerged, Self::FilesExchanged];

    /// Failpoints that only a replay has.
    const REPLAY: [Self; 4] =
        [Self::ProgressRead, Self::MissingFilesEnded, Self::TransactionBegun, Self::FilesAdded];

    /// Returns the name in `DUCKTIDE_FAILPOINTS`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FileWriting => "file_writing",
            Self::FileWritten => "file_written",
            Self::FileSynced => "file_synced",
            Self::LockTaken => "lock_taken",
            Self::TransactionBegun => "transaction_begun",
            Self::FilesAdded => "files_added",
            Self::MessageSet => "message_set",
            Self::CommitAnswered => "commit_answered",
            Self::OffsetsMirroring => "offsets_mirroring",
            Self::OffsetsMirrored => "offsets_mirrored",
            Self::PartitionsRevoked => "partitions_revoked",
            Self::FilesMerged => "files_merged",
            Self::FilesExchanged => "files_exchanged",
            Self::ProgressRead => "progress_read",
            Self::MissingFilesEnded => "missing_files_ended",
        }
    }

    const fn can_fail(self) -> bool {
        matches!(self, Self::FileSynced | Self::CommitAnswered)
    }
}

/// Action of an armed failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// SIGKILL: the process cannot finish anything.
    Crash,
    /// SIGSTOP: the process stops, with its locks and connections, until SIGCONT.
    Pause,
    /// The step counts as failed, although it succeeded.
    Fail,
}

/// Invalid value of `DUCKTIDE_FAILPOINTS`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("read DUCKTIDE_FAILPOINTS: expected NAME=crash|pause|fail[@HIT],...: value=`{value}`")]
pub struct InvalidFailpoints {
    /// Invalid entry of the list.
    value: String,
}

#[derive(Debug)]
struct Armed {
    failpoint: Failpoint,
    action: Action,
    /// Hits until the action runs, including that one; zero afterwards.
    hits_left: AtomicU32,
}

static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

/// Arms the failpoints that the environment names, once for the process.
pub fn arm() -> Result<(), InvalidFailpoints> {
    let list = env::var(VARIABLE).unwrap_or_default();
    let armed = parse(&list)?;
    if !armed.is_empty() {
        tracing::warn!(
            failpoints = list,
            "failpoints are armed: this process will crash, pause or fail on purpose"
        );
    }
    // A second call does not change the result of the first.
    let _ = ARMED.set(armed);
    Ok(())
}

/// Runs the armed action; returns true if the step counts as failed.
pub fn reached(failpoint: Failpoint) -> bool {
    let Some(armed) = ARMED.get() else { return false };
    let due = armed.iter().find(|armed| armed.failpoint == failpoint && armed.is_due());
    match due.map(|armed| armed.action) {
        None => false,
        Some(Action::Fail) => true,
        Some(Action::Crash) => signal_self(Signal::KILL),
        Some(Action::Pause) => signal_self(Signal::STOP),
    }
}

fn signal_self(signal: Signal) -> bool {
    kill_process(getpid(), signal).expect("a process may signal itself");
    // SIGSTOP can be delivered to any thread, and this one would continue until the kernel has stopped
    // all: long enough for a whole commit on a busy machine.
    thread::sleep(STOPS_WITHIN);
    false
}

impl Armed {
    /// Counts a hit; returns true if the action is due.
    fn is_due(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.hits_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) == Ok(1)
    }
}

fn parse(list: &str) -> Result<Vec<Armed>, InvalidFailpoints> {
    list.split(',').filter(|part| !part.is_empty()).map(parse_one).collect()
}

fn parse_one(part: &str) -> Result<Armed, InvalidFailpoints> {
    let parsed = || {
        let (name, action) = part.split_once('=')?;
        let (action, hit) = action.split_once('@').unwrap_or((action, "1"));
        let failpoints =
            [&Failpoint::COMMIT[..], &Failpoint::REBALANCE, &Failpoint::MERGE, &Failpoint::REPLAY];
        let failpoint = failpoints.into_iter().flatten().copied().find(|one| one.name() == name)?;
        let action = match action {
            "crash" => Action::Crash,
            "pause" => Action::Pause,
            "fail" if failpoint.can_fail() => Action::Fail,
            _ => return None,
        };
        let hits_left = hit.parse().ok().filter(|hit| *hit > 0)?;
        Some(Armed { failpoint, action, hits_left: AtomicU32::new(hits_left) })
    };
    parsed().ok_or_else(|| InvalidFailpoints { value: part.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_failpoints_actions_and_hits() {
        let armed = parse("message_set=pause,commit_answered=fail@3").unwrap();

        let all: Vec<_> = armed.iter().map(|armed| (armed.failpoint, armed.action)).collect();
        let (set, answered) = (Failpoint::MessageSet, Failpoint::CommitAnswered);
        assert_eq!(all, [(set, Action::Pause), (answered, Action::Fail)]);
    }

    #[test]
    fn an_invalid_entry_is_named_in_the_error() {
        for list in ["nowhere=crash", "message_set=fail", "message_set=crash@0", "message_set"] {
            assert_eq!(parse(list).unwrap_err().value, list);
        }
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn an_action_runs_once_at_its_hit() {
        let armed = parse_one("file_synced=fail@2").unwrap();

        let due: Vec<_> = (0..4).map(|_| armed.is_due()).collect();

        assert_eq!(due, [false, true, false, false]);
    }
}
