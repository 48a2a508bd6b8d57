//! Lake and Kafka side by side: what is printed, and the JSON whose names must stay stable.

use std::collections::BTreeMap;

use ducktide_lake::PartitionProgress;
use ducktide_lake::config::CatalogLocation;
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::{LakeError, Source, SourceSpec};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::health::HealthReport;
use super::judgement::{Judgement, judge};
use super::kafka::{Ends, STALLED_AFTER, Topic};
use super::readers::{ReaderReport, add_reader};
use super::{Reading, SourceReading};

/// All that `status` shows. The help documents these names.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) lake: LakeReport,
    pub(super) tables: Vec<TableReport>,
    pub(super) health: HealthReport,
    pub(super) sources: Vec<SourceReport>,
    pub(super) kafka: KafkaReport,
    pub(super) judgement: Judgement,
}

#[derive(Debug, Serialize)]
pub(super) struct LakeReport {
    pub(super) catalog: String,
    pub(super) data_path: String,
    pub(super) ducklake_version: String,
    pub(super) layout_version: u32,
    pub(super) snapshots: u64,
    pub(super) newest_snapshot: SnapshotReport,
}

#[derive(Debug, Serialize)]
pub(super) struct SnapshotReport {
    pub(super) snapshot_id: i64,
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
    /// Records meant for it that could not be decoded, and that nobody has resolved.
    pub(super) open_dead_letters: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct SourceReport {
    pub(super) source_id: i32,
    pub(super) table: String,
    pub(super) topic: String,
    pub(super) pipeline: String,
    pub(super) group_id: String,
    /// The number of the group's members; None while Kafka does not tell.
    pub(super) group_members: Option<usize>,
    /// Why none of its partitions can go on.
    pub(super) problem: Option<String>,
    pub(super) partitions: Vec<PartitionReport>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct PartitionReport {
    pub(super) partition: i32,
    /// With `next_offset` None while the lake does not know the partition.
    pub(super) epoch: Option<i32>,
    pub(super) next_offset: Option<i64>,
    /// None while Kafka does not say.
    pub(super) end_offset: Option<i64>,
    /// Offsets between the two; of a partition that the lake does not know, all that Kafka has.
    pub(super) lag: Option<i64>,
    pub(super) snapshot_id: Option<i64>,
    #[serde(serialize_with = "as_optional_text")]
    pub(super) last_commit_at: Option<Timestamp>,
    pub(super) last_commit_age_seconds: Option<f64>,
    /// Whether records have waited for a minute in which there was no commit.
    pub(super) stalled: bool,
    /// The member of the group that reads it.
    pub(super) reader: Option<ReaderReport>,
    /// Why it cannot go on.
    pub(super) problem: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct KafkaReport {
    pub(super) bootstrap_servers: String,
    pub(super) reachable: bool,
    pub(super) error: Option<String>,
}

impl Report {
    pub(super) fn new(
        reading: &Reading,
        catalog: &CatalogLocation,
        bootstrap_servers: &str,
    ) -> Result<Self, LakeError> {
        let cluster = &reading.cluster;
        let sources = reading.sources.iter();
        let sources: Vec<_> =
            sources.map(|source| source_report(source, reading)).collect::<Result<_, _>>()?;
        let error = cluster.as_ref().err().map(|error| error.0.clone());
        Ok(Self {
            lake: lake_report(reading, catalog),
            tables: table_reports(reading),
            health: HealthReport::new(&reading.health, reading.at),
            judgement: judge(&sources, error.as_deref()),
            sources,
            kafka: KafkaReport {
                bootstrap_servers: bootstrap_servers.to_owned(),
                reachable: error.is_none(),
                error,
            },
        })
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

fn lake_report(reading: &Reading, catalog: &CatalogLocation) -> LakeReport {
    let lake = &reading.overview;
    LakeReport {
        catalog: catalog.to_string(),
        data_path: lake.data_path.clone(),
        ducklake_version: lake.ducklake_version.clone(),
        layout_version: lake.layout_version,
        snapshots: lake.snapshots.count,
        newest_snapshot: SnapshotReport {
            snapshot_id: lake.snapshots.newest.0,
            committed_at: lake.snapshots.committed_at,
            age_seconds: age_seconds(lake.snapshots.committed_at, reading.at),
        },
    }
}

fn table_reports(reading: &Reading) -> Vec<TableReport> {
    let tables = reading.tables.iter();
    tables
        .map(|size| TableReport {
            table: size.table.clone(),
            rows: size.rows,
            files: size.files,
            bytes: size.bytes,
            open_dead_letters: reading.open_dead_letters.get(&size.table).copied().unwrap_or(0),
        })
        .collect()
}

fn source_report(of: &SourceReading, reading: &Reading) -> Result<SourceReport, LakeError> {
    let SourceReading { source, group_id, progress } = of;
    let (spec, cluster) = (&source.spec, reading.cluster.as_ref().ok());
    let topic = cluster.and_then(|cluster| cluster.topics.get(&spec.topic));
    let members = cluster.and_then(|cluster| cluster.groups.get(group_id));
    let mut partitions = BTreeMap::new();
    for of_lake in progress {
        partitions.insert(of_lake.partition.0, lake_side(of_lake, reading.at)?);
    }
    for (&partition, ends) in topic.iter().flat_map(|topic| &topic.partitions) {
        let report = partitions.entry(partition).or_insert_with(PartitionReport::default);
        report.partition = partition;
        add_kafka_side(report, ends);
        if let Some(members) = members {
            add_reader(report, &spec.topic, members, &reading.client_id);
        }
    }
    Ok(SourceReport {
        source_id: source.id.0,
        table: spec.table.to_string(),
        topic: spec.topic.clone(),
        pipeline: spec.pipeline.clone(),
        group_id: group_id.clone(),
        group_members: members.map(Vec::len),
        problem: topic.and_then(|topic| topic_problem(source, topic)),
        partitions: partitions.into_values().collect(),
    })
}

fn lake_side(progress: &PartitionProgress, now: Timestamp) -> Result<PartitionReport, LakeError> {
    let Partition(partition) = progress.partition;
    let Offset(next_offset) = progress.position.next_offset;
    let last_commit_at = progress.moved_at()?;
    Ok(PartitionReport {
        partition,
        epoch: Some(progress.position.epoch.0),
        next_offset: Some(next_offset),
        snapshot_id: progress.snapshot_id.map(|id| id.0),
        last_commit_at,
        last_commit_age_seconds: last_commit_at.map(|at| age_seconds(at, now)),
        ..PartitionReport::default()
    })
}

fn add_kafka_side(report: &mut PartitionReport, ends: &Ends) {
    // A partition that appeared after its source was registered starts at its beginning.
    let next_offset = report.next_offset.unwrap_or(ends.low);
    let no_commit =
        report.last_commit_age_seconds.is_none_or(|age| age > STALLED_AFTER.as_secs_f64());
    report.end_offset = Some(ends.high);
    report.lag = Some((ends.high - next_offset).max(0));
    report.stalled = no_commit && next_offset < ends.waited;
    // Progress is read after Kafka's end, and so may be ahead of it; but never by a reset topic's
    // whole length, nor while nothing was committed lately.
    report.problem = if next_offset < ends.low {
        Some(format!(
            "Kafka no longer has the offsets from {next_offset} to {}; \
             they were removed before they were read",
            ends.low - 1
        ))
    } else if next_offset > ends.high && no_commit {
        Some(format!("Kafka ends at offset {}, before the lake's {next_offset}", ends.high))
    } else {
        None
    };
}

fn topic_problem(source: &Source, topic: &Topic) -> Option<String> {
    if topic.partitions.is_empty() {
        return Some("Kafka has no such topic".to_owned());
    }
    let seen = SourceSpec {
        cluster_id: topic.identity.cluster_id.clone(),
        topic_id: topic.identity.topic_id.clone(),
        ..source.spec.clone()
    };
    source.check_identity(&seen).err().map(|error| error.to_string())
}

pub(super) fn as_text<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
pub(super) fn as_optional_text<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(serializer)
}

/// Never negative: the catalog's clock may be ahead of this machine's.
pub(super) fn age_seconds(at: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(at).as_secs_f64().max(0.0)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
