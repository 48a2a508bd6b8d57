//! Splits letters into those of one commit each. Pure.

use ducktide_lake::LetterSummary;
use ducktide_protocol::dead_letter::RecordPlace;

/// Letters of one commit: each is an element of its message, and a row of the ledger.
const MOST_LETTERS: usize = 1_000;

/// Bytes of the records of one commit, all of which are in memory at once.
const MOST_BYTES: u64 = 16 << 20;

/// The letters in their order; a page has at least one, however large it is.
pub(super) fn pages(letters: &[LetterSummary]) -> Vec<Vec<RecordPlace>> {
    let mut pages: Vec<Vec<RecordPlace>> = Vec::new();
    let mut bytes = 0;
    for letter in letters {
        bytes += letter.bytes;
        match pages.last_mut() {
            Some(page) if page.len() < MOST_LETTERS && bytes <= MOST_BYTES => {
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

    fn letters(count: i64, bytes: u64) -> Vec<LetterSummary> {
        let letter = |offset| LetterSummary {
            place: RecordPlace {
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
    fn many_letters_are_several_commits() {
        assert_eq!(sizes(2_500, 100), [1_000, 1_000, 500]);
        assert_eq!(sizes(0, 100), [0; 0]);
    }

    #[test]
    fn large_letters_have_smaller_pages() {
        assert_eq!(sizes(5, 8 << 20), [2, 2, 1]);
        assert_eq!(sizes(2, 1 << 30), [1, 1]);
    }
}
