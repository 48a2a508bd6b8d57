//! `ducktide dead-letters list`.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DeadLetterFilter, DeadLetterSummary, DuckLake};
use ducktide_protocol::dead_letter::Resolution;
use ducktide_protocol::table::TableName;
use serde::Serialize;

use super::time::time_text;
use super::topic_table::topic_table;
use crate::failure::Failure;
use ducktide_service::text_table::{Align, TextTable};
use ducktide_service::units;

const NOTES: &str = "\
JSON, times in UTC, null if unknown; fields may be added:
  table      the table of the records
  open       number of all open dead letters of the table, as the ledger counts them
  letters[]  topic, partition, offset, schema_id, error_class, error, failed_at, bytes, resolution
             (null if open), resolved_at

Exit codes: 0 done, 2 wrong command line, 3 the lake is unavailable, 4 the lake cannot be used.";

/// Lists dead letters: partition, offset and error of each record.
#[derive(Args, Clone, Debug)]
#[command(after_help = NOTES)]
pub struct ListArgs {
    /// Table of the records. Required if topics fill several tables.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// List records of this topic only.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// List records of this error class only, such as `truncated`.
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,

    /// Maximum number of dead letters to list.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,

    /// List retried and discarded dead letters too.
    #[arg(long)]
    pub all: bool,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

#[derive(Serialize)]
struct DeadLetterList {
    table: String,
    open: i64,
    letters: Vec<DeadLetterItem>,
}

#[derive(Serialize)]
struct DeadLetterItem {
    topic: String,
    partition: i32,
    offset: i64,
    schema_id: Option<u32>,
    error_class: String,
    error: String,
    failed_at: String,
    bytes: u64,
    resolution: Option<&'static str>,
    resolved_at: Option<String>,
}

pub(super) fn run(args: &ListArgs) -> Result<(), Failure> {
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Read)?;
    let table = topic_table(&mut lake, args.table.as_ref(), args.topic.as_deref())?;
    let filter = DeadLetterFilter {
        topic: args.topic.clone(),
        class: args.class.clone(),
        with_resolved: args.all,
        limit: Some(args.limit),
        ..DeadLetterFilter::default()
    };
    let letters = lake.dead_letter_summaries(&table, &filter)?;
    let open = lake.open_dead_letters()?.get(&table.to_string()).copied().unwrap_or(0);
    let list = DeadLetterList {
        table: table.to_string(),
        open,
        letters: letters.into_iter().map(DeadLetterItem::from).collect(),
    };
    let mut out = io::stdout().lock();
    out.write_all(if args.json { json(&list) } else { text(&list) }.as_bytes())?;
    Ok(out.flush()?)
}

fn json(list: &DeadLetterList) -> String {
    serde_json::to_string_pretty(list).expect("numbers and texts always serialize") + "\n"
}

fn text(list: &DeadLetterList) -> String {
    let mut table = TextTable::with_columns(&[
        ("topic", Align::Left),
        ("partition", Align::Right),
        ("offset", Align::Right),
        ("class", Align::Left),
        ("error", Align::Left),
        ("bytes", Align::Right),
        ("failed at", Align::Left),
        ("resolution", Align::Left),
    ]);
    for item in &list.letters {
        table.push(vec![
            item.topic.clone(),
            item.partition.to_string(),
            item.offset.to_string(),
            item.error_class.clone(),
            item.error.clone(),
            units::bytes(item.bytes),
            item.failed_at.clone(),
            item.resolution.unwrap_or("open").to_owned(),
        ]);
    }
    let rows = if table.len() > 0 { table.to_text() + "\n" } else { String::new() };
    let listed = units::count(table.len() as u64, "dead letter");
    let open = units::number(list.open);
    rows + &format!("{listed} listed; {open} open in {}\n", list.table)
}

impl From<DeadLetterSummary> for DeadLetterItem {
    fn from(letter: DeadLetterSummary) -> Self {
        Self {
            topic: letter.place.topic,
            partition: letter.place.partition.0,
            offset: letter.place.offset.0,
            schema_id: letter.schema_id,
            error_class: letter.error_class,
            error: letter.error,
            failed_at: time_text(letter.failed_at_micros),
            bytes: letter.bytes,
            resolution: letter.resolution.map(Resolution::as_str),
            resolved_at: letter.resolved_at_micros.map(time_text),
        }
    }
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::dead_letter::RecordLocation;
    use ducktide_protocol::position::{Offset, Partition};

    use super::*;

    fn list(resolution: Option<Resolution>) -> DeadLetterList {
        let place = RecordLocation {
            topic: "events".to_owned(),
            partition: Partition(2),
            offset: Offset(7),
        };
        let letter = DeadLetterSummary {
            place,
            schema_id: Some(1),
            error_class: "truncated".to_owned(),
            error: "record ends too early".to_owned(),
            failed_at_micros: 1_700_000_000_000_000,
            bytes: 12,
            resolution,
            resolved_at_micros: None,
        };
        DeadLetterList { table: "main.events".to_owned(), open: 1, letters: vec![letter.into()] }
    }

    #[test]
    fn a_dead_letter_is_listed_with_its_offset_and_error() {
        let text = text(&list(None));

        for part in ["events", "truncated", "record ends too early", "2023-11-14T22:13:20Z", "open"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.ends_with("1 dead letter listed; 1 open in main.events\n"), "{text}");
    }

    #[test]
    fn json_has_the_resolution() {
        assert!(json(&list(None)).contains(r#""resolution": null"#));
        assert!(json(&list(Some(Resolution::Retried))).contains(r#""resolution": "retried""#));
    }
}
