//! Health of the lake as text.

use std::fmt::{self, Write as _};

use super::health_report::{
    HealthReport, RemovalReport, RetentionHoldReport, SnapshotsReport, TableHealthReport,
};
use ducktide_health::Thresholds;
use ducktide_service::text_table::{Align, TextTable};
use ducktide_service::units;

/// Returns the section, with the judgement of the lake in its heading.
pub(super) fn render(health: &HealthReport) -> String {
    let mut text = format!("Lake: {}\n", health.judgement.text);
    text += &sizes(&health.tables);
    for table in health.tables.iter().filter(|table| table.full_scan_files > 0) {
        text += &(scan_cost(table) + "\n");
    }
    for (name, line) in [
        ("snapshots", snapshots(&health.snapshots)),
        ("removal", removal(&health.awaiting_removal)),
        ("ledger", units::count(health.ledger_rows, "row")),
        ("last run", last_maintenance(health)),
        ("verified", last_verification(health)),
    ] {
        add(&mut text, format_args!("{name:<9}  {line}\n"));
    }
    text
}

/// Returns the number of files by table and size; nothing without files.
fn sizes(tables: &[TableHealthReport]) -> String {
    let Thresholds { tiny_bytes, small_bytes, .. } = Thresholds::default();
    let below = |bytes: u64| (format!("< {} MiB", bytes >> 20), Align::Right);
    let mut table = TextTable::new([
        ("files".to_owned(), Align::Left),
        below(tiny_bytes),
        below(small_bytes),
        ("< target".to_owned(), Align::Right),
        ("larger".to_owned(), Align::Right),
        ("target".to_owned(), Align::Right),
    ]);
    for of in tables.iter().filter(|table| table.full_scan_files > 0) {
        let counts = [of.tiny, of.small, of.medium, of.full].map(|of| units::number(of.files));
        let target = units::bytes(of.target_bytes);
        table.push([of.table.clone()].into_iter().chain(counts).chain([target]).collect());
    }
    if table.len() == 0 { String::new() } else { table.to_text() }
}

fn scan_cost(table: &TableHealthReport) -> String {
    let full = units::count(table.full_scan_files, "file");
    let mut text = format!("{}: a full scan opens {full}", table.table);
    if let Some(day) = &table.one_day {
        let rows = if day.of == "commit" { "the commits of one day" } else { "one day" };
        add(&mut text, format_args!(", {rows} ({}) {}", day.day, units::number(day.files)));
    }
    if table.mergeable > 0 {
        add(&mut text, format_args!("; merges would save {}", units::number(table.mergeable)));
    }
    if table.with_deletes > 0 {
        add(&mut text, format_args!("; {} with delete files", units::number(table.with_deletes)));
    }
    if table.schema_versions > 1 {
        add(&mut text, format_args!("; {} schema versions", units::number(table.schema_versions)));
    }
    text
}

fn snapshots(snapshots: &SnapshotsReport) -> String {
    let mut text = format!(
        "{}, oldest {} ({} ago)",
        units::number(snapshots.count),
        snapshots.oldest_snapshot_id,
        units::seconds(snapshots.oldest_age_seconds)
    );
    if let Some(seconds) = snapshots.expire_after_seconds {
        add(&mut text, format_args!("; expire after {}", whole(seconds)));
    }
    if let Some(RetentionHoldReport { kind, name, from_snapshot_id }) = &snapshots.kept_by {
        let by = match *kind {
            "pin" => format!("by pin `{name}`"),
            "announced_replay" => format!("for an announced replay of {name}"),
            _ => format!("until a replay of {name} is completed"),
        };
        add(&mut text, format_args!("; kept from {from_snapshot_id} {by}"));
    }
    text
}

fn removal(removal: &RemovalReport) -> String {
    let Some(age) = removal.age_seconds.filter(|_| removal.files > 0) else {
        return "no files scheduled".to_owned();
    };
    let scheduled = if removal.files == 1 { "scheduled" } else { "scheduled, the first" };
    let mut text =
        format!("{} {scheduled} {} ago", units::count(removal.files, "file"), units::seconds(age));
    if let Some(seconds) = removal.remove_after_seconds {
        add(&mut text, format_args!("; removed after {}", whole(seconds)));
    }
    text
}

fn add(text: &mut String, more: fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes any text");
}

fn whole(seconds: u64) -> String {
    units::duration(std::time::Duration::from_secs(seconds))
}

fn last_maintenance(health: &HealthReport) -> String {
    if health.last_maintenance.is_empty() {
        return "none".to_owned();
    }
    let runs = health.last_maintenance.iter().map(|last| {
        format!("{} {} ago", last.kind.replace('_', " "), units::seconds(last.age_seconds))
    });
    runs.collect::<Vec<_>>().join(", ")
}

fn last_verification(health: &HealthReport) -> String {
    let Some(last) = &health.last_verification else {
        return "never recorded; see `ducktide verify --record`".to_owned();
    };
    let scope = if last.deep { ", every offset" } else { "" };
    let result = match last.findings {
        0 => "nothing lost, no duplicates".to_owned(),
        findings => format!("{}; run `ducktide verify`", units::count(findings, "finding")),
    };
    format!("{} ago{scope}: {result}", units::seconds(last.age_seconds))
}
