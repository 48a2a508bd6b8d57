//! Schedules: a configuration, and actions of producers, operators and faults with their times.

use std::fmt::Write as _;

use super::draw::Draw;
use super::payload::Payload;
use crate::source::kafka_config::GroupProtocol;

/// Configuration of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) workers: usize,
    pub(super) topics: usize,
    /// Partitions of each topic.
    pub(super) partitions: i32,
    pub(super) batchers: usize,
    pub(super) protocol: GroupProtocol,
    /// True if the members are static.
    pub(super) is_static: bool,
    pub(super) dedupes: bool,
    pub(super) flush_millis: u64,
    /// Number of rows that ends a batch.
    pub(super) flush_rows: u64,
    /// Bytes of records in flight at which polling pauses.
    pub(super) in_flight_bytes: usize,
}

/// Action at a time. Partitions are counted over all topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Producers append records.
    Produce {
        partition: usize,
        count: u64,
        payload: Payload,
    },
    /// A transaction appends records, and ends with [`Action::EndTransaction`].
    ProduceInTransaction {
        partition: usize,
        count: u64,
    },
    EndTransaction {
        partition: usize,
        commits: bool,
    },
    /// A producer publishes events again that it has published before.
    Repeat {
        partition: usize,
        count: u64,
    },
    /// Log compaction removes some records.
    Compact {
        partition: usize,
    },
    /// Retention removes all records except the last ones.
    DeleteRecords {
        partition: usize,
        keep: i64,
    },
    /// The topic is deleted and created again.
    RecreateTopic {
        topic: usize,
    },
    /// All brokers are unavailable.
    BrokersDown {
        millis: u64,
    },
    /// Answers of the brokers take this long.
    SlowBrokers {
        latency: u64,
        millis: u64,
    },
    /// Fetches lack their first records.
    LosesFirst {
        millis: u64,
    },
    /// A process is killed, and restarted after some time.
    Kill {
        worker: usize,
        restart_after: u64,
    },
    /// A process does not run for some time.
    Pause {
        worker: usize,
        millis: u64,
    },
    /// A process does not run for some time, and another one with its name is started meanwhile.
    Replace {
        worker: usize,
        millis: u64,
    },
    /// A process receives a request to stop, and started again after some time.
    Stop {
        worker: usize,
        restart_after: u64,
    },
    /// A process does not reach the brokers.
    Disconnect {
        worker: usize,
        millis: u64,
    },
    /// One thread of a process does not run for some time.
    SlowThread {
        worker: usize,
        thread: usize,
        millis: u64,
    },
    /// A commit is not received.
    RequestLost,
    /// A commit is applied, and its answer is lost.
    AnswerLost,
    AnswerAndCheckLost,
    /// A commit is applied after some time.
    LateCommit {
        millis: u64,
    },
    FilesUnusable,
    LakeUnavailable {
        millis: u64,
    },
    /// Another client alters a table.
    AlterTable {
        topic: usize,
        adds_column: bool,
    },
    /// An operator moves a partition back or forward.
    Replay {
        partition: usize,
        records: i64,
    },
    Skip {
        partition: usize,
        records: i64,
    },
    RegistryUnavailable {
        millis: u64,
    },
    /// The registry answers once that a schema does not exist.
    RegistryForgets,
    DiskFull {
        millis: u64,
    },
}

/// A reproducible run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    /// Seed of the delays.
    pub(super) seed: u64,
    pub(super) setup: Setup,
    /// Actions with their times, milliseconds.
    pub(super) actions: Vec<(u64, Action)>,
}

/// Length of the part of a schedule with actions, milliseconds.
const LENGTH: u64 = 30_000;

impl Schedule {
    /// Draws a schedule.
    pub(super) fn of_seed(seed: u64) -> Self {
        let draw = &mut Draw::new(seed);
        let setup = draw_setup(draw);
        let mut actions = Vec::new();
        draw_records(&setup, draw, &mut actions);
        let faults = draw.between(12, 28);
        for _ in 0..faults {
            let at = draw.below(LENGTH);
            actions.push((at, draw_fault(&setup, draw)));
        }
        remove_confirmed_absence(&mut actions);
        actions.sort_by_key(|(at, _)| *at);
        Self { seed, setup, actions }
    }

