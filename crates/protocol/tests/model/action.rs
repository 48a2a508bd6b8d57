//! Actions of the model, one step each.

use std::fmt;

use ducktide_protocol::position::Offset;

use crate::catalog::FileName;
use crate::design::PARTITIONS;

/// End of a batch in each partition, exclusive; None if it has no records of it.
pub(crate) type Cut = [Option<i64>; PARTITIONS];

/// Step of one party. A party without steps is paused, or slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The worker closes the current batch, stages its file, and sends COMMIT.
    Cut { worker: usize, to: Cut },
    /// The catalog applies or rejects the transaction, and answers if a worker waits.
    Arrive { name: FileName, awaited_by: Option<usize> },
    /// The worker receives its answer, reads progress, and decides.
    Resolve { worker: usize },
    /// The worker reads progress and starts the partitions that wait for it.
    Load { worker: usize },
    /// The worker polls progress, and finds that an operator moved a partition that it reads: it drops
    /// its uncommitted records.
    PollProgress { worker: usize },
    /// The worker loses a partition without uncommitted records.
    Revoke { worker: usize, partition: usize },
    /// The worker loses a partition, and has no time left to flush.
    Lose { worker: usize, partition: usize },

    /// Disturbance: the worker's connection breaks before it has the answer to its COMMIT. The
    /// COMMIT may have arrived, may arrive later, or never.
    CutConnection { worker: usize },
    /// Disturbance: the worker cannot read progress after a COMMIT, and resends it.
    HideProgress { worker: usize },
    /// Disturbance: the worker's process crashes, and is restarted.
    Crash { worker: usize },
    /// Disturbance: the group assigns a partition to a worker; its owner is not notified yet.
    Assign { worker: usize, partition: usize },
    /// Disturbance: an operator's replay, in one transaction. It is rejected and starts again if progress
    /// moves during its preparation, so it is one step.
    Replay { partition: usize, to: Offset },
}

impl Action {
    pub(crate) const fn is_disturbance(self) -> bool {
        matches!(
            self,
            Self::CutConnection { .. }
                | Self::HideProgress { .. }
                | Self::Crash { .. }
                | Self::Assign { .. }
                | Self::Replay { .. }
        )
    }
}

/// Text in a counterexample; the commits of worker 0 are 0-0, 0-1 and so on.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { worker, to } => {
                let of = |(partition, to): (usize, &Option<i64>)| {
                    to.map(|to| format!("partition {partition} before offset {to}"))
                };
                let batch: Vec<_> = to.iter().enumerate().filter_map(of).collect();
                write!(f, "worker {worker} sends a batch: {}", batch.join(", "))
            }
            Self::Arrive { name, awaited_by: Some(_) } => write!(f, "COMMIT of {name} arrives"),
            Self::Arrive { name, awaited_by: None } => write!(f, "COMMIT of {name} arrives late"),
            Self::Resolve { worker } => write!(f, "worker {worker} reads progress and decides"),
            Self::Load { worker } => write!(f, "worker {worker} reads progress and starts reading"),
            Self::PollProgress { worker } => write!(f, "worker {worker} notices another epoch"),
            Self::Revoke { worker, partition } => {
                write!(f, "worker {worker} releases partition {partition}")
            }
            Self::Lose { worker, partition } => {
                write!(f, "worker {worker} drops partition {partition} unflushed")
            }
            Self::CutConnection { worker } => {
                write!(f, "the connection of worker {worker} breaks without an answer")
            }
            Self::HideProgress { worker } => {
                write!(f, "worker {worker} cannot read progress and resends")
            }
            Self::Crash { worker } => write!(f, "worker {worker} crashes and is restarted"),
            Self::Assign { worker, partition } => write!(
                f,
                "worker {worker} gets partition {partition}, whose owner is not notified yet"
            ),
            Self::Replay { partition, to } => {
                write!(f, "an operator replays partition {partition} from offset {to}")
            }
        }
    }
}
