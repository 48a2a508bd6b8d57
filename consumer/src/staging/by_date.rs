//! Splits the rows of a batch by their date.

use std::collections::BTreeMap;

use arrow_array::{Array, Date32Array, UInt32Array};

/// The dates of a batch's rows.
#[derive(Debug, PartialEq)]
pub(super) enum Dates {
    /// All rows have this one, or none has any.
    One(Option<i32>),
    /// The rows of each date, by their index.
    Many(BTreeMap<Option<i32>, UInt32Array>),
}

pub(super) fn split(dates: &Date32Array) -> Dates {
    let first = dates.iter().next().flatten();
    let is_one = match dates.null_count() {
        0 => dates.values().iter().all(|date| Some(*date) == first),
        nulls => nulls == dates.len(),
    };
    if is_one { Dates::One(first) } else { Dates::Many(group(dates)) }
}

fn group(dates: &Date32Array) -> BTreeMap<Option<i32>, UInt32Array> {
    let mut groups = BTreeMap::<Option<i32>, Vec<u32>>::new();
    for (row, date) in (0_u32..).zip(dates) {
        groups.entry(date).or_default().push(row);
    }
    groups.into_iter().map(|(date, rows)| (date, rows.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_date_is_not_split() {
        assert_eq!(split(&Date32Array::from(vec![7, 7, 7])), Dates::One(Some(7)));
        assert_eq!(split(&Date32Array::from(vec![None, None])), Dates::One(None));
    }

    #[test]
    fn each_date_gets_its_rows_in_their_order() {
        let dates = Date32Array::from(vec![Some(7), None, Some(8), Some(7)]);

        let rows = |rows: &[u32]| UInt32Array::from(rows.to_vec());
        let expected = [(None, rows(&[1])), (Some(7), rows(&[0, 3])), (Some(8), rows(&[2]))];
        assert_eq!(split(&dates), Dates::Many(expected.into()));
    }
}
