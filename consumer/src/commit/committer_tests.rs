//! The committer with an in-memory lake and scripted faults.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ducktide_protocol::commit::{Counts, ProgressDelta};
use ducktide_protocol::dedupe::{RecentRow, RecentRows};
use ducktide_protocol::position::{Epoch, OffsetRange, Position};
use ducktide_protocol::table::{Column, TableName, TableShape};
use ducktide_protocol::{LakeError, MemoryLake, Result, Source, SourceSpec, StagedFile, Table};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;

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
    faults: Arc<Mutex<VecDeque<Fault>>>,
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
        let fault = self.faults.lock().unwrap().pop_front();
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
    committer: Committer,
    events: UnboundedReceiver<Event>,
    source: SourceId,
    table: Table,
}

fn fixture(faults: &[Fault]) -> Fixture {
    let mut lake = MemoryLake::new("/memory");
    let table: TableName = "events".parse().unwrap();
    let shape = TableShape::from_described([("id", "BIGINT")]).unwrap();
    let spec = SourceSpec {
        table: table.clone(),
        topic: "events".to_owned(),
        pipeline: "test".to_owned(),
        cluster_id: None,
        topic_id: None,
    };
    let table = lake.ensure_table(&table, &shape).unwrap();
    let source = lake.register_source(&spec, &[(Partition(0), Offset(0))]).unwrap().id;
    let faults = Arc::new(Mutex::new(faults.iter().copied().collect()));
    let (sender, events) = Events::channel();
    let failing = Faulty { lake: lake.clone(), faults };
    let committer = Committer::spawn(Box::new(failing), sender);
    Fixture { lake, committer, events, source, table }
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
        };
        Commit::ingest(vec![delta], vec![file], vec![self.table.version.clone()])
    }

    /// Returns the next event other than a retry.
    fn outcome(&mut self) -> CommitterEvent {
        loop {
            match self.events.blocking_recv() {
                Some(Event::Committer(CommitterEvent::Retrying { .. })) => {}
                Some(Event::Committer(event)) => return event,
                other => panic!("expected an event of the committer: {other:?}"),
            }
        }
    }

    fn rows(&self) -> u64 {
        self.lake.commits().iter().map(Commit::rows).sum()
    }
}

#[test]
fn an_outage_delays_a_commit_and_loses_nothing() {
    let mut fixture = fixture(&[Fault::Lost, Fault::Lost]);
    fixture.committer.send(CommitterRequest::Commit(fixture.commit(0, 10)));

    assert!(matches!(fixture.outcome(), CommitterEvent::Committed { .. }));
    assert_eq!(fixture.rows(), 10);
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_written_twice() {
    let mut fixture = fixture(&[Fault::AnswerLost]);
    fixture.committer.send(CommitterRequest::Commit(fixture.commit(0, 10)));

    assert!(matches!(fixture.outcome(), CommitterEvent::Committed { .. }));
    assert_eq!(fixture.rows(), 10);
}

#[test]
fn a_batch_from_before_a_replay_is_dropped() {
    let mut fixture = fixture(&[]);
    fixture.committer.send(CommitterRequest::Commit(fixture.commit(0, 10)));
    fixture.outcome();
    let stale = fixture.commit(10, 20);
    fixture.lake.replay(fixture.source, Partition(0), Offset(10));

    fixture.committer.send(CommitterRequest::Commit(stale));

    assert!(matches!(
        fixture.outcome(),
        CommitterEvent::Dropped { reason: DropReason::Fenced, .. }
    ));
    assert_eq!(fixture.rows(), 10);
}

#[test]
fn a_batch_for_an_older_table_version_is_dropped() {
    let mut fixture = fixture(&[]);
    let commit = fixture.commit(0, 10);
    fixture.lake.alter_table(&"events".parse().unwrap());

    fixture.committer.send(CommitterRequest::Commit(commit));

    assert!(matches!(
        fixture.outcome(),
        CommitterEvent::Dropped { reason: DropReason::TableChanged, .. }
    ));
    assert_eq!(fixture.rows(), 0);
}

#[test]
fn a_permanent_error_is_reported_at_once() {
    let mut fixture = fixture(&[Fault::Refused]);
    fixture.committer.send(CommitterRequest::Commit(fixture.commit(0, 10)));

    assert!(matches!(fixture.outcome(), CommitterEvent::Failed(_)));
}

#[test]
fn retries_of_a_commit_can_be_abandoned() {
    let mut fixture = fixture(&[Fault::Lost; 1000]);
    fixture.committer.send(CommitterRequest::Commit(fixture.commit(0, 10)));
    assert!(matches!(
        fixture.events.blocking_recv(),
        Some(Event::Committer(CommitterEvent::Retrying { cause: RetryCause::Commit, .. }))
    ));

    fixture.committer.abandon();

    assert!(matches!(
        fixture.outcome(),
        CommitterEvent::Dropped { reason: DropReason::Abandoned, .. }
    ));
}

#[test]
fn a_new_partition_gets_its_first_position_once() {
    let mut fixture = fixture(&[]);
    let source = fixture.source;
    let load = |at| CommitterRequest::Load {
        source,
        starts: vec![(Partition(1), Offset(at))],
        recent: None,
    };

    for at in [5, 9] {
        fixture.committer.send(load(at));
        let CommitterEvent::Loaded { positions, .. } = fixture.outcome() else {
            panic!("a load answers with positions");
        };
        let at_five = Position { epoch: Epoch(0), next_offset: Offset(5) };
        assert!(positions.contains(&(Partition(1), at_five)), "{positions:?}");
    }
}
