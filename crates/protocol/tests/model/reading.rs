//! Model of reading: one partition from librdkafka to the batcher.
//!
//! Offsets can be missing in a topic, so a jump is not an error. But queued records of an earlier
//! generation, and stale records of librdkafka, also look like a jump, and the offsets in between would
//! count as a gap: lost, with a ledger that adds up.
//!
//! | here | in the consumer |
//! |---|---|
//! | [`Step::Deliver`] | the poll thread and `assignment::Assignment::judge` |
//! | [`Step::Take`] | `batcher::Running::accept` and `batch::Track` |
//! | [`Step::Commit`] | a cut whose commit is applied: the other model has the rest |
//! | [`Step::Reset`] | `worker::Worker::reset`, then `load_all` and `loaded`; the batcher applies it before its next delivery, the poll thread at any later time ([`Step::Apply`]) |

use ducktide_protocol::invariants::{self, Progress, RecordId};
use ducktide_protocol::position::{Epoch, Offset, Position};
use stateright::{Model, Property};

use crate::catalog::{key, record};

/// Offsets 1 and 4 hold no record.
const LOG: [bool; 6] = [true, false, true, true, false, true];

/// Part that is omitted, to check that the model detects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oversight {
    None,
    /// Records have no generation.
    NoGenerations,
    /// A jump is accepted without a second fetch.
    NoSecondFetch,
}

/// Model with two resets at any time, and one delivery of stale records.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) oversight: Oversight,
}

/// State of a partition in the poll thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Poll {
    generation: u8,
    next: i64,
    /// Later offset that was received instead of `next`, and not accepted yet.
    jump: Option<i64>,
    /// Position of librdkafka.
    fetch: i64,
}

/// Record between poll thread and batcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Delivery {
    generation: u8,
    offset: i64,
}

/// Records of the batcher since the last cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Track {
    generation: u8,
    next: i64,
    rows: Vec<RecordId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Moment {
    poll: Poll,
    queue: Vec<Delivery>,
    track: Track,
    /// Generation and position that the poll thread has not applied yet.
    pending_reset: Option<(u8, i64)>,
    progress: i64,
    rows: Vec<RecordId>,
    resets_left: u8,
    stale_left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// librdkafka delivers the next record, and the poll thread checks it.
    Deliver,
    /// librdkafka delivers a record that it fetched for an earlier position.
    DeliverStale { offset: i64 },
    /// The batcher takes the next record from the queue.
    Take,
    /// The records of the batcher are committed.
    Commit,
    /// The worker drops uncommitted records, and reads from the committed position.
    Reset,
    /// The poll thread applies the reset.
    Apply,
}

impl Moment {
    fn new() -> Self {
        Self {
            poll: Poll { generation: 0, next: 0, jump: None, fetch: 0 },
            queue: Vec::new(),
            track: Track { generation: 0, next: 0, rows: Vec::new() },
            pending_reset: None,
            progress: 0,
            rows: Vec::new(),
            resets_left: 2,
            stale_left: 1,
        }
    }

    fn deliver(&mut self, oversight: Oversight, offset: i64) {
        let Poll { generation, next, jump, .. } = self.poll;
        let is_accepted = jump == Some(offset) || oversight == Oversight::NoSecondFetch;
        if offset > next && !is_accepted {
            (self.poll.jump, self.poll.fetch) = (Some(offset), next);
            return;
        }
        (self.poll.jump, self.poll.fetch) = (None, offset + 1);
        self.poll.next = next.max(offset + 1);
        self.queue.push(Delivery { generation, offset });
    }

    fn take(&mut self, oversight: Oversight) {
        let Delivery { generation, offset } = self.queue.remove(0);
        let is_ours = generation == self.track.generation || oversight == Oversight::NoGenerations;
        if is_ours && offset >= self.track.next {
            self.track.next = offset + 1;
            self.track.rows.push(record(0, offset));
        }
    }

    fn commit(&mut self) {
        self.progress = self.track.next;
        self.rows.append(&mut self.track.rows);
    }

    fn reset(&mut self) {
        self.resets_left -= 1;
        let generation = self.track.generation + 1;
        self.track = Track { generation, next: self.progress, rows: Vec::new() };
        self.pending_reset = Some((generation, self.progress));
    }

    fn apply_reset(&mut self) {
        if let Some((generation, next)) = self.pending_reset.take() {
            self.poll = Poll { generation, next, jump: None, fetch: next };
        }
    }

    fn position(&self) -> Progress {
        let position = Position { epoch: Epoch(0), next_offset: Offset(self.progress) };
        Progress::from([(key(0), position)])
    }
}

/// Returns the offsets of records from an offset on.
fn from(offset: i64) -> impl Iterator<Item = i64> {
    let held = (0..).zip(LOG).filter(|(_, is_record)| *is_record);
    held.map(|(at, _)| at).filter(move |at| *at >= offset)
}

impl Model for Reading {
    type State = Moment;
    type Action = Step;

    fn init_states(&self) -> Vec<Moment> {
        vec![Moment::new()]
    }

    fn actions(&self, moment: &Moment, steps: &mut Vec<Step>) {
        if from(moment.poll.fetch).next().is_some() {
            steps.push(Step::Deliver);
        }
        if moment.stale_left > 0 {
            steps.extend(from(0).map(|offset| Step::DeliverStale { offset }));
        }
        if !moment.queue.is_empty() {
            steps.push(Step::Take);
        }
        if moment.track.next > moment.progress {
            steps.push(Step::Commit);
        }
        if moment.resets_left > 0 {
            steps.push(Step::Reset);
        }
        if moment.pending_reset.is_some() {
            steps.push(Step::Apply);
        }
    }

    fn next_state(&self, moment: &Moment, step: Step) -> Option<Moment> {
        let mut next = moment.clone();
        match step {
            Step::Deliver => {
                let offset = from(moment.poll.fetch).next()?;
                next.deliver(self.oversight, offset);
            }
            Step::DeliverStale { offset } => {
                next.stale_left -= 1;
                next.deliver(self.oversight, offset);
            }
            Step::Take => next.take(self.oversight),
            Step::Commit => next.commit(),
            Step::Reset => next.reset(),
            Step::Apply => next.apply_reset(),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no_loss", |_, moment: &Moment| {
                let records: Vec<_> = from(0).map(|offset| record(0, offset)).collect();
                invariants::no_loss(&records, &moment.rows, &moment.position()).is_ok()
            }),
            Property::always("no_duplicate", |_, moment: &Moment| {
                invariants::no_duplicate(&moment.rows).is_ok()
            }),
            Property::sometimes("a record of an earlier generation is taken", |_, m: &Moment| {
                m.queue.first().is_some_and(|first| first.generation < m.track.generation)
            }),
            Property::sometimes("everything is in the lake", |_, moment: &Moment| {
                moment.rows.len() == from(0).count()
            }),
        ]
    }
}
