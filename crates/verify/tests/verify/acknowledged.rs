//! Comparison with a producer's ledger.

use std::fmt::Write as _;

use ducktide_protocol::LakeError;
use ducktide_verify::{DeepProgress, FindingKind, NoteKind, Verification, VerifyRequest};

use crate::fixture::{Fixture, kinds, notes, only};

/// A producer's ledger.
struct Producer {
    lines: String,
}

impl Producer {
    /// Saw everything acknowledged that is in the lake.
    fn of_lake() -> Self {
        let mut producer = Self { lines: "topic,partition,offset,event_id\n".to_owned() };
        producer.acknowledged(0, 100..150);
        producer.acknowledged(1, 0..30);
        producer
    }

    fn acknowledged(&mut self, partition: i32, offsets: std::ops::Range<i64>) {
        for offset in offsets {
            writeln!(self.lines, "events,{partition},{offset},e-{partition}-{offset}").unwrap();
        }
    }

    fn line(&mut self, line: &str) {
        writeln!(self.lines, "{line}").unwrap();
    }

    fn compare(&self, fixture: &Fixture) -> Verification {
        self.try_compare(fixture).unwrap()
    }

    fn try_compare(&self, fixture: &Fixture) -> Result<Verification, LakeError> {
        let path = fixture.directory.path().join("ledger.csv");
        std::fs::write(&path, &self.lines).unwrap();
        let request = VerifyRequest { acknowledged: Some(path), ..VerifyRequest::default() };
        ducktide_verify::verify(&mut fixture.lake(), &request, &mut |_| {})
    }
}

#[test]
fn acknowledged_records_that_are_rows_once_are_exact() {
    let fixture = Fixture::new();

    let verification = Producer::of_lake().compare(&fixture);

    assert_eq!(kinds(&verification), []);
    assert_eq!(notes(&verification), []);
    let sums = verification.acknowledged.unwrap();
    assert_eq!((sums.records, sums.found, sums.lost), (80, 80, 0));
    assert_eq!(verification.rows_read, Some(80));
}

#[test]
fn records_beyond_progress_are_pending_and_not_lost() {
    let fixture = Fixture::new();
    let mut producer = Producer::of_lake();
    producer.acknowledged(0, 150..160);
    producer.acknowledged(9, 0..5);

    let verification = producer.compare(&fixture);

    assert_eq!(kinds(&verification), []);
    assert_eq!(notes(&verification), [(NoteKind::Pending, 15)]);
}

#[test]
fn records_below_the_start_are_not_lost() {
    let fixture = Fixture::new();
    let mut producer = Producer::of_lake();
    producer.acknowledged(0, 90..100);

    let verification = producer.compare(&fixture);

    assert_eq!(kinds(&verification), []);
    assert_eq!(notes(&verification), [(NoteKind::BeforeStart, 10)]);
}

#[test]
fn a_record_that_the_lake_counts_as_a_gap_is_lost() {
    let fixture = Fixture::new();
    fixture.post(&fixture.message("ingest", 0, (150, 160), "\"gaps\":10"));
    let mut producer = Producer::of_lake();
    producer.acknowledged(0, 152..154);

    let verification = producer.compare(&fixture);

    let finding = only(&verification);
    assert_eq!((finding.kind, finding.count), (FindingKind::RowsMissing, 2));
    assert_eq!((finding.place.partition, finding.offsets), (Some(0), vec![152, 153]));
    assert_eq!(verification.acknowledged.unwrap().lost, 2);
}

#[test]
fn records_that_are_counted_as_something_else_are_accounted_for() {
    let fixture = Fixture::new();
    let counts = "\"tombstones\":1,\"duplicates\":1,\"gaps\":8";
    fixture.post(&fixture.message("ingest", 0, (150, 160), counts));
    let mut producer = Producer::of_lake();
    producer.acknowledged(0, 152..153);
    producer.line("events,0,157,");

    let verification = producer.compare(&fixture);
    assert_eq!(kinds(&verification), []);
    assert_eq!(notes(&verification), [(NoteKind::Accounted, 2)]);

    // One more than is accounted for.
    producer.line("events,0,158,");
    assert_eq!(only(&producer.compare(&fixture)).count, 1);
}

