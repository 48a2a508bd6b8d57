//! The verification as text.

use std::fmt::Write as _;

use super::report::{FindingReport, NoteReport, SourceCounts, VerifyReport};
use ducktide_service::text_table::{Align, TextTable};
use ducktide_service::units;

/// Maximum number of characters in a line of an explanation.
const WIDTH: usize = 92;

pub(super) fn render(report: &VerifyReport) -> String {
    let mut text = scope(report);
    if !report.sources.is_empty() {
        text += "\n";
        text += &sources(&report.sources);
    }
    for finding in &report.findings {
        text += "\n";
        text += &self::finding(finding);
    }
    let hidden = hidden(report);
    if !report.notes.is_empty() || !hidden.is_empty() {
        text += "\n";
    }
    for line in report.notes.iter().map(note).chain(hidden) {
        text += &line;
        text += "\n";
    }
    text + "\n" + &report.judgement.text + "\n"
}

/// Returns the lines about the catalog and the files that were checked.
fn scope(report: &VerifyReport) -> String {
    let read = match report.rows_read {
        Some(rows) if report.mode == "all_columns" => {
            format!("all columns of {} read", units::count(rows, "row"))
        }
        Some(rows) => format!("offsets of {} read, no other column", units::count(rows, "row")),
        None => "no rows read".to_owned(),
    };
    format!(
        "catalog   {}\nsnapshot  {}\nchecked   {}, {}; {read}; {}\n",
        report.lake.catalog,
        report.lake.snapshot_id,
        units::count(report.files.count, "file"),
        units::bytes(report.files.bytes),
        units::seconds(report.elapsed_seconds),
    )
}

fn sources(sources: &[SourceCounts]) -> String {
    let left = ["table", "topic"].map(|name| (name.to_owned(), Align::Left));
    let names =
        ["partitions", "ranges", "rows", "dead", "duplicates", "tombstones", "gaps", "given up"];
    let right = names.map(|name| (name.to_owned(), Align::Right));
    let mut table = TextTable::new(left.into_iter().chain(right));
    for source in sources {
        let (partitions, ranges) = (i128::from(source.partitions), i128::from(source.ranges));
        let counts = [source.rows, source.dead, source.duplicates, source.tombstones];
        let numbers = counts.into_iter().chain([source.gaps, source.given_up]).map(i128::from);
        let numbers = [partitions, ranges].into_iter().chain(numbers).map(units::number);
        let names = [source.table.clone(), source.topic.clone()];
        table.push(names.into_iter().chain(numbers).collect());
    }
    table.to_text()
}

fn finding(finding: &FindingReport) -> String {
    let count = units::count(finding.count, finding.counted);
    let mut text = format!("! {} ({count})", finding.title);
    if let Some(place) = place(finding) {
        let _ = write!(text, ": {place}");
    }
    text += "\n";
    text += &paragraph("", &finding.detail);
    if !finding.offsets.is_empty() {
        let offsets: Vec<_> = finding.offsets.iter().map(i64::to_string).collect();
        let more = finding.count > finding.offsets.len() as u64;
        let more = if more { ", …" } else { "" };
        text += &paragraph("offsets: ", &format!("{}{more}", offsets.join(", ")));
    }
    text += &paragraph("meaning: ", finding.meaning);
    text + &paragraph("next:    ", finding.next)
}

fn place(finding: &FindingReport) -> Option<String> {
    let parts = [
        finding.partition.map(|partition| format!("partition {partition}")),
        finding.topic.as_ref().map(|topic| format!("topic {topic}")),
        finding.table.as_ref().map(|table| format!("table {table}")),
        finding.file.clone(),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn note(note: &NoteReport) -> String {
    let table = note.table.as_ref().map(|table| format!("{table}: ")).unwrap_or_default();
    format!("note: {table}{} {}", units::number(note.count), note.meaning)
}

/// Returns the number of findings that are not listed, by kind.
fn hidden(report: &VerifyReport) -> Vec<String> {
    let kinds = report.judgement.findings.iter().filter_map(|(name, number)| {
        let shown = report.findings.iter().filter(|finding| finding.finding == *name).count();
        let more = number.checked_sub(shown).filter(|more| *more > 0)?;
        Some(format!("and {} more of {name}", units::number(more as i128)))
    });
    kinds.collect()
}

/// Returns indented lines that start with a label.
fn paragraph(label: &str, text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    let indent = " ".repeat(label.len());
    let line = |(at, line): (usize, &String)| {
        format!("  {}{line}\n", if at == 0 { label } else { indent.as_str() })
    };
    lines.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_wrapped_and_indented_by_their_label() {
        let text = paragraph("next: ", &"word ".repeat(30));

        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("  next: word word"), "{text}");
        assert!(lines[1].starts_with("        word"), "{text}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH + 8), "{text}");
    }
}
