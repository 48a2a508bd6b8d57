//! Conformance tests of a lake: one suite for the lake in memory, for SQLite and for PostgreSQL.
//!
//! Each case is named for a part of the guarantee. The suite uses only [`Lake`]; a [`Harness`] opens
//! the lake, stages files for it and counts its rows independently.
//!
//! Not behind a feature: this crate and all crates that depend on it would be compiled twice, for the
//! programs and for the tests. The linker removes it from programs, which never call it.

use std::borrow::Borrow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

use crate::commit::{Commit, CommitOutcome, Counts, ProgressDelta};
use crate::dead_letter::{Resolution, dead_letter_table};
use crate::lake::Lake;
use crate::lake_table::Table;
use crate::position::{Epoch, Offset, OffsetRange, Partition, Position};
use crate::source::{Source, SourceSpec};
use crate::staged_file::{FileFooter, StagedFile};
use crate::table::{AvroSchema, Column, ColumnType, TableName, TableShape};

/// Access to a lake that the suite needs in addition to [`Lake`].
pub trait Harness {
    /// Opens the same lake as another worker.
    fn open(&mut self) -> Box<dyn Lake>;

    /// Writes a Parquet file with a row for each offset of the range.
    fn stage(&mut self, table: &Table, partition: Partition, range: OffsetRange) -> StagedFile;

    /// Returns the number of rows that a reader sees in the table.
    fn count(&mut self, table: &TableName) -> u64;
}

