//! `ducktide-compactor plan`: what would be done now, and why.

use std::io::Write;

use ducktide_lake::text_table::{Align, TextTable};
use ducktide_lake::units;
use ducktide_lake::{Access, DuckLake, LakeError};
use jiff::Timestamp;
use serde::Serialize;

use crate::config::{Config, PlanArgs};
use crate::error::CompactorError;
use crate::planner::{self, Due, Merge, Operation, Policy, Reason};

/// Shows what `once` would do. Nothing is changed.
pub fn show_plan(args: PlanArgs, out: &mut dyn Write) -> Result<(), CompactorError> {
    let config = Config::try_from(args.pass)?;
    let mut lake = DuckLake::open(&config.lake, Access::Read)?;
    let tables = lake.files_to_merge(config.policy.target)?;
    let due = Due::all(&config.policy);
    let operations = planner::plan(&tables, &config.policy, &due, Timestamp::now());
    let waiting: usize =
        tables.iter().flat_map(|table| &table.groups).map(|(_, files)| files.len()).sum();
    let snapshots = SnapshotsReport::look(&mut lake, &config)?;
    let orphans = OrphansReport::look(&mut lake, &config);
    if args.json {
        let plan = PlanReport::new(&operations, waiting, &config.policy, snapshots, orphans);
        serde_json::to_writer_pretty(&mut *out, &plan).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write_merges(&operations, waiting, &config.policy, out)?;
        write_removals(&snapshots, &orphans, out)?;
    }
    Ok(())
}

/// The JSON, whose names must stay stable.
#[derive(Debug, Serialize)]
struct PlanReport {
    /// Live files below the target size.
    files_below_target: usize,
    operations: Vec<OperationReport>,
    snapshots: SnapshotsReport,
    orphans: OrphansReport,
}

#[derive(Debug, Serialize)]
struct SnapshotsReport {
    count: u64,
    expire: u64,
    oldest_left: Option<i64>,
}

impl SnapshotsReport {
    fn look(lake: &mut DuckLake, config: &Config) -> Result<Self, LakeError> {
        let plan = lake.plan_expiry(&config.retention.of_snapshots())?;
        let oldest_left = plan.oldest_left.map(|id| id.0);
        Ok(Self { count: plan.snapshots, expire: plan.expires, oldest_left })
    }
}

/// Files that no catalog knows and that are old enough to go.
#[derive(Debug, Serialize)]
struct OrphansReport {
    files: usize,
    bytes: u64,
    /// Why they cannot be told.
    problem: Option<String>,
}

impl OrphansReport {
    fn look(lake: &mut DuckLake, config: &Config) -> Self {
        match lake.find_orphans(config.retention.of_orphans().margin) {
            Ok(found) => Self { files: found.candidates.len(), bytes: found.bytes, problem: None },
            Err(error) => Self { files: 0, bytes: 0, problem: Some(error.chain()) },
        }
    }
}

#[derive(Debug, Serialize)]
struct OperationReport {
    table: String,
    files: usize,
    bytes: u64,
    files_less: usize,
    merges: Vec<MergeReport>,
}

#[derive(Debug, Serialize)]
struct MergeReport {
    partition: Vec<Option<String>>,
    schema_version: i64,
    files: usize,
    bytes: u64,
    reason: String,
}

impl PlanReport {
    fn new(
        operations: &[Operation],
        files_below_target: usize,
        policy: &Policy,
        snapshots: SnapshotsReport,
        orphans: OrphansReport,
    ) -> Self {
        let merge = |merge: &Merge| MergeReport {
            partition: merge.group.partition.clone(),
            schema_version: merge.group.schema_version,
            files: merge.files.len(),
            bytes: merge.bytes,
            reason: why(merge, policy),
        };
        let operation = |operation: &Operation| OperationReport {
            table: operation.table.to_string(),
            files: operation.files(),
            bytes: operation.bytes(),
            files_less: operation.files_less(),
            merges: operation.merges.iter().map(merge).collect(),
        };
        let operations = operations.iter().map(operation).collect();
        Self { files_below_target, operations, snapshots, orphans }
    }
}

fn write_merges(
    operations: &[Operation],
    waiting: usize,
    policy: &Policy,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let target = units::bytes(policy.target);
    if operations.is_empty() {
        let files = units::count(waiting as u64, "file");
        return writeln!(
            out,
            "nothing to merge: {files} below {target}, none of which would leave a tier"
        );
    }
    let mut table = TextTable::with_columns(&[
        ("operation", Align::Right),
        ("table", Align::Left),
        ("partition", Align::Left),
        ("files", Align::Right),
        ("bytes", Align::Right),
        ("why", Align::Left),
    ]);
    for (index, operation) in operations.iter().enumerate() {
        for merge in &operation.merges {
            table.push(vec![
                (index + 1).to_string(),
                operation.table.to_string(),
                partition(merge),
                units::number(merge.files.len() as u64),
                units::bytes(merge.bytes),
                why(merge, policy),
            ]);
        }
    }
    table.write(out)?;
    let files: usize = operations.iter().map(Operation::files).sum();
    let merges: usize = operations.iter().map(|operation| operation.merges.len()).sum();
    writeln!(
        out,
        "\n{} of {} below {target} would become {}, in {}",
        units::number(files as u64),
        units::count(waiting as u64, "file"),
        units::number(merges as u64),
        units::count(operations.len() as u64, "operation")
    )
}

fn write_removals(
    snapshots: &SnapshotsReport,
    orphans: &OrphansReport,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let of_all = units::count(snapshots.count, "snapshot");
    writeln!(out, "{} of {of_all} would expire", units::number(snapshots.expire))?;
    if let Some(problem) = &orphans.problem {
        return writeln!(out, "no orphan would be removed: {problem}");
    }
    let files = units::count(orphans.files as u64, "orphan");
    writeln!(out, "{files} of {} would be removed", units::bytes(orphans.bytes))
}

fn partition(merge: &Merge) -> String {
    if merge.group.partition.is_empty() {
        return "-".to_owned();
    }
    let values = merge.group.partition.iter().map(|value| value.as_deref().unwrap_or("NULL"));
    values.collect::<Vec<_>>().join(", ")
}

fn why(merge: &Merge, policy: &Policy) -> String {
    match merge.reason {
        Reason::TierFull(_) if merge.bytes >= policy.target => {
            "they reach the target size".to_owned()
        }
        Reason::TierFull(tier) => {
            format!("they reach {} together", units::bytes(policy.upper_bound(tier)))
        }
        Reason::Cold => {
            format!("nothing new for {}", units::duration(policy.cold_after))
        }
    }
}
