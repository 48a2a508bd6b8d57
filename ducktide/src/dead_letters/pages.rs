//! Splits dead letters into pages, one for each commit. Pure.

use ducktide_lake::DeadLetterSummary;
use ducktide_protocol::dead_letter::RecordLocation;

/// Maximum number of dead letters in a commit. Each is an element of the message and a row of the
/// ledger.
const MAX_LETTERS: usize = 1_000;

/// Maximum size of the records of a commit. All of them are in memory at the same time.
const MAX_BYTES: u64 = 16 << 20;

/// Returns the dead letters in their order. A page has at least one, of any size.
pub(super) fn pages(letters: &[DeadLetterSummary]) -> Vec<Vec<RecordLocation>> {
    let mut pages: Vec<Vec<RecordLocation>> = Vec::new();
    let mut bytes = 0;
    for letter in letters {
        bytes += letter.bytes;
        match pages.last_mut() {
            Some(page) if page.len() < MAX_LETTERS && bytes <= MAX_BYTES => {
                page.push(letter.place.clone());
            }
            _ => {
                bytes = letter.bytes;
                pages.push(vec![letter.place.clone()]);
            }
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::position::{Offset, Partition};

    use super::*;

    fn letters(count: i64, bytes: u64) -> Vec<DeadLetterSummary> {
        let letter = |offset| DeadLetterSummary {
            place: RecordLocation {
                topic: "events".to_owned(),
                partition: Partition(0),
                offset: Offset(offset),
            },
            schema_id: None,
            error_class: String::new(),
            error: String::new(),
            failed_at_micros: 0,
            bytes,
            resolution: None,
            resolved_at_micros: None,
        };
        (0..count).map(letter).collect()
    }

    fn sizes(count: i64, bytes: u64) -> Vec<usize> {
        pages(&letters(count, bytes)).iter().map(Vec::len).collect()
    }

    #[test]
    fn many_dead_letters_are_several_commits() {
        assert_eq!(sizes(2_500, 100), [1_000, 1_000, 500]);
        assert_eq!(sizes(0, 100), [0; 0]);
    }

    #[test]
    fn pages_of_large_dead_letters_are_smaller() {
        assert_eq!(sizes(5, 8 << 20), [2, 2, 1]);
        assert_eq!(sizes(2, 1 << 30), [1, 1]);
    }
}