/// Name of a case, and its function, which uses a table and source of its own.
type NamedCase = (&'static str, fn(&mut dyn Harness));

/// All cases of the suite.
pub const CASES: &[NamedCase] = &[
    ("a_commit_moves_rows_and_progress_together", a_commit_moves_rows_and_progress_together),
    ("the_same_range_is_written_once", the_same_range_is_written_once),
    ("a_resent_commit_is_recognized", a_resent_commit_is_recognized),
    ("a_range_that_starts_elsewhere_is_fenced", a_range_that_starts_elsewhere_is_fenced),
    ("an_old_epoch_is_fenced_at_the_right_offset", an_old_epoch_is_fenced_at_the_right_offset),
    ("one_fenced_range_rejects_the_whole_commit", one_fenced_range_rejects_the_whole_commit),
    ("progress_without_rows_moves_by_the_same_rule", progress_without_rows_moves_by_the_same_rule),
    ("an_unknown_partition_is_fenced", an_unknown_partition_is_fenced),
    ("the_first_registration_of_a_source_wins", the_first_registration_of_a_source_wins),
    ("a_partition_starts_once", a_partition_starts_once),
    ("contiguous_ranges_may_share_a_commit", contiguous_ranges_may_share_a_commit),
    ("a_table_that_does_not_fit_is_refused", a_table_that_does_not_fit_is_refused),
    (
        "a_column_is_added_once_and_fences_older_files",
        a_column_is_added_once_and_fences_older_files,
    ),
    ("two_workers_racing_for_a_range_write_it_once", two_workers_racing_for_a_range_write_it_once),
    ("a_retried_dead_letter_becomes_one_row", a_retried_dead_letter_becomes_one_row),
    ("a_resent_resolution_is_recognized", a_resent_resolution_is_recognized),
    ("two_resolutions_racing_for_a_dead_letter", two_resolutions_racing_for_a_dead_letter),
    ("a_dead_letter_is_resolved_in_its_epoch_only", a_dead_letter_is_resolved_in_its_epoch_only),
    (
        "one_resolved_dead_letter_rejects_the_whole_commit",
        one_resolved_dead_letter_rejects_the_whole_commit,
    ),
];

/// Runs every case; the output of a panic has the name of the failed one.
pub fn run(harness: &mut dyn Harness) {
    for (name, case) in CASES {
        tracing::info!(case = name, "conformance");
        case(harness);
    }
}

/// Table and source of one case.
struct Fixture {
    lake: Box<dyn Lake>,
    table: Table,
    /// Replacement for the dead-letter table; only the number of its rows matters.
    dead_letters: Table,
    source: Source,
}

impl Fixture {
    fn new(harness: &mut dyn Harness) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name: TableName = format!("case_{number}").parse().expect("a plain name");
        let mut lake = harness.open();
        let table = lake.ensure_table(&name, &shape("long")).expect("a new table is created");
        let dead_letters = dead_letter_table(&name);
        let dead_letters =
            lake.ensure_table(&dead_letters, &shape("long")).expect("a new table is created");
        let spec = spec(&name);
        let starts = [(Partition(0), Offset(100)), (Partition(1), Offset(0))];
        let source = lake.register_source(&spec, &starts).expect("a new source is registered");
        Self { lake, table, dead_letters, source }
    }

    fn name(&self) -> &TableName {
        &self.table.version.table
    }

    fn position(&mut self, partition: i32) -> Position {
        let positions = self.lake.positions(self.source.id).expect("progress can be read");
        let found = positions.iter().find(|(known, _)| *known == Partition(partition));
        found.expect("the partition was started").1
    }

    fn delta(&self, partition: i32, range: OffsetRange, rows: i64) -> ProgressDelta {
        let counts = Counts { rows, gaps: range.len() - rows, ..Counts::default() };
        let (partition, epoch) = (Partition(partition), Epoch(0));
        ProgressDelta { source: self.source.id, partition, epoch, range, counts }
    }

    /// Creates a commit of one range with a row for each offset.
    fn rows(&self, harness: &mut dyn Harness, partition: i32, from: i64, to: i64) -> Commit {
        let range = range(from, to);
        let file = harness.stage(&self.table, Partition(partition), range);
        self.commit(vec![self.delta(partition, range, range.len())], vec![file])
    }

    fn commit(&self, progress: Vec<ProgressDelta>, files: Vec<StagedFile>) -> Commit {
        Commit::ingest(progress, files, vec![self.table.version.clone()])
    }

    /// Commits offsets 100 to 109, of which the last two are dead letters.
    fn ingest_with_dead_letters(&mut self, harness: &mut dyn Harness) {
        let (rows, all) = (range(100, 108), range(100, 110));
        let counts = Counts { rows: 8, dead: 2, ..Counts::default() };
        let delta = ProgressDelta { counts, ..self.delta(0, all, 10) };
        let files = vec![
            harness.stage(&self.table, Partition(0), rows),
            harness.stage(&self.dead_letters, Partition(0), range(108, 110)),
        ];
        let commit = self.commit(vec![delta], files);
        assert!(is_committed(self.send(&commit)));
    }

    /// Creates a commit that resolves dead letters of partition 0 in an epoch, with new files.
    fn resolution(
        &self,
        harness: &mut dyn Harness,
        resolution: Resolution,
        offsets: OffsetRange,
        epoch: i32,
    ) -> Commit {
        let (source, partition) = (self.source.id, Partition(0));
        let step = |offset| {
            ProgressDelta::resolving(source, partition, Epoch(epoch), Offset(offset), resolution)
        };
        let mut files = vec![harness.stage(&self.dead_letters, partition, offsets)];
        if resolution == Resolution::Retried {
            files.push(harness.stage(&self.table, partition, offsets));
        }
        let steps = (offsets.from.0..offsets.to.0).map(step).collect();
        Commit::resolve(resolution, steps, files, vec![self.table.version.clone()])
    }

    fn send(&mut self, commit: &Commit) -> CommitOutcome {
        self.lake.commit(commit).expect("the lake answers")
    }
}

const fn range(from: i64, to: i64) -> OffsetRange {
    OffsetRange { from: Offset(from), to: Offset(to) }
}

const fn at(epoch: i32, next_offset: i64) -> Position {
    Position { epoch: Epoch(epoch), next_offset: Offset(next_offset) }
}

fn spec(table: &TableName) -> SourceSpec {
    SourceSpec {
        table: table.clone(),
        topic: "events".to_owned(),
        pipeline: "conformance".to_owned(),
        cluster_id: Some("cluster".to_owned()),
        topic_id: Some("topic".to_owned()),
    }
}

