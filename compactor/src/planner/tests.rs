use std::time::Duration;

use ducktide_maintenance::{DataFile, FileGroup};
use proptest::prelude::*;

use super::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn policy() -> MergePolicy {
    MergePolicy {
        target: 256 * MIB,
        tiers: vec![256 * KIB, 8 * MIB],
        cold_after: Duration::from_hours(24),
        operation_bytes: 512 * MIB,
        operation_files: 1_000,
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(10_000_000).unwrap()
}

fn hours_ago(hours: i64) -> Timestamp {
    now() - jiff::SignedDuration::from_hours(hours)
}

fn file(id: i64, bytes: u64) -> DataFile {
    DataFile { id, bytes, changed_at: Some(hours_ago(0)) }
}

fn group(day: &str) -> FileGroup {
    FileGroup { schema_version: 1, partition_id: Some(2), partition: vec![Some(day.to_owned())] }
}

fn table(groups: Vec<(FileGroup, Vec<DataFile>)>) -> TableFiles {
    TableFiles { table: "events".parse().unwrap(), groups }
}

fn planned(files: Vec<DataFile>) -> Vec<MergeOperation> {
    let tables = [table(vec![(group("2026-11-01"), files)])];
    plan(&tables, &policy(), &DueTiers::all(&policy()), now())
}

/// Returns the files and the reason of each merge.
fn merges(files: Vec<DataFile>) -> Vec<(Vec<i64>, MergeReason)> {
    let operations = planned(files).into_iter().flat_map(|operation| operation.merges);
    operations.map(|merge| (merge.files, merge.reason)).collect()
}

#[test]
fn files_wait_until_they_leave_their_tier_together() {
    assert_eq!(merges((0..12).map(|id| file(id, 20 * KIB)).collect()), []);

    let full = merges((0..13).map(|id| file(id, 20 * KIB)).collect());
    assert_eq!(full, [((0..13).collect(), MergeReason::TierFull(0))]);
}

#[test]
fn an_output_below_its_tier_bound_waits_for_three_times_its_size() {
    let with =
        |count| std::iter::once(file(0, 250 * KIB)).chain((1..=count).map(|i| file(i, 20 * KIB)));

    assert_eq!(merges(with(12).collect()), []);
    assert_eq!(merges(with(38).collect()).len(), 1);
}

#[test]
fn files_that_reach_the_target_are_merged_whatever_their_largest_file() {
    let full = merges(vec![file(0, 200 * MIB), file(1, 60 * MIB)]);

    assert_eq!(full, [(vec![0, 1], MergeReason::TierFull(2))]);
}

#[test]
fn files_of_the_target_size_are_never_merged() {
    assert_eq!(merges(vec![file(0, 256 * MIB), file(1, 300 * MIB)]), []);
}

#[test]
fn a_cold_partition_becomes_one_file() {
    let old = |id, bytes| DataFile { changed_at: Some(hours_ago(25)), ..file(id, bytes) };
    let cold = merges(vec![old(0, 30 * MIB), old(1, 9 * MIB), old(2, 300 * KIB), old(3, 2 * KIB)]);
    assert_eq!(cold, [], "each is much larger than the next ones: no merge is worthwhile");

    let cold = merges(vec![old(0, 30 * MIB), old(1, 20 * MIB), old(2, 8 * MIB), old(3, 7 * MIB)]);
    assert_eq!(cold, [(vec![0, 1, 2, 3], MergeReason::Cold)]);
}

#[test]
fn files_of_expired_snapshots_are_cold() {
    let expired = |id| DataFile { changed_at: None, ..file(id, 30 * MIB) };

    assert_eq!(merges(vec![expired(0), expired(1)]), [(vec![0, 1], MergeReason::Cold)]);
}

#[test]
fn late_rows_do_not_prevent_the_merge_of_a_day() {
    let old = |id| DataFile { changed_at: Some(hours_ago(25)), ..file(id, 9 * MIB) };

    let cold = merges(vec![old(0), old(1), file(2, 2 * KIB), file(3, 2 * KIB)]);

    assert_eq!(cold, [(vec![0, 1], MergeReason::Cold)]);
}

#[test]
fn a_large_file_is_not_rewritten_for_a_few_late_rows() {
    let old = |id, bytes| DataFile { changed_at: Some(hours_ago(25)), ..file(id, bytes) };

    let cold = merges(vec![old(0, 170 * MIB), old(1, 2 * KIB), old(2, 3 * KIB)]);

    assert_eq!(cold, [(vec![1, 2], MergeReason::Cold)]);
}

#[test]
fn only_due_tiers_are_merged() {
    let files: Vec<_> = (0..20).map(|id| file(id, 20 * KIB)).collect();
    let tables = [table(vec![(group("2026-11-01"), files)])];
    let due = DueTiers { tiers: vec![false, true, true], cold: true };

    assert_eq!(plan(&tables, &policy(), &due, now()), []);
}

#[test]
fn the_table_with_the_largest_reduction_of_files_comes_first() {
    let of = |name: &str, count: i64| TableFiles {
        table: name.parse().unwrap(),
        groups: vec![(group("2026-11-01"), (0..count).map(|id| file(id, 20 * KIB)).collect())],
    };

    let planned =
        plan(&[of("few", 20), of("many", 200)], &policy(), &DueTiers::all(&policy()), now());

    assert_eq!(planned[0].table.table, "many");
}

#[test]
fn partitions_share_an_operation() {
    let day = |day: &str, from: i64| {
        (group(day), (from..from + 20).map(|id| file(id, 20 * KIB)).collect::<Vec<_>>())
    };
    let tables = [table(vec![day("2026-11-01", 0), day("2026-11-02", 100)])];

    let planned = plan(&tables, &policy(), &DueTiers::all(&policy()), now());

    assert_eq!((planned.len(), planned[0].merges.len()), (1, 2));
}

#[test]
fn five_thousand_files_are_merged_within_the_bounds() {
    let planned = planned((0..5_000).map(|id| file(id, 20 * KIB)).collect());

    assert_eq!(planned.iter().map(MergeOperation::files).sum::<usize>(), 5_000);
    assert!(planned.len() <= 6, "{}", planned.len());
}

fn any_file() -> impl Strategy<Value = (u64, i64)> {
    (10_u32..29).prop_flat_map(|exponent| ((1_u64 << exponent)..(2 << exponent), 0_i64..60))
}

proptest! {
    #[test]
    fn every_plan_is_within_its_bounds(sizes in prop::collection::vec(any_file(), 0..400)) {
        let files: Vec<_> = sizes.iter().enumerate().map(|(id, (bytes, hours))| DataFile {
            changed_at: Some(hours_ago(*hours)), ..file(i64::try_from(id).unwrap(), *bytes)
        }).collect();
        let size = |id: &i64| sizes[usize::try_from(*id).unwrap()].0;
        let mut seen = std::collections::HashSet::new();
        for operation in planned(files) {
            prop_assert!(operation.files() <= policy().operation_files);
            prop_assert!(operation.bytes() <= policy().operation_bytes || operation.merges.len() == 1);
            let groups: std::collections::HashSet<_> =
                operation.merges.iter().map(|merge| &merge.group).collect();
            prop_assert_eq!(groups.len(), operation.merges.len());
            for merge in &operation.merges {
                prop_assert!(merge.files.len() > 1);
                prop_assert!(merge.files.is_sorted(), "in snapshot order");
                prop_assert!(merge.bytes < 2 * policy().target);
                prop_assert!(merge.files.iter().all(|id| size(id) < policy().target));
                prop_assert_eq!(merge.bytes, merge.files.iter().map(size).sum::<u64>());
                prop_assert!(merge.files.iter().all(|id| seen.insert(*id)), "merged once");
            }
        }
    }

    /// Repeated planning and merging ends: no file is merged forever.
    #[test]
    fn repeated_merging_ends(sizes in prop::collection::vec(any_file(), 0..200)) {
        let mut files: Vec<_> = sizes.iter().enumerate().map(|(id, (bytes, hours))| DataFile {
            changed_at: Some(hours_ago(*hours)), ..file(i64::try_from(id).unwrap(), *bytes)
        }).collect();
        let mut rounds = 0;
        loop {
            let operations = planned(files.clone());
            if operations.is_empty() { break; }
            rounds += 1;
            prop_assert!(rounds < 20, "{files:?}");
            for merge in operations.iter().flat_map(|operation| &operation.merges) {
                let merged: Vec<_> = files.extract_if(.., |file| merge.files.contains(&file.id)).collect();
                let newest = merged.iter().filter_map(|file| file.changed_at).max();
                files.push(DataFile { changed_at: newest, ..file(merge.files[0], merge.bytes) });
            }
        }
    }
}
