//! `ducktide-compactor plan`: prints the operations that are due, with their reasons.

use std::io::Write;

use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::LakeError;
use ducktide_service::text_table::{Align, TextTable};
use ducktide_service::units;
use jiff::Timestamp;
use serde::Serialize;

use crate::config::{Config, PlanArgs};
use crate::error::CompactorError;
use crate::planner::{self, DueTiers, Merge, MergeOperation, MergePolicy, MergeReason};

/// Prints the operations that `once` would run. Changes nothing.
pub fn show_plan(args: PlanArgs, out: &mut dyn Write) -> Result<(), CompactorError> {
    let config = Config::try_from(args.pass)?;
    let mut lake = DuckLake::open(&config.lake, Access::Read)?;
    let tables = ducktide_maintenance::files_to_merge(&mut lake, config.policy.target)?;
    let due = DueTiers::all(&config.policy);
    let operations = planner::plan(&tables, &config.policy, &due, Timestamp::now());
    let waiting: usize =
        tables.iter().flat_map(|table| &table.groups).map(|(_, files)| files.len()).sum();
    let snapshots = SnapshotPlan::read(&mut lake, &config)?;
    let orphans = OrphanPlan::read(&mut lake, &config);
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

/// The plan as JSON. Its field names must stay stable.
#[derive(Debug, Serialize)]
struct PlanReport {
    /// Live files below the target size.
    files_below_target: usize,
    operations: Vec<PlannedOperation>,
    snapshots: SnapshotPlan,
    orphans: OrphanPlan,
}

#[derive(Debug, Serialize)]
struct SnapshotPlan {
    count: u64,
    expire: u64,
    oldest_left: Option<i64>,
}

impl SnapshotPlan {
    fn read(lake: &mut DuckLake, config: &Config) -> Result<Self, LakeError> {
        let plan = ducktide_maintenance::plan_expiry(lake, &config.retention.snapshot_retention())?;
        let oldest_left = plan.oldest_left.map(|id| id.0);
        Ok(Self { count: plan.snapshots, expire: plan.expires, oldest_left })
    }
}

/// Files that are in no catalog and old enough to be removed.
#[derive(Debug, Serialize)]
struct OrphanPlan {
    files: usize,
    bytes: u64,
    /// Reason why they cannot be listed.
    problem: Option<String>,
}

impl OrphanPlan {
    fn read(lake: &mut DuckLake, config: &Config) -> Self {
        match ducktide_maintenance::find_orphans(lake, config.retention.orphan_policy().margin) {
            Ok(found) => Self { files: found.candidates.len(), bytes: found.bytes, problem: None },
            Err(error) => Self { files: 0, bytes: 0, problem: Some(error.chain()) },
        }
    }
}

#[derive(Debug, Serialize)]
struct PlannedOperation {
    table: String,
    files: usize,
    bytes: u64,
    files_less: usize,
    merges: Vec<PlannedMerge>,
}

#[derive(Debug, Serialize)]
struct PlannedMerge {
    partition: Vec<Option<String>>,
    schema_version: i64,
    files: usize,
    bytes: u64,
    reason: String,
}

impl PlanReport {
    fn new(
        operations: &[MergeOperation],
        files_below_target: usize,
        policy: &MergePolicy,
        snapshots: SnapshotPlan,
        orphans: OrphanPlan,
    ) -> Self {
        let merge = |merge: &Merge| PlannedMerge {
            partition: merge.group.partition.clone(),
            schema_version: merge.group.schema_version,
            files: merge.files.len(),
            bytes: merge.bytes,
            reason: reason_text(merge, policy),
        };
        let operation = |operation: &MergeOperation| PlannedOperation {
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
    operations: &[MergeOperation],
    waiting: usize,
    policy: &MergePolicy,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let target = units::bytes(policy.target);
    if operations.is_empty() {
        let files = units::count(waiting as u64, "file");
        return writeln!(out, "nothing to merge: {files} below {target}, no tier is full");
    }
    let mut table = TextTable::with_columns(&[
        ("operation", Align::Right),
        ("table", Align::Left),
        ("partition", Align::Left),
        ("files", Align::Right),
        ("bytes", Align::Right),
        ("reason", Align::Left),
    ]);
    for (index, operation) in operations.iter().enumerate() {
        for merge in &operation.merges {
            table.push(vec![
                (index + 1).to_string(),
                operation.table.to_string(),
                partition(merge),
                units::number(merge.files.len() as u64),
                units::bytes(merge.bytes),
                reason_text(merge, policy),
            ]);
        }
    }
    table.write(out)?;
    let files: usize = operations.iter().map(MergeOperation::files).sum();
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
    snapshots: &SnapshotPlan,
    orphans: &OrphanPlan,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let of_all = units::count(snapshots.count, "snapshot");
    writeln!(out, "{} of {of_all} would expire", units::number(snapshots.expire))?;
    if let Some(problem) = &orphans.problem {
        return writeln!(out, "orphans cannot be listed, none would be removed: {problem}");
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

fn reason_text(merge: &Merge, policy: &MergePolicy) -> String {
    match merge.reason {
        MergeReason::TierFull(_) if merge.bytes >= policy.target => {
            "files reach the target size".to_owned()
        }
        MergeReason::TierFull(tier) => {
            format!("files together reach {}", units::bytes(policy.upper_bound(tier)))
        }
        MergeReason::Cold => {
            format!("no new files for {}", units::duration(policy.cold_after))
        }
    }
}
