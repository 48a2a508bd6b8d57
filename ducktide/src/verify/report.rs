//! The verification as JSON; names and exit statuses must stay stable.

use std::collections::BTreeMap;
use std::time::Duration;

use ducktide_lake::config::CatalogLocation;
use ducktide_verify::{Acknowledged, Finding, Note, SourceSums, Verification};
use serde::Serialize;

use super::explanation::{explain, explain_note};
use ducktide_service::units;

#[derive(Debug, Serialize)]
pub(super) struct VerifyReport {
    pub(super) lake: VerifiedLake,
    pub(super) mode: &'static str,
    pub(super) sources: Vec<SourceCounts>,
    pub(super) files: FilesReport,
    pub(super) rows_read: Option<u64>,
    pub(super) acknowledged: Option<AcknowledgedReport>,
    pub(super) findings: Vec<FindingReport>,
    pub(super) notes: Vec<NoteReport>,
    pub(super) judgement: VerifyJudgement,
    pub(super) elapsed_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct VerifiedLake {
    pub(super) catalog: String,
    pub(super) snapshot_id: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct SourceCounts {
    pub(super) table: String,
    pub(super) topic: String,
    pub(super) partitions: u64,
    pub(super) ranges: u64,
    pub(super) rows: i64,
    pub(super) dead: i64,
    pub(super) duplicates: i64,
    pub(super) tombstones: i64,
    pub(super) gaps: i64,
    pub(super) given_up: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct FilesReport {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct AcknowledgedReport {
    pub(super) records: u64,
    pub(super) found: u64,
    pub(super) pending: u64,
    pub(super) before_start: u64,
    pub(super) accounted: u64,
    pub(super) lost: u64,
    pub(super) unacknowledged: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct FindingReport {
    pub(super) finding: &'static str,
    pub(super) exit_status: u8,
    pub(super) table: Option<String>,
    pub(super) topic: Option<String>,
    pub(super) partition: Option<i32>,
    pub(super) file: Option<String>,
    pub(super) count: u64,
    pub(super) detail: String,
    pub(super) offsets: Vec<i64>,
    pub(super) meaning: &'static str,
    pub(super) next: &'static str,
    #[serde(skip)]
    pub(super) title: &'static str,
    #[serde(skip)]
    pub(super) counted: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct NoteReport {
    pub(super) note: &'static str,
    pub(super) table: Option<String>,
    pub(super) topic: Option<String>,
    pub(super) count: u64,
    pub(super) meaning: &'static str,
}

/// Judgement of the lake: exact, or the worst finding.
#[derive(Debug, Serialize)]
pub(super) struct VerifyJudgement {
    pub(super) exact: bool,
    pub(super) exit_status: u8,
    /// Number of findings by kind, including those that are not listed.
    pub(super) findings: BTreeMap<&'static str, usize>,
    pub(super) text: String,
}

impl VerifyReport {
    pub(super) fn new(
        verification: &Verification,
        catalog: &CatalogLocation,
        elapsed: Duration,
    ) -> Self {
        let mode = match verification.rows_read {
            None => "catalog",
            Some(_) if verification.all_columns_read => "all_columns",
            Some(_) => "deep",
        };
        Self {
            lake: VerifiedLake {
                catalog: catalog.to_string(),
                snapshot_id: verification.snapshot.0,
            },
            mode,
            sources: verification.sources.iter().map(source).collect(),
            files: FilesReport { count: verification.files.files, bytes: verification.files.bytes },
            rows_read: verification.rows_read,
            acknowledged: verification.acknowledged.map(acknowledged),
            findings: verification.findings.detailed().into_iter().map(finding).collect(),
            notes: verification.notes.iter().map(note).collect(),
            judgement: judge(verification),
            elapsed_seconds: elapsed.as_secs_f64(),
        }
    }

    pub(super) fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        json.expect("numbers, texts and fixed names always serialize") + "\n"
    }
}

fn source(sums: &SourceSums) -> SourceCounts {
    let counts = sums.counts;
    SourceCounts {
        table: sums.table.clone(),
        topic: sums.topic.clone(),
        partitions: sums.partitions,
        ranges: sums.ranges,
        rows: counts.rows,
        dead: counts.dead,
        duplicates: counts.duplicates,
        tombstones: counts.tombstones,
        gaps: counts.gaps,
        given_up: counts.given_up,
    }
}

fn acknowledged(sums: Acknowledged) -> AcknowledgedReport {
    AcknowledgedReport {
        records: sums.records,
        found: sums.found,
        pending: sums.pending,
        before_start: sums.before_start,
        accounted: sums.accounted,
        lost: sums.lost,
        unacknowledged: sums.unacknowledged,
    }
}

fn finding(finding: &Finding) -> FindingReport {
    let explanation = explain(finding.kind);
    FindingReport {
        finding: explanation.name,
        exit_status: explanation.exit_status,
        table: finding.place.table.clone(),
        topic: finding.place.topic.clone(),
        partition: finding.place.partition,
        file: finding.place.path.clone(),
        count: finding.count,
        detail: finding.detail.clone(),
        offsets: finding.offsets.clone(),
        meaning: explanation.meaning,
        next: explanation.next,
        title: explanation.title,
        counted: explanation.counted,
    }
}

fn note(note: &Note) -> NoteReport {
    let (name, meaning) = explain_note(note.kind);
    NoteReport {
        note: name,
        table: note.place.table.clone(),
        topic: note.place.topic.clone(),
        count: note.count,
        meaning,
    }
}

fn judge(verification: &Verification) -> VerifyJudgement {
    let numbers = verification.findings.numbers();
    let findings = numbers.iter().map(|(kind, number)| (explain(*kind).name, *number)).collect();
    let (exit_status, text) = match verification.findings.worst() {
        None => (0, exact(verification)),
        Some(worst) => {
            let explanation = explain(worst);
            let all: usize = numbers.values().sum();
            let name = explanation.name;
            let number = units::count(all as i128, "finding");
            let text = format!(
                "NOT EXACT: {number}, the first is {name}, exit {}",
                explanation.exit_status
            );
            (explanation.exit_status, text)
        }
    };
    VerifyJudgement { exact: exit_status == 0, exit_status, findings, text }
}

/// Returns the judgement of a lake without findings.
fn exact(verification: &Verification) -> String {
    let rows: i64 = verification.sources.iter().map(|source| source.counts.rows).sum();
    let partitions: u64 = verification.sources.iter().map(|source| source.partitions).sum();
    let method = match (verification.acknowledged, verification.rows_read) {
        (Some(sums), _) if sums.pending > 0 => format!(
            "every offset read, {} acknowledged, {} of them not in the lake yet",
            units::count(sums.records, "record"),
            units::number(sums.pending)
        ),
        (Some(sums), _) => {
            format!("every offset read, {} acknowledged", units::count(sums.records, "record"))
        }
        (None, Some(_)) => "every offset read".to_owned(),
        (None, None) => "by catalog and file sizes; --deep reads every offset".to_owned(),
    };
    let (rows, partitions) = (units::count(rows, "row"), units::count(partitions, "partition"));
    format!(
        "exact: nothing lost, no duplicates; {rows} of {partitions} at snapshot {} ({method})",
        verification.snapshot
    )
}
