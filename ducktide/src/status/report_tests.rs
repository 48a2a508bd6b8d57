//! Tests of the report: positions of the lake compared with the offsets of Kafka.

use std::collections::BTreeMap;
use std::time::Duration;

use ducktide_consumer::{GroupMember, Identity, TopicPartition};
use ducktide_health::{
    AwaitingRemoval, DayAssignment, DayScan, FileCount, LakeHealth, SizeClasses, SnapshotsKept,
    TableHealth,
};
use ducktide_lake::{HoldReason, Overview, RetentionHold, SnapshotRange, TableSize};
use ducktide_maintenance::{LastMaintenance, Operation};
use ducktide_protocol::position::{Epoch, Offset, Partition, Position, SourceId};
use ducktide_verify::LastVerification;

use super::super::cluster_query::{Cluster, KafkaUnavailable};
use super::super::flow_judgement::FlowState;
use super::super::text;
use super::*;

const CATALOG: &str = "postgres://me:s3cret@db/lake";

fn now() -> Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn source() -> Source {
    Source {
        id: SourceId(1),
        spec: SourceSpec {
            table: "events".parse().unwrap(),
            topic: "events".to_owned(),
            pipeline: "demo".to_owned(),
            cluster_id: Some("c1".to_owned()),
            topic_id: Some("t1".to_owned()),
        },
    }
}

fn progress(partition: i32, next_offset: i64, updated_at: &str) -> PartitionProgress {
    PartitionProgress {
        partition: Partition(partition),
        position: Position { epoch: Epoch(0), next_offset: Offset(next_offset) },
        snapshot_id: Some(SnapshotId(41)),
        updated_at: Some(updated_at.parse().unwrap()),
    }
}

fn topic(partitions: &[(i32, OffsetBounds)]) -> Topic {
    Topic {
        partitions: partitions
            .iter()
            .map(|&(number, bounds)| (Partition(number), bounds))
            .collect(),
        identity: Identity { cluster_id: Some("c1".to_owned()), topic_id: Some("t1".to_owned()) },
    }
}

const fn bounds(low: i64, high: i64, waited: i64) -> OffsetBounds {
    OffsetBounds { low: Offset(low), high: Offset(high), waited: Offset(waited) }
}

fn health() -> LakeHealth {
    let files = |files, bytes| FileCount { files, bytes };
    LakeHealth {
        tables: vec![TableHealth {
            table: "main.events".to_owned(),
            target_bytes: 256 << 20,
            live: files(42, 50 << 20),
            sizes: SizeClasses {
                tiny: files(39, 1 << 20),
                small: files(2, 4 << 20),
                medium: files(1, 45 << 20),
                full: files(0, 0),
            },
            with_deletes: 3,
            mergeable: 35,
            merge_groups: 2,
            schema_versions: 2,
            partition_values: 2,
            one_day: Some(DayScan {
                day: "2026-10-31".parse().unwrap(),
                of: DayAssignment::PartitionKey,
                files: 12,
            }),
        }],
        snapshots: SnapshotsKept {
            count: 1042,
            oldest: SnapshotId(0),
            oldest_at: "2026-10-31T08:00:00Z".parse().unwrap(),
            retention: Some(Duration::from_hours(7 * 24)),
            kept_by: Some(RetentionHold {
                by: HoldReason::Pin("audit".to_owned()),
                from: SnapshotId(17),
            }),
        },
        ended: files(5, 500),
        awaiting_removal: AwaitingRemoval {
            files: 1204,
            since: Some("2026-11-01T11:00:00Z".parse().unwrap()),
            delay: Some(Duration::from_hours(48)),
        },
        ledger_rows: 98_765,
        last_maintenance: vec![LastMaintenance {
            kind: Operation::MergeAdjacentFiles,
            at: "2026-11-01T11:58:00Z".parse().unwrap(),
            done: 64,
        }],
        last_verification: Some(LastVerification {
            at: "2026-11-01T09:00:00Z".parse().unwrap(),
            findings: 0,
            deep: true,
        }),
    }
}

fn report(
    progress: Vec<PartitionProgress>,
    topic: Result<Topic, KafkaUnavailable>,
) -> StatusReport {
    let cluster = topic.map(|topic| Cluster {
        topics: BTreeMap::from([("events".to_owned(), topic)]),
        groups: BTreeMap::new(),
    });
    report_of(progress, cluster)
}

fn report_of(
    progress: Vec<PartitionProgress>,
    cluster: Result<Cluster, KafkaUnavailable>,
) -> StatusReport {
    let data = StatusData {
        overview: Overview {
            data_path: "/lake/files/".to_owned(),
            ducklake_version: "1.0".to_owned(),
            layout_version: 1,
            snapshots: SnapshotRange {
                count: 1042,
                newest: SnapshotId(1041),
                committed_at: "2026-11-01T11:59:58.8Z".parse().unwrap(),
            },
        },
        tables: vec![TableSize {
            table: "main.events".to_owned(),
            rows: 1_000_000,
            files: 42,
            bytes: 50 << 20,
        }],
        health: health(),
        open_dead_letters: BTreeMap::from([("main.events".to_owned(), 3)]),
        sources: vec![SourceState {
            source: source(),
            group_id: "ducktide-1".to_owned(),
            progress,
        }],
        client_id: "ducktide-1".to_owned(),
        cluster,
        at: now(),
    };
    StatusReport::new(&data, &CATALOG.parse().unwrap(), "localhost:9092")
}