#[test]
fn an_event_under_another_id_is_lost_and_never_acknowledged() {
    let fixture = Fixture::new();
    let mut producer = Producer::of_lake();
    producer.lines = producer.lines.replace("events,0,110,e-0-110", "events,0,110,e-other");

    let verification = producer.compare(&fixture);

    assert_eq!(kinds(&verification), [FindingKind::RowsMissing, FindingKind::RowsUnacknowledged]);
    for finding in verification.findings.detailed() {
        assert_eq!(finding.offsets, [110]);
    }
}

#[test]
fn a_duplicate_row_is_found() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO lake.events FROM lake.events WHERE _kafka_offset = 105");

    assert_eq!(kinds(&Producer::of_lake().compare(&fixture)), [FindingKind::RowsDuplicated]);
}

#[test]
fn rows_that_were_never_acknowledged_are_found() {
    let fixture = Fixture::new();
    fixture.ingest(1, 30, 33);

    let finding = only(&Producer::of_lake().compare(&fixture));

    assert_eq!((finding.kind, finding.count), (FindingKind::RowsUnacknowledged, 3));
    assert_eq!((finding.place.partition, finding.offsets), (Some(1), vec![30, 31, 32]));
}

/// With little memory each 16,384 offsets are a part of their own.
#[test]
fn parts_of_a_long_ledger_are_compared_as_the_whole_is() {
    let fixture = Fixture::new();
    fixture.ingest(0, 150, 60_000);
    fixture.ingest(1, 30, 40_000);
    let lacking = [16_383, 16_384, 32_768];
    fixture.ingest(0, 60_000, 70_000);
    fixture.sql(&format!(
        "DELETE FROM lake.events WHERE _kafka_partition = 0 AND _kafka_offset IN ({}, {}, {})",
        lacking[0], lacking[1], lacking[2]
    ));
    let mut producer = Producer::of_lake();
    producer.acknowledged(0, 150..80_000);
    producer.acknowledged(1, 30..16_384);
    producer.acknowledged(1, 16_385..40_000);
    let path = fixture.directory.path().join("ledger.csv");
    std::fs::write(&path, &producer.lines).unwrap();
    let request = VerifyRequest { acknowledged: Some(path), ..VerifyRequest::default() };
    let mut parts = 0;

    let verification = ducktide_verify::verify(&mut fixture.lake(), &request, &mut |state| {
        if let DeepProgress::Comparison { parts: of_all, .. } = state {
            parts = *of_all;
        }
    })
    .unwrap();

    assert_eq!(parts, 5);
    let sums = verification.acknowledged.unwrap();
    assert_eq!(
        (sums.records, sums.pending, sums.lost, sums.unacknowledged),
        (119_899, 10_000, 3, 1)
    );
    let findings = verification.findings.detailed();
    let of = |kind, partition| {
        let mut found =
            findings.iter().filter(|f| f.kind == kind && f.place.partition == Some(partition));
        found.next_back().unwrap().offsets.clone()
    };
    assert_eq!(of(FindingKind::RowsMissing, 0), lacking);
    assert_eq!(of(FindingKind::RowsUnacknowledged, 1), [16_384]);
}

#[test]
fn a_file_that_is_not_a_ledger_is_refused() {
    let fixture = Fixture::new();
    let producer = Producer { lines: "a,b\n1,2\n".to_owned() };

    let error = producer.try_compare(&fixture).unwrap_err();

    assert!(error.to_string().contains("the first line of a ledger"), "{error}");
}

#[test]
fn a_topic_that_fills_no_table_is_refused() {
    let fixture = Fixture::new();
    let mut producer = Producer::of_lake();
    producer.line("evnets,0,1,x");

    let error = producer.try_compare(&fixture).unwrap_err();

    assert!(error.to_string().contains("topic=`evnets`"), "{error}");
}
