//! Simulation of a year of commits in virtual time: the cost of merging, and the remaining files.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use ducktide_maintenance::{DataFile, FileGroup};
use jiff::Timestamp;

use super::{DueTiers, MergePolicy, group};

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;

/// A series of commits, one per second.
#[derive(Clone, Copy, Debug)]
struct CommitStream {
    /// Size of the file of one commit, bytes.
    file: u64,
    /// Size of the fixed part of a file such as its footer, bytes; a merge writes it once.
    overhead: u64,
    /// One of this number of commits also has a file of late rows, for one of the last thirty days.
    late_every: Option<u64>,
    /// Each day is a partition.
    by_day: bool,
    days: i64,
}

/// Result of a simulation.
#[derive(Clone, Copy, Debug, Default)]
struct SimulationResult {
    ingested: u64,
    written: u64,
    /// Largest number of files that a partition had at any time.
    most_files: usize,
    files_left: usize,
    /// Largest final number of files in a partition that was the newest one more than 40 days ago.
    most_files_of_old: usize,
}

impl SimulationResult {
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn amplification(&self) -> f64 {
        self.written as f64 / self.ingested as f64
    }
}

struct SimulatedLake {
    stream: CommitStream,
    policy: MergePolicy,
    partitions: BTreeMap<i64, Vec<DataFile>>,
    next_id: i64,
    cost: SimulationResult,
}

impl SimulatedLake {
    fn add(&mut self, partition: i64, payload: u64, at: i64) {
        let bytes = payload + self.stream.overhead;
        let changed_at = Some(Timestamp::from_second(at).unwrap());
        let file = DataFile { id: self.next_id, bytes, changed_at };
        self.next_id += 1;
        let files = self.partitions.entry(partition).or_default();
        files.push(file);
        self.cost.most_files = self.cost.most_files.max(files.len());
    }

    fn ingest(&mut self, second: i64) {
        let stream = self.stream;
        let partition = if stream.by_day { second / DAY } else { 0 };
        // Between half and one and a half times the size of a file.
        let payload = (stream.file - stream.overhead) * (512 + mix(second) % 1024) / 1024;
        self.add(partition, payload, second);
        self.cost.ingested += payload + stream.overhead;
        if stream.late_every.is_some_and(|every| mix(second + 1).is_multiple_of(every)) {
            let days = i64::try_from(mix(second + 2) % 30).unwrap();
            if let Some(late) = partition.checked_sub(1 + days).filter(|late| *late >= 0) {
                self.add(late, payload / 10, second);
                self.cost.ingested += payload / 10 + stream.overhead;
            }
        }
    }

    fn maintain(&mut self, due: &DueTiers, second: i64, only: Option<i64>) {
        let now = Timestamp::from_second(second).unwrap();
        let of = FileGroup { schema_version: 0, partition_id: None, partition: Vec::new() };
        let partitions: Vec<_> = match only {
            Some(partition) => vec![partition],
            None => self.partitions.keys().copied().collect(),
        };
        for partition in partitions {
            let files = self.partitions.get_mut(&partition).unwrap();
            for merge in group::merges(&of, files, &self.policy, due, now) {
                let taken: HashSet<_> = merge.files.iter().copied().collect();
                let first = files.iter().position(|file| taken.contains(&file.id)).unwrap();
                let sources: Vec<_> =
                    files.extract_if(.., |file| taken.contains(&file.id)).collect();
                let overheads = self.stream.overhead * (sources.len() as u64 - 1);
                let merged = DataFile {
                    id: self.next_id,
                    bytes: merge.bytes - overheads,

                    changed_at: sources.iter().filter_map(|file| file.changed_at).max(),
                };
                self.next_id += 1;
                self.cost.written += merged.bytes;
                files.insert(first, merged);
            }
        }
    }
}

/// Returns a number that looks random but is the same in each run.
fn mix(number: i64) -> u64 {
    let mut hash = number.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash ^ (hash >> 32)
}