const JUST_NOW: &str = "2026-11-01T11:59:58Z";
const LONG_AGO: &str = "2026-11-01 11:00:00+00";

#[test]
fn lag_is_the_distance_from_the_lakes_position_to_kafkas_end() {
    let report = report(vec![progress(0, 90, JUST_NOW)], Ok(topic(&[(0, bounds(0, 100, 0))])));

    let partition = &report.sources[0].partitions[0];
    assert_eq!(
        (partition.next_offset, partition.end_offset),
        (Some(Offset(90)), Some(Offset(100)))
    );
    assert_eq!(partition.lag, Some(10));
    assert_eq!(partition.last_commit_age_seconds, Some(2.0));
    assert_eq!(report.judgement.state, FlowState::Lagging);
}

#[test]
fn a_new_record_in_an_idle_partition_is_no_stall() {
    let report = report(vec![progress(0, 99, LONG_AGO)], Ok(topic(&[(0, bounds(0, 100, 99))])));

    assert!(!report.sources[0].partitions[0].stalled);
    assert_eq!(report.judgement.text, "lag 1 record in 1 partition");
}

#[test]
fn an_old_record_without_a_commit_is_a_stall() {
    let report = report(vec![progress(0, 98, LONG_AGO)], Ok(topic(&[(0, bounds(0, 100, 99))])));

    let expected = "partition 0 of events: no commit for 1h 0m while 2 records wait";
    assert_eq!(report.judgement.text, expected);
}

#[test]
fn the_lag_of_a_partition_without_progress_is_its_length() {
    let report = report(vec![], Ok(topic(&[(3, bounds(10, 25, 10))])));

    let partition = &report.sources[0].partitions[0];
    assert_eq!((partition.partition, partition.next_offset), (Partition(3), None));
    assert_eq!((partition.lag, partition.stalled), (Some(15), false));
}

#[test]
fn progress_beyond_the_end_offset_has_no_lag() {
    let report = report(vec![progress(0, 101, JUST_NOW)], Ok(topic(&[(0, bounds(0, 100, 99))])));

    assert_eq!(report.judgement.state, FlowState::UpToDate);
}

#[test]
fn offsets_removed_by_retention_are_a_problem() {
    let report = report(vec![progress(0, 5, JUST_NOW)], Ok(topic(&[(0, bounds(20, 100, 20))])));

    assert_eq!(report.judgement.state, FlowState::Problem);
    assert!(report.judgement.text.contains("from 5 to 19"), "{}", report.judgement.text);
}

#[test]
fn a_recreated_topic_is_a_problem() {
    let mut topic = topic(&[(0, bounds(0, 100, 0))]);
    topic.identity.topic_id = Some("t2".to_owned());
    let report = report(vec![progress(0, 90, JUST_NOW)], Ok(topic));

    assert!(report.judgement.text.contains("deleted and recreated"), "{}", report.judgement.text);
}

#[test]
fn a_partition_read_by_a_consumer_of_another_lake_is_a_problem() {
    let member = |client_id: &str, partition| GroupMember {
        client_id: client_id.to_owned(),
        host: "/10.0.0.7".to_owned(),
        partitions: vec![TopicPartition::new("events", partition)],
    };
    let members = vec![member("ducktide-1", 0), member("ducktide-2", 1), member("mine", 2)];
    let topic = topic(&[0, 1, 2].map(|partition| (partition, bounds(0, 100, 0))));
    let cluster = Cluster {
        topics: BTreeMap::from([("events".to_owned(), topic)]),
        groups: BTreeMap::from([("ducktide-1".to_owned(), members)]),
    };
    let progress = [0, 1, 2].map(|partition| progress(partition, 90, JUST_NOW)).to_vec();

    let report = report_of(progress, Ok(cluster));

    let partitions = &report.sources[0].partitions;
    let problems = partitions.iter().map(|partition| partition.problem.is_some());
    assert_eq!(problems.collect::<Vec<_>>(), [false, true, false]);
    let text = &report.judgement.text;
    assert!(text.starts_with("partition 1 of events") && text.contains("--group-id"), "{text}");
    assert!(text.contains("ducktide-2@10.0.0.7"), "{text}");
    let shown = text::render(&report);
    assert!(shown.contains("group ducktide-1 of 3 members\n"), "{shown}");
}

