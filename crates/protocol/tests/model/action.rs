//! What can happen, one step at a time.

use std::fmt;

use ducktide_protocol::position::Offset;

use crate::catalog::FileName;
use crate::design::PARTITIONS;

/// Up to before which offset of each partition a batch goes; None if it has nothing of it.
pub(crate) type Cut = [Option<i64>; PARTITIONS];

/// One step of one party. Whoever takes none for a while is paused, or slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The worker closes the batch that fills, stages its file, and sends COMMIT.
    Cut { worker: usize, to: Cut },
    /// The catalog applies or refuses the transaction, and answers if somebody waits.
    Arrive { name: FileName, awaited_by: Option<usize> },
    /// The worker takes its answer, reads progress, and decides.
    Resolve { worker: usize },
    /// The worker reads progress and starts the partitions that wait for it.
    Load { worker: usize },
    /// The worker reads progress now and then, and finds that an operator moved a partition that it
    /// reads: it drops what it has read.
    Look { worker: usize },
    /// The worker learns that it lost a partition, and has nothing of it that is not committed.
    Revoke { worker: usize, partition: usize },
    /// The worker learns that it lost a partition, and has no time left to flush.
    Lose { worker: usize, partition: usize },

    /// Disturbance: the worker's connection breaks before it has the answer to its COMMIT. The
    /// COMMIT may have arrived, may arrive later, or never.
    CutConnection { worker: usize },
    /// Disturbance: the worker cannot read progress after a COMMIT, and sends it again.
    HideProgress { worker: usize },
    /// Disturbance: the worker's process dies, and is started again.
    Crash { worker: usize },
    /// Disturbance: the group gives a partition to a worker; its owner does not know yet.
    Assign { worker: usize, partition: usize },
    /// Disturbance: an operator's replay, in one transaction. Progress that moves while it is
    /// prepared refuses it, and it begins again, so that this is one step.
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

/// As a counterexample tells it; the commits of worker 0 are 0-0, 0-1 and so on.
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
            Self::Look { worker } => write!(f, "worker {worker} notices another epoch"),
            Self::Revoke { worker, partition } => {
                write!(f, "worker {worker} lets partition {partition} go")
            }
            Self::Lose { worker, partition } => {
                write!(f, "worker {worker} drops partition {partition} unflushed")
            }
            Self::CutConnection { worker } => {
                write!(f, "the connection of worker {worker} breaks without an answer")
            }
            Self::HideProgress { worker } => {
                write!(f, "worker {worker} cannot read progress and sends again")
            }
            Self::Crash { worker } => write!(f, "worker {worker} dies and is started again"),
            Self::Assign { worker, partition } => write!(
                f,
                "worker {worker} is given partition {partition}, whose owner does not know yet"
            ),
            Self::Replay { partition, to } => {
                write!(f, "an operator replays partition {partition} from offset {to}")
            }
        }
    }
}
