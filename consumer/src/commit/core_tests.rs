//! The decisions of the committer, with an in-memory lake and scripted faults.

use std::collections::VecDeque;
use std::path::PathBuf;

use ducktide_protocol::commit::{Counts, ProgressDelta};
use ducktide_protocol::dedupe::{RecentRow, RecentRows};
use ducktide_protocol::position::{Epoch, OffsetRange, Position};
use ducktide_protocol::table::{Column, TableName, TableShape};
use ducktide_protocol::{
    FileFooter, LakeError, MemoryLake, Result, Source, SourceSpec, StagedFile, Table,
};

use super::*;
use crate::metrics::RetryCause;

/// Fault of a commit.
#[derive(Clone, Copy)]
enum Fault {
    /// The commit is not received.
    Lost,
    /// The commit is applied, but its answer is lost.
    AnswerLost,
    Refused,
}

/// Lake whose next commits fail as scripted.
struct Faulty {
    lake: MemoryLake,
    faults: VecDeque<Fault>,
}

impl Lake for Faulty {
    fn ensure_table(&mut self, table: &TableName, wanted: &TableShape) -> Result<Table> {
        self.lake.ensure_table(table, wanted)
    }

    fn add_columns(&mut self, table: &TableName, columns: &[Column]) -> Result<Table> {
        self.lake.add_columns(table, columns)
    }

    fn register_source(
        &mut self,
        spec: &SourceSpec,
        starts: &[(Partition, Offset)],
    ) -> Result<Source> {
        self.lake.register_source(spec, starts)
    }

    fn start_partitions(&mut self, id: SourceId, starts: &[(Partition, Offset)]) -> Result<()> {
        self.lake.start_partitions(id, starts)
    }

    fn positions(&mut self, source: SourceId) -> Result<Vec<(Partition, Position)>> {
        self.lake.positions(source)
    }

    fn recent_rows(
        &mut self,
        wanted: &RecentRows,
        below: &[(Partition, Offset)],
    ) -> Result<Vec<RecentRow>> {
        self.lake.recent_rows(wanted, below)
    }

    fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome> {
        let fault = self.faults.pop_front();
        match fault {
            None => self.lake.commit(commit),
            Some(Fault::Lost) => Err(LakeError::unavailable("no answer")),
            Some(Fault::AnswerLost) => {
                self.lake.commit(commit)?;
                Err(LakeError::unavailable("no answer"))
            }
            Some(Fault::Refused) => Err(LakeError::invalid("refused")),
        }
    }
}

struct Fixture {
    lake: MemoryLake,
    failing: Faulty,
    core: CommitCore,
    clock: Clock,
    source: SourceId,
    table: Table,
}

fn fixture(faults: &[Fault]) -> Fixture {
    let mut lake = MemoryLake::new("/memory");
    let table: TableName = "events".parse().unwrap();
    let shape = TableShape::from_described([("id", "BIGINT")]).unwrap();
    let spec = SourceSpec::without_ids(table.clone(), "events", "test");
    let table = lake.ensure_table(&table, &shape).unwrap();
    let source = lake.register_source(&spec, &[(Partition(0), Offset(0))]).unwrap().id;
    let failing = Faulty { lake: lake.clone(), faults: faults.iter().copied().collect() };
    let clock = Clock::manual();
    let core = CommitCore::new(clock.clone(), Random::seeded(1));
    Fixture { lake, failing, core, clock, source, table }
}

impl Fixture {
    fn commit(&self, from: i64, to: i64) -> Commit {
        let rows = to - from;
        let delta = ProgressDelta {
            source: self.source,
            partition: Partition(0),
            epoch: Epoch(0),
            range: OffsetRange { from: Offset(from), to: Offset(to) },
            counts: Counts { rows, ..Counts::default() },
        };
        let file = StagedFile {
            path: PathBuf::from(format!("/memory/{from}-{to}")),
            table: self.table.version.table.clone(),
            rows: u64::try_from(rows).unwrap(),
            bytes: 1,
            footer: FileFooter::default(),
        };
        Commit::ingest(vec![delta], vec![file], vec![self.table.version.clone()])
    }

    /// Attempts the first request once, when it is due. Returns the last event.
    fn attempt(&mut self) -> CommitterEvent {
        let due = self.core.due().expect("a request");
        self.clock.advance(due.saturating_duration_since(self.clock.now()));
        let mut last = None;
        self.core.attempt(&mut self.failing, |event| last = Some(event));
        last.expect("each attempt has an event")
    }

    /// Sends a request and returns its result, after retries.
    fn result(&mut self, request: CommitterRequest) -> CommitterEvent {
        assert!(self.core.handle_request(request).is_none());
        loop {
            match self.attempt() {
                CommitterEvent::Retrying { .. } => {}
                event => return event,
            }
        }
    }