#[test]
fn a_deleted_topic_is_a_problem() {
    let report = report(vec![progress(0, 90, JUST_NOW)], Ok(Topic::default()));

    assert_eq!(report.judgement.text, "topic events: Kafka has no such topic");
}

#[test]
fn the_lake_is_shown_while_kafka_is_unavailable() {
    let report =
        report(vec![progress(0, 90, JUST_NOW)], Err(KafkaUnavailable("no answer".to_owned())));

    let expected = "\
catalog    postgres://me:***@db/lake
data path  /lake/files/
snapshots  1,042, newest 1041 committed 1.2s ago

table             rows  files     bytes
───────────  ─────────  ─────  ────────
main.events  1,000,000     42  50.0 MiB
! main.events: 3 open dead letters; see `ducktide dead-letters list --table main.events`

Lake: healthy
files        < 1 MiB  < 16 MiB  < target  larger     target
───────────  ───────  ────────  ────────  ──────  ─────────
main.events       39         2         1       0  256.0 MiB
main.events: a full scan opens 45 files, one day (2026-10-31) 12; merges would save 35; \
3 with delete files; 2 schema versions
snapshots  1,042, oldest 0 (1d 4h ago); expire after 7d 0h; kept from 17 by pin `audit`
removal    1,204 files scheduled, the first 1h 0m ago; removed after 2d 0h
ledger     98,765 rows
last run   merge adjacent files 2m 0s ago
verified   3h 0m ago, every offset: nothing lost, no duplicates

main.events from topic events, pipeline demo, group ducktide-1
partition  lake offset  end offset  lag  epoch  last commit
─────────  ───────────  ──────────  ───  ─────  ───────────
        0           90           -    -      0     2.0s ago

lag unknown: Kafka: no answer
";
    assert_eq!(text::render(&report), expected);
}

#[test]
fn the_json_names_stay_stable() {
    let report = report(vec![progress(0, 90, JUST_NOW)], Ok(topic(&[(0, bounds(0, 100, 0))])));
    let json: serde_json::Value = serde_json::from_str(&report.to_json_line()).unwrap();

    let expected = serde_json::json!({
        "lake": {
            "catalog": "postgres://me:***@db/lake", "data_path": "/lake/files/",
            "ducklake_version": "1.0", "layout_version": 1, "snapshots": 1042,
            "newest_snapshot": {
                "snapshot_id": 1041, "committed_at": "2026-11-01T11:59:58.8Z", "age_seconds": 1.2,
            },
        },
        "tables": [{
            "table": "main.events", "rows": 1_000_000, "files": 42, "bytes": 52_428_800,
            "open_dead_letters": 3,
        }],
        "health": {
            "state": "healthy", "text": "healthy",
            "tables": [{
                "table": "main.events", "target_bytes": 268_435_456,
                "tiny": {"files": 39, "bytes": 1_048_576}, "small": {"files": 2, "bytes": 4_194_304},
                "medium": {"files": 1, "bytes": 47_185_920}, "full": {"files": 0, "bytes": 0},
                "small_share": 41.0 / 42.0, "mergeable": 35, "with_deletes": 3,
                "schema_versions": 2, "partition_values": 2, "full_scan_files": 45,
                "one_day": {"day": "2026-10-31", "of": "partition_key", "files": 12},
            }],
            "snapshots": {
                "count": 1042, "oldest_snapshot_id": 0,
                "oldest_committed_at": "2026-10-31T08:00:00Z", "oldest_age_seconds": 100_800.0,
                "expire_after_seconds": 604_800,
                "kept_by": {"kind": "pin", "name": "audit", "from_snapshot_id": 17},
            },
            "ended": {"files": 5, "bytes": 500},
            "awaiting_removal": {
                "files": 1204, "since": "2026-11-01T11:00:00Z", "age_seconds": 3600.0,
                "remove_after_seconds": 172_800,
            },
            "ledger_rows": 98_765,
            "last_maintenance": [{
                "kind": "merge_adjacent_files", "at": "2026-11-01T11:58:00Z",
                "age_seconds": 120.0, "done": 64,
            }],
            "last_verification": {
                "at": "2026-11-01T09:00:00Z", "age_seconds": 10_800.0, "findings": 0, "deep": true,
            },
        },
        "sources": [{
            "source_id": 1, "table": "main.events", "topic": "events", "pipeline": "demo",
            "group_id": "ducktide-1", "group_members": null, "problem": null,
            "partitions": [{
                "partition": 0, "epoch": 0, "next_offset": 90, "end_offset": 100, "lag": 10,
                "snapshot_id": 41, "last_commit_at": "2026-11-01T11:59:58Z",
                "last_commit_age_seconds": 2.0, "stalled": false, "reader": null, "problem": null,
            }],
        }],
        "kafka": {"bootstrap_servers": "localhost:9092", "reachable": true, "error": null},
        "judgement": {"state": "lagging", "text": "lag 10 records in 1 partition", "lag": 10},
    });
    assert_eq!(json, expected);
}