    /// Returns the number of faults.
    pub(super) fn faults(&self) -> usize {
        self.actions.iter().filter(|(_, action)| !action.is_of_producer()).count()
    }

    /// Returns the schedule as a test.
    pub(super) fn as_test(&self, failure: &str) -> String {
        let mut text = String::new();
        let failure = failure.lines().next().unwrap_or_default();
        let Setup { protocol, .. } = &self.setup;
        let setup = format!("{:?}", self.setup).replace(
            &format!("protocol: {protocol:?}"),
            &format!("protocol: GroupProtocol::{protocol:?}"),
        );
        writeln!(text, "/// {failure}\n#[test]\nfn schedule_{}() {{", self.seed).expect("text");
        writeln!(text, "    let setup = {setup};").expect("text");
        writeln!(text, "    let actions = vec![").expect("text");
        for (at, action) in &self.actions {
            let action = format!("{action:?}").replace("payload: ", "payload: Payload::");
            writeln!(text, "        ({at}, Action::{action}),").expect("text");
        }
        writeln!(
            text,
            "    ];\n    check(&Schedule {{ seed: {}, setup, actions }});\n}}",
            self.seed
        )
        .expect("text");
        text
    }
}

impl Action {
    const fn is_of_producer(&self) -> bool {
        matches!(
            self,
            Self::Produce { .. }
                | Self::ProduceInTransaction { .. }
                | Self::EndTransaction { .. }
                | Self::Repeat { .. }
        )
    }

    /// Returns simpler actions that may fail in the same way.
    pub(super) fn simpler(&self) -> Vec<Self> {
        let half = |number: u64| (number > 1).then_some(number / 2);
        let shorter = |number: u64| (number > 100).then_some(number / 2);
        let one = |simpler: Option<Self>| simpler.into_iter().collect();
        match *self {
            Self::Produce { partition, count, payload } => {
                let plain = (payload != Payload::Row).then_some(Self::Produce {
                    partition,
                    count,
                    payload: Payload::Row,
                });
                let fewer = half(count).map(|count| Self::Produce { partition, count, payload });
                plain.into_iter().chain(fewer).collect()
            }
            Self::ProduceInTransaction { partition, count } => {
                one(half(count).map(|count| Self::ProduceInTransaction { partition, count }))
            }
            Self::Repeat { partition, count } => {
                one(half(count).map(|count| Self::Repeat { partition, count }))
            }
            Self::Kill { worker, restart_after } => {
                one(shorter(restart_after)
                    .map(|restart_after| Self::Kill { worker, restart_after }))
            }
            Self::Pause { worker, millis } => {
                one(shorter(millis).map(|millis| Self::Pause { worker, millis }))
            }
            Self::SlowThread { worker, thread, millis } => {
                one(shorter(millis).map(|millis| Self::SlowThread { worker, thread, millis }))
            }
            Self::LateCommit { millis } => {
                one(shorter(millis).map(|millis| Self::LateCommit { millis }))
            }
            _ => Vec::new(),
        }
    }
}

/// Keeps at most one false answer of the registry, and only without true ones that a schema does not exist:
/// two such answers in a row are a confirmation.
fn remove_confirmed_absence(actions: &mut Vec<(u64, Action)>) {
    let is_true = |(_, action): &(u64, Action)| {
        matches!(action, Action::Produce { payload: Payload::UnknownSchema, .. })
    };
    let mut is_allowed = !actions.iter().any(is_true);
    actions.retain(|(_, action)| {
        *action != Action::RegistryForgets || std::mem::replace(&mut is_allowed, false)
    });
}

fn draw_setup(draw: &mut Draw) -> Setup {
    let is_small = draw.chance(20);
    Setup {
        workers: draw.pick(&[3, 3, 3, 2, 1]),
        topics: draw.pick(&[1, 1, 1, 2]),
        partitions: draw.pick(&[4, 4, 4, 2, 3]),
        batchers: draw.pick(&[1, 2, 2, 3]),
        protocol: draw.pick(&[GroupProtocol::Classic, GroupProtocol::Consumer]),
        is_static: draw.chance(40),
        dedupes: draw.chance(30),
        flush_millis: draw.pick(&[500, 1000, 2000, 5000]),
        flush_rows: if is_small { 10 } else { 1000 },
        in_flight_bytes: if draw.chance(25) { 4_000 } else { 1_000_000 },
    }
}

