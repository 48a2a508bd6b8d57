//! What a replay did, in words.

use std::fmt::Write as _;

use ducktide_protocol::commit::Counts;
use ducktide_protocol::table::TableName;
use ducktide_replay::ReplaySummary;

use ducktide_service::units::{count, number};

/// The report of a replay of the table itself.
pub(super) fn report(
    topic: &str,
    table: &TableName,
    summary: &ReplaySummary,
    is_dry_run: bool,
) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{words}");
    };
    if summary.steps.is_empty() {
        line(format!("nothing to do: {table} is at those offsets already"));
        return text;
    }
    for step in &summary.steps {
        let (from, to) = (number(step.range.from.0), number(step.range.to.0));
        let removed = counts(&step.counts);
        line(format!("{topic}[{}]  offset {from} → {to}, {removed}", step.partition));
    }
    for words in removal(table, summary, is_dry_run) {
        line(words);
    }
    if summary.retries > 0 {
        line(format!("others committed in between, tried again {} times", summary.retries));
    }
    if !is_dry_run {
        line("running consumers read on from there by themselves, within seconds".to_owned());
    }
    text
}

/// What leaves the table, and how to see it.
fn removal(table: &TableName, summary: &ReplaySummary, is_dry_run: bool) -> Vec<String> {
    let verb = if is_dry_run { "would remove" } else { "removed" };
    let rows = count(summary.rows, "row");
    let dead = count(summary.letter_rows, "dead-letter row");
    let missing = format!(
        "{} in {}",
        count(summary.rows_missing, "row"),
        count(summary.files_missing, "missing file")
    );
    if summary.files_missing > 0 && is_dry_run {
        return vec![format!("{verb} {rows} and {dead} from {table}, among them {missing}")];
    }
    let mut lines = vec![format!(
        "{verb} {rows} and {dead} from {table}: {} ended, {} rewritten",
        count(summary.files_ended, "file"),
        count(summary.files_rewritten, "file"),
    )];
    if summary.files_missing > 0 {
        lines.push(format!("{verb} {missing}: snapshots before it cannot read them"));
    }
    if let Some(then) = summary.shows_old_state {
        let when = if is_dry_run { "now" } else { "before" };
        lines.push(format!(
            "as it was {when}: SELECT * FROM {} AT (VERSION => {then})",
            table.table
        ));
    }
    lines
}

fn counts(removed: &Counts) -> String {
    let kinds = [
        (removed.rows, "row"),
        (removed.dead, "dead letter"),
        (removed.duplicates, "duplicate"),
        (removed.tombstones, "tombstone"),
        (removed.gaps, "gap"),
        (removed.given_up, "record given up"),
    ];
    let named = kinds.iter().filter(|(value, _)| *value != 0);
    named.map(|(value, noun)| count(-value, noun)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::commit::ProgressDelta;
    use ducktide_protocol::position::{
        Epoch, Offset, OffsetRange, Partition, SnapshotId, SourceId,
    };

    use super::*;

    #[test]
    fn the_report_says_what_went_and_how_to_see_it() {
        let summary = ReplaySummary {
            steps: vec![ProgressDelta {
                source: SourceId(1),
                partition: Partition(3),
                epoch: Epoch(0),
                range: OffsetRange { from: Offset(1500), to: Offset(1000) },
                counts: Counts { rows: -498, tombstones: -2, ..Counts::default() },
            }],
            rows: 498,
            files_ended: 4,
            files_rewritten: 1,
            shows_old_state: Some(SnapshotId(17)),
            snapshot: Some(SnapshotId(18)),
            ..ReplaySummary::default()
        };

        let text = report("events", &"events".parse().unwrap(), &summary, false);

        let expected = "events[3]  offset 1,500 → 1,000, 498 rows, 2 tombstones\n\
             removed 498 rows and 0 dead-letter rows from main.events: 4 files ended, 1 file rewritten\n\
             as it was before: SELECT * FROM events AT (VERSION => 17)\n\
             running consumers read on from there by themselves, within seconds\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn rows_of_missing_files_are_counted_apart() {
        let table = "events".parse().unwrap();
        let summary = ReplaySummary {
            rows: 40,
            files_missing: 1,
            rows_missing: 10,
            ..ReplaySummary::default()
        };

        let would = removal(&table, &summary, true);
        let did = removal(&table, &summary, false);

        assert_eq!(
            would,
            [
                "would remove 40 rows and 0 dead-letter rows from main.events, among them 10 rows in 1 missing file"
            ]
        );
        assert_eq!(
            did[1],
            "removed 10 rows in 1 missing file: snapshots before it cannot read them"
        );
    }
}
