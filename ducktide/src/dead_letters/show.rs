//! `ducktide dead-letters show`.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::Args;
use ducktide_consumer::dead_letter::ErrorClass;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DeadLetterFilter, DuckLake};
use ducktide_protocol::LakeError;
use ducktide_protocol::dead_letter::DeadLetter;
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::TableName;

use super::hex_dump::hex_dump;
use super::time::time_text;
use super::topic_table::topic_table;
use crate::failure::Failure;
use ducktide_service::units;

const NOTES: &str = "\
Exit codes: 0 done, 2 wrong command line, 3 the lake is unavailable, 4 there is no such dead letter, or
the lake cannot be used.";

/// Shows the complete record of a dead letter, its error and the remedy.
///
/// Prints the value, which can contain confidential data.
#[derive(Args, Clone, Debug)]
#[command(after_help = NOTES)]
pub struct ShowArgs {
    /// Table of the record. Required if the topic fills several tables.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// Topic of the record.
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,

    /// Partition of the record.
    #[arg(long, value_name = "N")]
    pub partition: i32,

    /// Offset of the record.
    #[arg(long, value_name = "OFFSET")]
    pub offset: i64,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(super) fn run(args: &ShowArgs) -> Result<(), Failure> {
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Read)?;
    let table = topic_table(&mut lake, args.table.as_ref(), Some(&args.topic))?;
    let filter = DeadLetterFilter {
        topic: Some(args.topic.clone()),
        partition: Some(Partition(args.partition)),
        offset: Some(Offset(args.offset)),
        with_resolved: true,
        ..DeadLetterFilter::default()
    };
    let letter = lake.dead_letters(&table, &filter)?.pop().ok_or_else(|| {
        LakeError::invalid(format!(
            "no such dead letter: table=`{table}` topic=`{}` partition=`{}` offset=`{}`",
            args.topic, args.partition, args.offset
        ))
    })?;
    let mut out = io::stdout().lock();
    out.write_all(text(&letter).as_bytes())?;
    Ok(out.flush()?)
}

fn text(letter: &DeadLetter) -> String {
    let class = letter.error_class.as_deref().unwrap_or_default();
    let optional = |micros: Option<i64>| micros.map_or("-".to_owned(), time_text);
    let schema_id = letter.schema_id.map_or("-".to_owned(), |id| id.to_string());
    let resolution = match (letter.resolution, letter.resolved_at_micros) {
        (Some(resolution), at) => format!("{} at {}", resolution.as_str(), optional(at)),
        (None, _) => "open".to_owned(),
    };
    let fields = [
        ("topic", letter.place.topic.clone()),
        ("partition", letter.place.partition.to_string()),
        ("offset", letter.place.offset.to_string()),
        ("timestamp", optional(letter.timestamp_micros)),
        ("schema id", schema_id),
        ("class", class.to_owned()),
        ("error", letter.error.clone().unwrap_or_default()),
        ("failed at", optional(letter.failed_at_micros)),
        ("resolution", resolution),
    ];
    let mut text = String::new();
    for (name, value) in fields {
        writeln!(text, "{name:<10} {value}").expect("a string takes any text");
    }
    text += &bytes("key", letter.key.as_deref());
    for header in &letter.headers {
        text += &bytes(&format!("header {}", header.key), header.value.as_deref());
    }
    text += &bytes("value", letter.value.as_deref());
    match (letter.resolution, ErrorClass::parse(class)) {
        (None, Some(class)) => text + "\nremedy: " + class.remedy() + "\n",
        _ => text,
    }
}

fn bytes(name: &str, bytes: Option<&[u8]>) -> String {
    match bytes {
        None => format!("{name:<10} -\n"),
        Some(bytes) => {
            let size = units::bytes(bytes.len() as u64);
            format!("{name:<10} {size}\n{}", hex_dump(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::dead_letter::{Header, RecordLocation, Resolution};

    use super::*;

    fn letter(resolution: Option<Resolution>) -> DeadLetter {
        let place = RecordLocation {
            topic: "events".to_owned(),
            partition: Partition(2),
            offset: Offset(7),
        };
        DeadLetter {
            key: Some(b"k".to_vec()),
            value: Some(b"\0\0\0\0\x09abc".to_vec()),
            headers: vec![Header { key: "trace".to_owned(), value: None }],
            schema_id: Some(9),
            error_class: Some("unknown_schema".to_owned()),
            error: Some("no such schema".to_owned()),
            failed_at_micros: Some(1_700_000_000_000_000),
            resolution,
            ..DeadLetter::resolved(place, Resolution::Retried, 1_700_000_001_000_000)
        }
    }

    #[test]
    fn an_open_dead_letter_is_shown_with_its_remedy() {
        let text = text(&letter(None));

        for part in
            ["schema id  9", "no such schema", ".....abc", "header trace -", "open", "retry"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_resolved_dead_letter_is_shown_with_its_resolution() {
        let text = text(&letter(Some(Resolution::Retried)));

        assert!(text.contains("resolution retried at 2023-11-14T22:13:21Z"), "{text}");
        assert!(!text.contains("remedy"), "{text}");
    }
}