/// Draws the actions of producers: some hundred records.
fn draw_records(setup: &Setup, draw: &mut Draw, actions: &mut Vec<(u64, Action)>) {
    let partitions = all_partitions(setup);
    let with_transactions = draw.chance(40);
    let with_bad_records = draw.chance(50);
    for _ in 0..draw.between(20, 40) {
        let (at, partition) = (draw.below(LENGTH), draw.index(partitions));
        let count = draw.between(1, 20);
        let kind = draw.below(100);
        let action = match kind {
            0..15 if with_transactions => {
                let end = at + draw.pick(&[10, 500, 3000, 20_000]);
                let commits = draw.chance(50);
                actions.push((end, Action::EndTransaction { partition, commits }));
                Action::ProduceInTransaction { partition, count: count.min(5) }
            }
            15..25 if with_bad_records => {
                let payload = draw.pick(&[
                    Payload::Garbage,
                    Payload::Truncated,
                    Payload::UnknownSchema,
                    Payload::Unfit,
                    Payload::Tombstone,
                ]);
                Action::Produce { partition, count: count.min(3), payload }
            }
            25..30 => Action::Produce { partition, count, payload: Payload::WiderRow },
            30..40 if setup.dedupes => Action::Repeat { partition, count },
            _ => Action::Produce { partition, count, payload: Payload::Row },
        };
        actions.push((at, action));
    }
    if draw.chance(15) {
        draw_small_transactions(draw.index(partitions), draw, actions);
    }
}

/// Draws so many transactions of one record that gaps of the partition become ordinary.
fn draw_small_transactions(partition: usize, draw: &mut Draw, actions: &mut Vec<(u64, Action)>) {
    let mut at = draw.below(LENGTH / 2);
    for _ in 0..30 {
        actions.push((at, Action::ProduceInTransaction { partition, count: 1 }));
        actions.push((at + 10, Action::EndTransaction { partition, commits: true }));
        at += draw.between(50, 900);
    }
}

fn all_partitions(setup: &Setup) -> usize {
    setup.topics * usize::try_from(setup.partitions).expect("a small number")
}

fn draw_fault(setup: &Setup, draw: &mut Draw) -> Action {
    let worker = draw.index(setup.workers);
    let topic = draw.index(setup.topics);
    let partition = draw.index(all_partitions(setup));
    let millis = draw.pick(&[50, 300, 1000, 3000, 9000]);
    let restart_after = draw.pick(&[100, 1000, 3000, 10_000]);
    match draw.below(100) {
        12..19 => Action::Pause { worker, millis: draw.pick(&[300, 3000, 8000, 12_000]) },
        19..22 => Action::Replace { worker, millis: draw.pick(&[1000, 5000, 12_000]) },
        22..27 => Action::Stop { worker, restart_after },
        27..32 => Action::Disconnect { worker, millis: draw.pick(&[1000, 5000, 10_000]) },
        32..42 => {
            let thread = draw.index(3 + setup.batchers);
            Action::SlowThread { worker, thread, millis }
        }
        42..45 => Action::RequestLost,
        45..50 => Action::AnswerLost,
        50..54 => Action::AnswerAndCheckLost,
        54..62 => Action::LateCommit { millis: draw.pick(&[20, 200, 2000, 10_000]) },
        62..64 => Action::FilesUnusable,
        64..68 => Action::LakeUnavailable { millis },
        68..71 => Action::AlterTable { topic, adds_column: draw.chance(50) },
        71..77 => Action::Replay { partition, records: draw.pick(&[1, 5, 20]) },
        77..79 => Action::Skip { partition, records: draw.pick(&[1, 5]) },
        79..82 => Action::RegistryUnavailable { millis },
        82 => Action::RegistryForgets,
        83..86 => Action::DiskFull { millis },
        86..89 => Action::BrokersDown { millis },
        89..91 => Action::SlowBrokers { latency: draw.pick(&[50, 500]), millis },
        91..95 => Action::LosesFirst { millis },
        95..97 if !setup.dedupes => Action::Compact { partition },
        97..99 => Action::DeleteRecords { partition, keep: draw.pick(&[0, 5, 20]) },
        99 if draw.chance(40) => Action::RecreateTopic { topic },
        _ => Action::Kill { worker, restart_after },
    }
}
