//! The report as text.

use std::fmt::Write as _;

use super::health_text;
use super::report::{StatusReport, TableReport};
use super::source_report::{PartitionReport, SourceReport};
use ducktide_protocol::position::Offset;
use ducktide_service::text_table::{Align, TextTable};
use ducktide_service::units;

/// Text of an unknown value.
const UNKNOWN: &str = "-";

pub(super) fn render(report: &StatusReport) -> String {
    let mut text = lake(report);
    if !report.tables.is_empty() {
        text += "\n";
        text += &tables(&report.tables);
    }
    text += "\n";
    text += &health_text::render(&report.health);
    for source in &report.sources {
        text += "\n";
        text += &self::source(source);
    }
    text + "\n" + &report.judgement.text + "\n"
}

fn lake(report: &StatusReport) -> String {
    let lake = &report.lake;
    let newest = &lake.newest_snapshot;
    format!(
        "catalog    {}\ndata path  {}\nsnapshots  {}, newest {} committed {} ago\n",
        lake.catalog,
        lake.data_path,
        units::number(lake.snapshots),
        newest.snapshot_id,
        units::seconds(newest.age_seconds),
    )
}

fn tables(tables: &[TableReport]) -> String {
    let mut table = TextTable::with_columns(&[
        ("table", Align::Left),
        ("rows", Align::Right),
        ("files", Align::Right),
        ("bytes", Align::Right),
    ]);
    for size in tables {
        table.push(vec![
            size.table.clone(),
            units::number(size.rows),
            units::number(size.files),
            units::bytes(size.bytes),
        ]);
    }
    let mut text = table.to_text();
    for size in tables.iter().filter(|size| size.open_dead_letters != 0) {
        let letters = units::count(size.open_dead_letters, "open dead letter");
        let name = &size.table;
        writeln!(text, "! {name}: {letters}; see `ducktide dead-letters list --table {name}`")
            .expect("a string takes any text");
    }
    text
}

fn source(source: &SourceReport) -> String {
    let SourceReport { table: name, topic, pipeline, group_id, .. } = source;
    let members = match source.group_members {
        Some(members) => format!(" of {}", units::count(members as i128, "member")),
        None => String::new(),
    };
    let mut text =
        format!("{name} from topic {topic}, pipeline {pipeline}, group {group_id}{members}\n");
    let mut table = TextTable::with_columns(&[
        ("partition", Align::Right),
        ("lake offset", Align::Right),
        ("end offset", Align::Right),
        ("lag", Align::Right),
        ("epoch", Align::Right),
        ("last commit", Align::Right),
    ]);
    for partition in &source.partitions {
        table.push(row(partition));
    }
    text += &table.to_text();
    let problems = source.partitions.iter().filter_map(|partition| {
        Some(format!("partition {}: {}", partition.partition, partition.problem.as_ref()?))
    });
    for problem in source.problem.clone().into_iter().chain(problems) {
        writeln!(text, "! {problem}").expect("a string takes any text");
    }
    text
}

fn row(partition: &PartitionReport) -> Vec<String> {
    let or_unknown = |value: Option<i64>| value.map_or(UNKNOWN.to_owned(), units::number);
    let offset = |offset: Option<Offset>| or_unknown(offset.map(|offset| offset.0));
    let ago = |age| format!("{} ago", units::seconds(age));
    vec![
        partition.partition.to_string(),
        offset(partition.next_offset),
        offset(partition.end_offset),
        or_unknown(partition.lag),
        or_unknown(partition.epoch.map(|epoch| epoch.0.into())),
        partition.last_commit_age_seconds.map_or(UNKNOWN.to_owned(), ago),
    ]
}