fn shape(id_type: &str) -> TableShape {
    let schema =
        format!(r#"{{"type":"record","name":"R","fields":[{{"name":"id","type":"{id_type}"}}]}}"#);
    let schema = AvroSchema::parse(&schema).expect("a valid schema");
    TableShape::from_avro(&schema, None).expect("a plain record has a shape")
}

fn is_committed(outcome: impl Borrow<CommitOutcome>) -> bool {
    matches!(outcome.borrow(), CommitOutcome::Committed(_))
}

fn a_commit_moves_rows_and_progress_together(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let commit = case.rows(harness, 0, 100, 150);

    let outcome = case.send(&commit);

    assert!(matches!(outcome, CommitOutcome::Committed(Some(_))), "{outcome:?}");
    assert_eq!(case.position(0), at(0, 150));
    assert_eq!(harness.count(case.name()), 50);
}

fn the_same_range_is_written_once(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let first = case.rows(harness, 0, 100, 150);
    let zombie = case.rows(harness, 0, 100, 150);
    assert!(is_committed(case.send(&first)));

    let outcome = case.send(&zombie);

    assert_eq!(outcome, CommitOutcome::Fenced);
    assert_eq!(harness.count(case.name()), 50);
}

fn a_resent_commit_is_recognized(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let commit = case.rows(harness, 0, 100, 150);
    assert!(is_committed(case.send(&commit)));

    let again = case.send(&commit);

    assert!(is_committed(&again), "{again:?}");
    assert_eq!(harness.count(case.name()), 50);
}

fn a_range_that_starts_elsewhere_is_fenced(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let commit = case.rows(harness, 0, 110, 150);

    let outcome = case.send(&commit);

    assert_eq!(outcome, CommitOutcome::Fenced);
    assert_eq!(case.position(0), at(0, 100));
    assert_eq!(harness.count(case.name()), 0);
}

fn an_old_epoch_is_fenced_at_the_right_offset(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let range = range(100, 110);
    let file = harness.stage(&case.table, Partition(0), range);
    let stale = ProgressDelta { epoch: Epoch(7), ..case.delta(0, range, 10) };
    let commit = case.commit(vec![stale], vec![file]);

    assert_eq!(case.send(&commit), CommitOutcome::Fenced);
    assert_eq!(harness.count(case.name()), 0);
}

fn one_fenced_range_rejects_the_whole_commit(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let (right, wrong) = (range(100, 110), range(5, 10));
    let files = vec![
        harness.stage(&case.table, Partition(0), right),
        harness.stage(&case.table, Partition(1), wrong),
    ];
    let commit = case.commit(vec![case.delta(0, right, 10), case.delta(1, wrong, 5)], files);

    assert_eq!(case.send(&commit), CommitOutcome::Fenced);
    assert_eq!((case.position(0), case.position(1)), (at(0, 100), at(0, 0)));
    assert_eq!(harness.count(case.name()), 0);
}

fn progress_without_rows_moves_by_the_same_rule(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let commit = case.commit(vec![case.delta(0, range(100, 130), 0)], Vec::new());

    assert_eq!(case.send(&commit), CommitOutcome::Committed(None));
    assert_eq!(case.position(0), at(0, 130));

    let elsewhere = case.commit(vec![case.delta(0, range(100, 140), 0)], Vec::new());
    assert_eq!(case.send(&elsewhere), CommitOutcome::Fenced);
    assert_eq!(case.position(0), at(0, 130));
}

fn an_unknown_partition_is_fenced(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let commit = case.rows(harness, 9, 0, 10);

    assert_eq!(case.send(&commit), CommitOutcome::Fenced);
    assert_eq!(harness.count(case.name()), 0);
}

fn the_first_registration_of_a_source_wins(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let spec = SourceSpec { pipeline: "another".to_owned(), ..case.source.spec.clone() };

    let again = harness.open().register_source(&spec, &[(Partition(0), Offset(7))]);

    assert_eq!(again.expect("a known source is returned"), case.source);
    assert_eq!(case.position(0), at(0, 100));
}

fn a_partition_starts_once(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let source = case.source.id;
    let starts = [(Partition(2), Offset(40)), (Partition(0), Offset(7))];

    case.lake.start_partitions(source, &starts).expect("a new partition is started");
    let later = harness.open().start_partitions(source, &[(Partition(2), Offset(50))]);

    later.expect("a known partition stays as it is");
    assert_eq!((case.position(2), case.position(0)), (at(0, 40), at(0, 100)));
}

fn contiguous_ranges_may_share_a_commit(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let (first, second) = (range(100, 110), range(110, 125));
    let files = vec![
        harness.stage(&case.table, Partition(0), first),
        harness.stage(&case.table, Partition(0), second),
    ];
    let deltas = vec![case.delta(0, first, 10), case.delta(0, second, 15)];
    let commit = case.commit(deltas, files);

    let outcome = case.send(&commit);

    assert!(is_committed(&outcome), "{outcome:?}");
    assert_eq!(case.position(0), at(0, 125));
    assert_eq!(harness.count(case.name()), 25);
}

fn a_table_that_does_not_fit_is_refused(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let name = case.name().clone();

    let refused = case.lake.ensure_table(&name, &shape("string"));

    let error = refused.expect_err("a string does not fit a number").to_string();
    assert!(error.contains("id") && error.contains("BIGINT"), "{error}");
}

fn a_column_is_added_once_and_fences_older_files(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    let name = case.name().clone();
    let before = case.rows(harness, 0, 100, 110);
    let columns = [Column::new("extra", ColumnType::Varchar)];

    let unchanged = case.lake.add_columns(&name, &[]).expect("nothing is wanted");
    let added = case.lake.add_columns(&name, &columns).expect("a column is added");
    let again = harness.open().add_columns(&name, &columns).expect("it is there");
    let other = [Column::new("EXTRA", ColumnType::Date)];
    let of_another_type = case.lake.add_columns(&name, &other).expect("it is there");

    assert_eq!(unchanged, case.table);
    assert_eq!(added.shape.columns.last(), Some(&columns[0]));
    assert_eq!((&again, &of_another_type), (&added, &added));
    assert_eq!(case.send(&before), CommitOutcome::TableChanged);
    assert_eq!((case.position(0), harness.count(&name)), (at(0, 100), 0));

    case.table = added;
    let after = case.rows(harness, 0, 100, 110);
    assert!(is_committed(case.send(&after)));
    assert_eq!(harness.count(&name), 10);
}

fn two_workers_racing_for_a_range_write_it_once(harness: &mut dyn Harness) {
    let case = Fixture::new(harness);
    let workers: Vec<_> = (0..2).map(|_| (harness.open(), case.rows(harness, 1, 0, 20))).collect();

    let outcomes = race(workers);

    let committed = outcomes.iter().filter(|outcome| is_committed(*outcome)).count();
    assert_eq!(committed, 1, "{outcomes:?}");
    assert_eq!(harness.count(case.name()), 20);
}

/// Sends the commits concurrently, each until it has an outcome.
fn race(workers: Vec<(Box<dyn Lake>, Commit)>) -> Vec<CommitOutcome> {
    std::thread::scope(|scope| {
        let send = |(mut lake, commit): (Box<dyn Lake>, Commit)| {
            scope.spawn(move || {
                loop {
                    match lake.commit(&commit) {
                        Ok(outcome) => return outcome,
                        Err(error) => assert_eq!(error.kind(), crate::ErrorKind::Unavailable),
                    }
                }
            })
        };
        let threads: Vec<_> = workers.into_iter().map(send).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn a_retried_dead_letter_becomes_one_row(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    case.ingest_with_dead_letters(harness);
    let first = case.resolution(harness, Resolution::Retried, range(108, 109), 0);
    let second = case.resolution(harness, Resolution::Retried, range(108, 109), 0);

    assert!(matches!(case.send(&first), CommitOutcome::Committed(Some(_))));
    assert_eq!(case.send(&second), CommitOutcome::Fenced);

    assert_eq!(case.position(0), at(0, 110), "progress stays where it is");
    assert_eq!(
        (harness.count(case.name()), harness.count(&case.dead_letters.version.table)),
        (9, 3)
    );
}

fn a_resent_resolution_is_recognized(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    case.ingest_with_dead_letters(harness);
    for resolution in [Resolution::Retried, Resolution::Discarded] {
        let offset = if resolution == Resolution::Retried { 108 } else { 109 };
        let commit = case.resolution(harness, resolution, range(offset, offset + 1), 0);
        assert!(is_committed(case.send(&commit)));

        let again = case.send(&commit);

        assert!(is_committed(&again), "{again:?}");
    }
    assert_eq!(
        (harness.count(case.name()), harness.count(&case.dead_letters.version.table)),
        (9, 4)
    );
}

fn two_resolutions_racing_for_a_dead_letter(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    case.ingest_with_dead_letters(harness);
    let retry = case.resolution(harness, Resolution::Retried, range(108, 110), 0);
    let discard = case.resolution(harness, Resolution::Discarded, range(108, 110), 0);

    let outcomes = race(vec![(harness.open(), retry), (harness.open(), discard)]);

    let committed = outcomes.iter().filter(|outcome| is_committed(*outcome)).count();
    assert_eq!(committed, 1, "{outcomes:?}");
    assert_eq!(harness.count(&case.dead_letters.version.table), 4);
}

fn a_dead_letter_is_resolved_in_its_epoch_only(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    case.ingest_with_dead_letters(harness);
    let stale = case.resolution(harness, Resolution::Retried, range(108, 109), 7);
    let beyond = case.resolution(harness, Resolution::Discarded, range(110, 111), 0);

    assert_eq!(case.send(&stale), CommitOutcome::Fenced);
    assert_eq!(case.send(&beyond), CommitOutcome::Fenced, "it was not read yet");
    assert_eq!(
        (harness.count(case.name()), harness.count(&case.dead_letters.version.table)),
        (8, 2)
    );
}

fn one_resolved_dead_letter_rejects_the_whole_commit(harness: &mut dyn Harness) {
    let mut case = Fixture::new(harness);
    case.ingest_with_dead_letters(harness);
    let one = case.resolution(harness, Resolution::Discarded, range(109, 110), 0);
    let both = case.resolution(harness, Resolution::Retried, range(108, 110), 0);
    assert!(is_committed(case.send(&one)));

    assert_eq!(case.send(&both), CommitOutcome::Fenced);

    assert_eq!(
        (harness.count(case.name()), harness.count(&case.dead_letters.version.table)),
        (8, 3)
    );
}

/// Harness of the lake in memory.
#[derive(Debug)]
pub struct MemoryHarness {
    lake: crate::MemoryLake,
}

impl MemoryHarness {
    /// Creates an empty lake.
    #[must_use]
    pub fn new() -> Self {
        Self { lake: crate::MemoryLake::new("/memory") }
    }
}

impl Default for MemoryHarness {
    fn default() -> Self {
        Self::new()
    }
}

impl Harness for MemoryHarness {
    fn open(&mut self) -> Box<dyn Lake> {
        Box::new(self.lake.clone())
    }

    fn stage(&mut self, table: &Table, _: Partition, range: OffsetRange) -> StagedFile {
        staged(table, range, 1)
    }

    fn count(&mut self, table: &TableName) -> u64 {
        let commits = self.lake.commits();
        let files = commits.iter().flat_map(Commit::files);
        files.filter(|file| file.table == *table).map(|file| file.rows).sum()
    }
}

/// Creates the entry of a staged file for the rows of a range; writes no file.
#[must_use]
pub fn staged(table: &Table, range: OffsetRange, bytes: u64) -> StagedFile {
    let path: PathBuf = table.directory.join(format!("ducktide-{}.parquet", Uuid::new_v4()));
    let rows = u64::try_from(range.len()).expect("a range of rows goes forward");
    let (table, footer) = (table.version.table.clone(), FileFooter::default());
    StagedFile { path, table, rows, bytes, footer }
}
