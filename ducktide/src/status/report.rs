//! Positions of the lake compared with the offsets of Kafka. Printed as text or as JSON, whose names
//! must stay stable.

use std::collections::BTreeMap;

use ducktide_lake::PartitionProgress;
use ducktide_lake::config::CatalogLocation;
use ducktide_protocol::position::{OffsetRange, SnapshotId};
use ducktide_protocol::{Source, SourceSpec};
use jiff::Timestamp;
use serde::Serialize;

use super::cluster_query::{OffsetBounds, STALLED_AFTER, Topic};
use super::data::{SourceState, StatusData};
use super::flow_judgement::{FlowJudgement, judge};
use super::group_member::assign_member;
use super::health_report::HealthReport;
use super::source_report::{PartitionReport, SourceReport};
use super::time::{age_seconds, as_text};

/// Output of `ducktide status`. The help documents these names.
#[derive(Debug, Serialize)]
pub(super) struct StatusReport {
    pub(super) lake: CatalogReport,
    pub(super) tables: Vec<TableReport>,
    pub(super) health: HealthReport,
    pub(super) sources: Vec<SourceReport>,
    pub(super) kafka: KafkaReport,
    pub(super) judgement: FlowJudgement,
}

#[derive(Debug, Serialize)]
pub(super) struct CatalogReport {
    pub(super) catalog: String,
    pub(super) data_path: String,
    pub(super) ducklake_version: String,
    pub(super) layout_version: u32,
    pub(super) snapshots: u64,
    pub(super) newest_snapshot: SnapshotReport,
}

#[derive(Debug, Serialize)]
pub(super) struct SnapshotReport {
    pub(super) snapshot_id: SnapshotId,
    #[serde(serialize_with = "as_text")]
    pub(super) committed_at: Timestamp,
    pub(super) age_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct TableReport {
    pub(super) table: String,
    pub(super) rows: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Records that could not be decoded and are neither retried nor discarded.
    pub(super) open_dead_letters: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct KafkaReport {
    pub(super) bootstrap_servers: String,
    pub(super) reachable: bool,
    pub(super) error: Option<String>,
}

impl StatusReport {
    pub(super) fn new(
        data: &StatusData,
        catalog: &CatalogLocation,
        bootstrap_servers: &str,
    ) -> Self {
        let cluster = &data.cluster;
        let sources = data.sources.iter();
        let sources: Vec<_> = sources.map(|source| source_report(source, data)).collect();
        let error = cluster.as_ref().err().map(|error| error.0.clone());
        Self {
            lake: lake_report(data, catalog),
            tables: table_reports(data),
            health: HealthReport::new(&data.health, data.at),
            judgement: judge(&sources, error.as_deref()),
            sources,
            kafka: KafkaReport {
                bootstrap_servers: bootstrap_servers.to_owned(),
                reachable: error.is_none(),
                error,
            },
        }
    }

    pub(super) fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        json.expect("numbers, texts and fixed names always serialize") + "\n"
    }

    pub(super) fn to_json_line(&self) -> String {
        let json = serde_json::to_string(self);
        json.expect("numbers, texts and fixed names always serialize") + "\n"
    }
}

fn lake_report(data: &StatusData, catalog: &CatalogLocation) -> CatalogReport {
    let lake = &data.overview;
    CatalogReport {
        catalog: catalog.to_string(),
        data_path: lake.data_path.clone(),
        ducklake_version: lake.ducklake_version.clone(),
        layout_version: lake.layout_version,
        snapshots: lake.snapshots.count,
        newest_snapshot: SnapshotReport {
            snapshot_id: lake.snapshots.newest,
            committed_at: lake.snapshots.committed_at,
            age_seconds: age_seconds(lake.snapshots.committed_at, data.at),
        },
    }
}

fn table_reports(data: &StatusData) -> Vec<TableReport> {
    let tables = data.tables.iter();
    tables
        .map(|size| TableReport {
            table: size.table.clone(),
            rows: size.rows,
            files: size.files,
            bytes: size.bytes,
            open_dead_letters: data.open_dead_letters.get(&size.table).copied().unwrap_or(0),
        })
        .collect()
}

fn source_report(state: &SourceState, data: &StatusData) -> SourceReport {
    let SourceState { source, group_id, progress } = state;
    let (spec, cluster) = (&source.spec, data.cluster.as_ref().ok());
    let topic = cluster.and_then(|cluster| cluster.topics.get(&spec.topic));
    let members = cluster.and_then(|cluster| cluster.groups.get(group_id));
    let mut partitions = BTreeMap::new();
    for progress in progress {
        partitions.insert(progress.partition, partition_report(progress, data.at));
    }
    for (&partition, bounds) in topic.iter().flat_map(|topic| &topic.partitions) {
        let new = || PartitionReport::new(partition);
        let report = partitions.entry(partition).or_insert_with(new);
        add_kafka_offsets(report, bounds);
        if let Some(members) = members {
            assign_member(report, &spec.topic, members, &data.client_id);
        }
    }
    SourceReport {
        source_id: source.id,
        table: spec.table.to_string(),
        topic: spec.topic.clone(),
        pipeline: spec.pipeline.clone(),
        group_id: group_id.clone(),
        group_members: members.map(Vec::len),
        problem: topic.and_then(|topic| topic_problem(source, topic)),
        partitions: partitions.into_values().collect(),
    }
}

fn partition_report(progress: &PartitionProgress, now: Timestamp) -> PartitionReport {
    let last_commit_at = progress.updated_at;
    PartitionReport {
        epoch: Some(progress.position.epoch),
        next_offset: Some(progress.position.next_offset),
        snapshot_id: progress.snapshot_id,
        last_commit_at,
        last_commit_age_seconds: last_commit_at.map(|at| age_seconds(at, now)),
        ..PartitionReport::new(progress.partition)
    }
}

fn add_kafka_offsets(report: &mut PartitionReport, bounds: &OffsetBounds) {
    // A partition that was added after its source was registered is read from its beginning.
    let next_offset = report.next_offset.unwrap_or(bounds.low);
    let no_commit =
        report.last_commit_age_seconds.is_none_or(|age| age > STALLED_AFTER.as_secs_f64());
    report.end_offset = Some(bounds.high);
    report.lag = Some(OffsetRange { from: next_offset, to: bounds.high }.len().max(0));
    report.stalled = no_commit && next_offset < bounds.waited;
    // Progress is read after the end offset and can be ahead of it, but only shortly after a commit.
    // Without a recent commit, the topic was reset.
    report.problem = if next_offset < bounds.low {
        Some(format!(
            "Kafka no longer has the offsets from {next_offset} to {}; \
             they were removed before they were read",
            bounds.low.0 - 1
        ))
    } else if next_offset > bounds.high && no_commit {
        Some(format!(
            "Kafka ends at offset {}, before the lake's next offset {next_offset}",
            bounds.high
        ))
    } else {
        None
    };
}

fn topic_problem(source: &Source, topic: &Topic) -> Option<String> {
    if topic.partitions.is_empty() {
        return Some("Kafka has no such topic".to_owned());
    }
    let current = SourceSpec {
        cluster_id: topic.identity.cluster_id.clone(),
        topic_id: topic.identity.topic_id.clone(),
        ..source.spec.clone()
    };
    source.check_identity(&current).err().map(|error| error.to_string())
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