    fn commit_result(&mut self, commit: Commit) -> CommitterEvent {
        self.result(CommitterRequest::Commit(commit))
    }

    fn rows(&self) -> u64 {
        self.lake.commits().iter().map(Commit::rows).sum()
    }
}

#[test]
fn an_outage_delays_a_commit_and_loses_nothing() {
    let mut fixture = fixture(&[Fault::Lost, Fault::Lost]);
    let commit = fixture.commit(0, 10);

    assert!(matches!(fixture.commit_result(commit), CommitterEvent::Committed { .. }));
    assert_eq!(fixture.rows(), 10);
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_written_twice() {
    let mut fixture = fixture(&[Fault::AnswerLost]);
    let commit = fixture.commit(0, 10);

    assert!(matches!(fixture.commit_result(commit), CommitterEvent::Committed { .. }));
    assert_eq!(fixture.rows(), 10);
}

#[test]
fn a_batch_from_before_a_replay_is_dropped() {
    let mut fixture = fixture(&[]);
    let first = fixture.commit(0, 10);
    fixture.commit_result(first);
    let stale = fixture.commit(10, 20);
    fixture.lake.replay(fixture.source, Partition(0), Offset(10));

    assert!(matches!(
        fixture.commit_result(stale),
        CommitterEvent::Dropped { reason: DropReason::Fenced, .. }
    ));
    assert_eq!(fixture.rows(), 10);
}

#[test]
fn a_batch_for_an_older_table_version_is_dropped() {
    let mut fixture = fixture(&[]);
    let commit = fixture.commit(0, 10);
    fixture.lake.alter_table(&"events".parse().unwrap());

    assert!(matches!(
        fixture.commit_result(commit),
        CommitterEvent::Dropped { reason: DropReason::TableChanged, .. }
    ));
    assert_eq!(fixture.rows(), 0);
}

#[test]
fn a_permanent_error_is_reported_at_once() {
    let mut fixture = fixture(&[Fault::Refused]);
    let commit = fixture.commit(0, 10);

    assert!(matches!(fixture.commit_result(commit), CommitterEvent::Failed(_)));
}

#[test]
fn retries_of_a_commit_can_be_abandoned() {
    let mut fixture = fixture(&[Fault::Lost; 1000]);
    assert!(fixture.core.handle_request(CommitterRequest::Abandon).is_none(), "nothing to abandon");
    let commit = fixture.commit(0, 10);
    assert!(fixture.core.handle_request(CommitterRequest::Commit(commit)).is_none());
    assert!(matches!(
        fixture.attempt(),
        CommitterEvent::Retrying { cause: RetryCause::Commit, .. }
    ));

    assert!(matches!(
        fixture.core.handle_request(CommitterRequest::Abandon),
        Some(CommitterEvent::Dropped { reason: DropReason::Abandoned, .. })
    ));
    assert_eq!(fixture.core.due(), None);
}

#[test]
fn pauses_grow_to_a_limit_and_requests_keep_their_order() {
    let mut fixture = fixture(&[Fault::Lost; 20]);
    let (commit, start) = (fixture.commit(0, 10), fixture.clock.now());
    let (source, starts) = (fixture.source, Vec::new());
    let load = CommitterRequest::Load { source, starts, recent: None, resets: 3 };
    assert!(fixture.core.handle_request(CommitterRequest::Commit(commit)).is_none());
    assert!(fixture.core.handle_request(load).is_none());

    for _ in 0..20 {
        assert!(matches!(fixture.attempt(), CommitterEvent::Retrying { .. }));
    }
    assert!(matches!(fixture.attempt(), CommitterEvent::Committed { .. }));
    assert!(matches!(fixture.attempt(), CommitterEvent::Loaded { resets: 3, .. }));

    // 50 ms doubled six times, then 5 s each, with up to 50 % of jitter.
    let elapsed = (fixture.clock.now() - start).as_secs_f64();
    assert!((71.0..110.0).contains(&elapsed), "{elapsed}");
}

#[test]
fn a_new_partition_gets_its_first_position_once() {
    let mut fixture = fixture(&[]);
    let source = fixture.source;
    let load = |at| CommitterRequest::Load {
        source,
        starts: vec![(Partition(1), Offset(at))],
        recent: None,
        resets: 0,
    };

    for at in [5, 9] {
        let CommitterEvent::Loaded { positions, .. } = fixture.result(load(at)) else {
            panic!("a load answers with positions");
        };
        let at_five = Position { epoch: Epoch(0), next_offset: Offset(5) };
        assert!(positions.contains(&(Partition(1), at_five)), "{positions:?}");
    }
}
