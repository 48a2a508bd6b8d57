//! The result of a replay as text.

use std::fmt::Write as _;

use ducktide_protocol::commit::Counts;
use ducktide_protocol::table::TableName;
use ducktide_replay::ReplaySummary;

use ducktide_service::units::{count, number};

/// Returns the lines about a replay of the table itself.
pub(super) fn render(
    topic: &str,
    table: &TableName,
    summary: &ReplaySummary,
    is_dry_run: bool,
) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    if summary.steps.is_empty() {
        line(format!("nothing to do: {table} is already at those offsets"));
        return text;
    }
    for step in &summary.steps {
        let (from, to) = (number(step.range.from.0), number(step.range.to.0));
        let removed = counts(&step.counts);
        line(format!("{topic}[{}]  offset {from} → {to}, {removed}", step.partition));
    }
    for removed in removal(table, summary, is_dry_run) {
        line(removed);
    }
    if summary.retries > 0 {
        line(format!("retried {} times because of concurrent commits", summary.retries));
    }
    if !is_dry_run {
        line("running consumers continue from these offsets within seconds".to_owned());
    }
    text
}

/// Returns the lines about the removed rows and the snapshot that still has them.
fn removal(table: &TableName, summary: &ReplaySummary, is_dry_run: bool) -> Vec<String> {
    let verb = if is_dry_run { "would remove" } else { "removed" };
    let rows = count(summary.rows, "row");
    let dead = count(summary.dead_letter_rows, "dead-letter row");
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
        lines.push(format!("{verb} {missing}: earlier snapshots cannot read them"));
    }
    if let Some(snapshot) = summary.shows_old_state {
        let state = if is_dry_run { "current" } else { "previous" };
        lines.push(format!(
            "{state} state: SELECT * FROM {} AT (VERSION => {snapshot})",
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
    fn removed_rows_are_counted_and_their_snapshot_is_named() {
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

        let text = render("events", &"events".parse().unwrap(), &summary, false);

        let expected = "events[3]  offset 1,500 → 1,000, 498 rows, 2 tombstones\n\
             removed 498 rows and 0 dead-letter rows from main.events: 4 files ended, 1 file rewritten\n\
             previous state: SELECT * FROM events AT (VERSION => 17)\n\
             running consumers continue from these offsets within seconds\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn rows_of_missing_files_are_counted_separately() {
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
        assert_eq!(did[1], "removed 10 rows in 1 missing file: earlier snapshots cannot read them");
    }
}
