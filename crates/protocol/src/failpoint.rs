//! Places in the commit protocol at which a test can stop a worker, a replay or a compactor.
//!
//! They are in every build: a program without them would be another one than was tested. Nothing
//! happens at a place that is not armed by `DUCKTIDE_FAILPOINTS`, a list such as
//! `commit_answered=crash@2,file_synced=fail`: what happens, and at which visit (the first, if it
//! does not say). Each happens once.

use std::env;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use thiserror::Error;

const VARIABLE: &str = "DUCKTIDE_FAILPOINTS";

/// How long the kernel may take to stop every thread of a process.
const STOPS_WITHIN: Duration = Duration::from_millis(500);

/// A place, in the order in which a batch, or a merge, meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// Before the footers of a batch's files are written.
    FileWriting,
    /// After its files were closed, and before they are durable.
    FileWritten,
    /// After its files were made durable. Here `fail` means that they were not.
    FileSynced,
    /// After the commit lock was taken.
    LockTaken,
    /// After BEGIN.
    TransactionBegun,
    /// After the files were added to the transaction.
    FilesAdded,
    /// After the message was set: COMMIT is next.
    MessageSet,
    /// After COMMIT was answered. Here `fail` means that the answer was lost.
    CommitAnswered,
    /// Before the group's offsets are written to Kafka.
    OffsetsMirroring,
    /// After the group's offsets were handed to Kafka's client.
    OffsetsMirrored,
    /// After a worker stopped fetching revoked partitions, and before it joins the group again.
    PartitionsRevoked,
    /// After a compactor merged files that no catalog knows of yet.
    FilesMerged,
    /// After the catalog has the merged files in the place of their sources.
    FilesExchanged,
    /// After a replay read where its partitions stand, and before it looks at the tables.
    ProgressRead,
    /// After a replay ended missing files, and before it removes the rows of the others.
    MissingFilesEnded,
}

impl Failpoint {
    /// The places of a worker's commit.
    pub const COMMIT: [Self; 10] = [
        Self::FileWriting,
        Self::FileWritten,
        Self::FileSynced,
        Self::LockTaken,
        Self::TransactionBegun,
        Self::FilesAdded,
        Self::MessageSet,
        Self::CommitAnswered,
        Self::OffsetsMirroring,
        Self::OffsetsMirrored,
    ];

    /// The places of a worker in a rebalance.
    const REBALANCE: [Self; 1] = [Self::PartitionsRevoked];

    /// The places of a compactor's merge.
    pub const MERGE: [Self; 2] = [Self::FilesMerged, Self::FilesExchanged];

    /// The places that only a replay has.
    const REPLAY: [Self; 2] = [Self::ProgressRead, Self::MissingFilesEnded];

    /// The name in `DUCKTIDE_FAILPOINTS`.
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

/// What happens at an armed place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// SIGKILL: the process gets no chance to finish anything.
    Crash,
    /// SIGSTOP: the process stands still, with its locks and connections, until SIGCONT.
    Pause,
    /// The step counts as failed, although it did not.
    Fail,
}

/// A list that cannot be followed.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("read DUCKTIDE_FAILPOINTS: expected PLACE=crash|pause|fail[@VISIT],...: value=`{value}`")]
pub struct InvalidFailpoints {
    /// The part that was not understood.
    value: String,
}

#[derive(Debug)]
struct Armed {
    place: Failpoint,
    action: Action,
    /// Visits until it happens, with that one; zero once it has.
    visits_left: AtomicU32,
}

static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

/// Arms what the environment asks for, once for the process.
pub fn arm() -> Result<(), InvalidFailpoints> {
    let list = env::var(VARIABLE).unwrap_or_default();
    let armed = parse(&list)?;
    if !armed.is_empty() {
        tracing::warn!(failpoints = list, "failpoints are armed: this process will hurt itself");
    }
    // A second call leaves the first one's choice in place.
    let _ = ARMED.set(armed);
    Ok(())
}

/// Does what is armed here; whether the step just done counts as failed.
pub fn reached(place: Failpoint) -> bool {
    let Some(armed) = ARMED.get() else { return false };
    let due = armed.iter().find(|armed| armed.place == place && armed.is_due());
    match due.map(|armed| armed.action) {
        None => false,
        Some(Action::Fail) => true,
        Some(Action::Crash) => signal_self(Signal::KILL),
        Some(Action::Pause) => signal_self(Signal::STOP),
    }
}

fn signal_self(signal: Signal) -> bool {
    kill_process(getpid(), signal).expect("a process may signal itself");
    // SIGSTOP may be given to any thread, and this one would run on until the kernel has stopped all:
    // long enough for a whole commit on a busy machine.
    thread::sleep(STOPS_WITHIN);
    false
}

impl Armed {
    /// Counts a visit; whether this is the one.
    fn is_due(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.visits_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) == Ok(1)
    }
}

fn parse(list: &str) -> Result<Vec<Armed>, InvalidFailpoints> {
    list.split(',').filter(|part| !part.is_empty()).map(parse_one).collect()
}

fn parse_one(part: &str) -> Result<Armed, InvalidFailpoints> {
    let understood = || {
        let (name, action) = part.split_once('=')?;
        let (action, visit) = action.split_once('@').unwrap_or((action, "1"));
        let places =
            [&Failpoint::COMMIT[..], &Failpoint::REBALANCE, &Failpoint::MERGE, &Failpoint::REPLAY];
        let place = places.into_iter().flatten().copied().find(|place| place.name() == name)?;
        let action = match action {
            "crash" => Action::Crash,
            "pause" => Action::Pause,
            "fail" if place.can_fail() => Action::Fail,
            _ => return None,
        };
        let visits_left = visit.parse().ok().filter(|visit| *visit > 0)?;
        Some(Armed { place, action, visits_left: AtomicU32::new(visits_left) })
    };
    understood().ok_or_else(|| InvalidFailpoints { value: part.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_places_actions_and_visits() {
        let armed = parse("message_set=pause,commit_answered=fail@3").unwrap();

        let all: Vec<_> = armed.iter().map(|armed| (armed.place, armed.action)).collect();
        let (set, answered) = (Failpoint::MessageSet, Failpoint::CommitAnswered);
        assert_eq!(all, [(set, Action::Pause), (answered, Action::Fail)]);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for list in ["nowhere=crash", "message_set=fail", "message_set=crash@0", "message_set"] {
            assert_eq!(parse(list).unwrap_err().value, list);
        }
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn it_happens_once_at_the_visit_it_was_asked_for() {
        let armed = parse_one("file_synced=fail@2").unwrap();

        let due: Vec<_> = (0..4).map(|_| armed.is_due()).collect();

        assert_eq!(due, [false, true, false, false]);
    }
}
