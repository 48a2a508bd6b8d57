//! The window compared with a simple implementation of the rule.

use ducktide_protocol::position::{Offset, Partition};
use proptest::prelude::*;

use super::*;

const SPAN: i64 = 100;

fn rule() -> DedupeRule {
    DedupeRule { column: "id".to_owned(), span_micros: SPAN }
}

fn window(rows: &[(u8, i64, i64)]) -> DedupeWindow {
    DedupeWindow::new(&rule(), rows.iter().copied().map(row), i64::MAX, IdBudget::new(1 << 20))
}

fn row((id, offset, timestamp_micros): (u8, i64, i64)) -> RecentRow {
    RecentRow {
        partition: Partition(0),
        offset: Offset(offset),
        timestamp_micros,
        id: EventId::Number(id.into()),
    }
}

/// Returns for each record whether it is a duplicate of the rows before it.
fn expected(records: &[(u8, i64)]) -> Vec<bool> {
    let mut rows: Vec<(u8, i64)> = Vec::new();
    let mut repeats = Vec::new();
    for &(id, time) in records {
        let newest = rows.iter().map(|(_, time)| *time).max().unwrap_or(i64::MIN).max(time);
        let is_duplicate = rows.iter().any(|&(of, at)| of == id && at >= newest - SPAN);
        if !is_duplicate {
            rows.push((id, time));
        }
        repeats.push(is_duplicate);
    }
    repeats
}

/// Returns the same, found by a window that is built again from the rows at some of the records, as
/// by a worker that starts there.
fn found(records: &[(u8, i64)], restarts: &[bool]) -> Vec<bool> {
    let mut rows: Vec<(u8, i64, i64)> = Vec::new();
    let mut now = window(&[]);
    let mut repeats = Vec::new();
    for ((offset, &(id, time)), restarts) in (0..).zip(records).zip(restarts) {
        if *restarts {
            let newest = rows.iter().map(|row| row.2).max().unwrap_or(0);
            // Rows within the span of the newest row, as the lake returns them.
            let recent: Vec<_> =
                rows.iter().filter(|row| row.2 >= newest - SPAN).copied().collect();
            now = window(&recent);
        }
        let event_id = EventId::Number(id.into());
        let is_duplicate = now.is_duplicate(&event_id, Offset(offset), time);
        if !is_duplicate {
            now.remember(event_id, Offset(offset), time);
            rows.push((id, offset, time));
        }
        repeats.push(is_duplicate);
    }
    repeats
}

proptest! {
    #[test]
    fn duplicates_are_those_of_the_rule_whenever_a_worker_starts(
        records in prop::collection::vec((0_u8..6, 0_i64..60, any::<bool>()), 0..120),
    ) {
        let mut clock = 0;
        let (mut timed, mut restarts) = (Vec::new(), Vec::new());
        for (id, step, restart) in records {
            // Timestamps increase, except those of late records.
            clock += step - 20;
            timed.push((id, clock));
            restarts.push(restart);
        }

        prop_assert_eq!(found(&timed, &restarts), expected(&timed));
    }
}

#[test]
fn equal_ids_beyond_the_span_are_not_duplicates() {
    let window = window(&[(1, 10, 1_000)]);
    let id = EventId::Number(1);

    assert!(window.is_duplicate(&id, Offset(11), 1_000 + SPAN));
    assert!(!window.is_duplicate(&id, Offset(11), 1_000 + SPAN + 1));
    assert!(!window.is_duplicate(&EventId::Number(2), Offset(11), 1_000));
}

#[test]
fn a_record_is_no_duplicate_of_itself_or_of_a_later_one() {
    let window = window(&[(1, 10, 1_000)]);

    assert!(!window.is_duplicate(&EventId::Number(1), Offset(10), 1_000));
    assert!(!window.is_duplicate(&EventId::Number(1), Offset(9), 1_000));
}

#[test]
fn a_timestamp_in_the_future_does_not_expire_other_rows() {
    let rows = [(1, 10, 1_000), (2, 11, i64::MAX), (3, 12, 1_001)].map(row);
    let window = DedupeWindow::new(&rule(), rows, 1_050, IdBudget::new(1 << 20));

    assert!(window.is_duplicate(&EventId::Number(1), Offset(13), 1_050));
    assert!(window.is_duplicate(&EventId::Number(2), Offset(13), 1_050));
}

#[test]
fn the_oldest_ids_are_dropped_when_the_memory_is_used_up() {
    let budget = IdBudget::new(3 * BYTES_PER_ID);
    let rows = [(1, 10, 0), (2, 11, 0), (3, 12, 0), (4, 13, 0)].map(row);
    let mut window = DedupeWindow::new(&rule(), rows, 0, Arc::clone(&budget));

    assert_eq!((window.take_forgotten(), window.take_forgotten()), (1, 0));
    assert!(!window.is_duplicate(&EventId::Number(1), Offset(14), 0));
    assert!(window.is_duplicate(&EventId::Number(2), Offset(14), 0));
    assert_eq!((budget.ids(), budget.used()), (3, 3 * BYTES_PER_ID));
    drop(window);
    assert_eq!((budget.ids(), budget.used()), (0, 0));
}

#[test]
fn a_million_ids_take_no_more_memory_than_documented() {
    let budget = IdBudget::new(usize::MAX);
    let mut window = DedupeWindow::new(&rule(), [], 0, budget);
    let mut most = 0.0_f64;
    for offset in 0..1_000_000 {
        window.remember(EventId::Number(offset), Offset(offset), 0);
        if offset > 100_000 {
            let entries = window.entries.capacity() * size_of::<Entry>();
            let bytes = entries + window.numbers.allocation_size();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let each = bytes as f64 / (offset + 1) as f64;
            most = most.max(each);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let said = BYTES_PER_ID as f64;
    assert!(most < said, "{most} bytes for each id");
}