fn simulate(stream: CommitStream) -> SimulationResult {
    let policy = crate::config::tests::default_policy();
    let mut lake = SimulatedLake {
        stream,
        policy: policy.clone(),
        partitions: BTreeMap::new(),
        next_id: 0,
        cost: SimulationResult::default(),
    };
    let hourly = |second: i64, hours: i64| second % (hours * 3600) == 0;
    for second in 1..=stream.days * DAY {
        lake.ingest(second);
        if hourly(second, 6) {
            lake.maintain(&DueTiers::all(&policy), second, None);
        } else if second % (15 * MINUTE) == 0 {
            lake.maintain(&DueTiers { tiers: vec![true, true, false], cold: false }, second, None);
        } else if second % MINUTE == 0 {
            let newest = if stream.by_day { second / DAY } else { 0 };
            let due = DueTiers { tiers: vec![true, false, false], cold: false };
            lake.maintain(&due, second, Some(newest));
        }
    }
    // Two days without commits: all files become cold.
    for hour in 0..8 {
        lake.maintain(&DueTiers::all(&policy), stream.days * DAY + hour * 6 * 3600, None);
    }
    let old = lake.partitions.iter().filter(|(day, _)| **day < stream.days - 40);
    lake.cost.most_files_of_old = old.map(|(_, files)| files.len()).max().unwrap_or(0);
    lake.cost.files_left = lake.partitions.values().map(Vec::len).sum();
    lake.cost
}

fn year(file: u64, overhead: u64, late_every: Option<u64>, by_day: bool) -> SimulationResult {
    let cost = simulate(CommitStream { file, overhead, late_every, by_day, days: 365 });
    println!(
        "a year of {file} B/s: {:.2} bytes written per byte, at most {} files, {} left",
        cost.amplification(),
        cost.most_files,
        cost.files_left
    );
    assert!(cost.amplification() <= 4.0, "{cost:?}");
    cost
}

#[test]
fn a_year_of_small_commits() {
    let cost = year(2_000, 0, None, true);

    assert!(cost.most_files < 500, "{cost:?}");
    assert_eq!(cost.most_files_of_old, 1, "each day of 170 MB is one file: {cost:?}");
    assert!(cost.files_left <= 366, "{cost:?}");
}

#[test]
fn a_year_of_small_commits_which_shrink_when_they_are_merged() {
    let cost = year(3_000, 2_500, None, true);

    assert!(cost.most_files < 300, "{cost:?}");
    assert!(cost.files_left <= 370, "{cost:?}");
}

#[test]
fn a_year_of_small_commits_with_late_rows() {
    let cost = year(2_000, 500, Some(20), true);

    assert!(cost.most_files < 400, "{cost:?}");
    assert!(cost.most_files_of_old <= 6, "{cost:?}");
    assert!(cost.files_left <= 366 * 4, "{cost:?}");
}

#[test]
fn a_year_of_larger_commits() {
    let cost = year(200_000, 3_000, Some(100), true);

    // 17 GB per day: 61 files of the target size, waiting files, and late ones.
    assert!(cost.most_files < 800, "{cost:?}");
    assert!(cost.most_files_of_old <= 66, "{cost:?}");
}

#[test]
fn a_year_without_a_partition_key() {
    let cost = year(20_000, 1_000, None, false);

    // 630 GB in files of the target size, and waiting files.
    assert!(cost.most_files < 2_900, "{cost:?}");
}

#[test]
fn a_month_of_a_fast_stream() {
    let stream =
        CommitStream { file: 8_000_000, overhead: 3_000, late_every: None, by_day: true, days: 30 };
    let cost = simulate(stream);

    assert!(cost.amplification() <= 1.2, "{cost:?}");
}

#[test]
fn files_without_new_ones_for_a_day_are_merged_whatever_their_size() {
    let stream =
        CommitStream { file: 2_000, overhead: 500, late_every: None, by_day: true, days: 1 };
    let cost = simulate(stream);

    assert_eq!(cost.files_left, 2, "one for each of the two calendar days");
    assert!(Duration::from_hours(24) >= crate::config::tests::default_policy().cold_after);
}
