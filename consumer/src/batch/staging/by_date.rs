//! Rows of a batch by date.

use std::collections::BTreeMap;

use arrow_array::{Array, Date32Array};

/// Returns the indices of the rows of each date. Nearly all batches have one date.
pub(super) fn rows_by_date(dates: &Date32Array) -> BTreeMap<Option<i32>, Vec<u32>> {
    let rows = (0_u32..).zip(dates);
    let first = dates.iter().next().flatten();
    let has_one = match dates.null_count() {
        0 => dates.values().iter().all(|date| Some(*date) == first),
        nulls => nulls == dates.len(),
    };
    if has_one {
        return BTreeMap::from([(first, rows.map(|(row, _)| row).collect())]);
    }
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for (row, date) in rows {
        groups.entry(date).or_default().push(row);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_date_gets_its_rows_in_order() {
        let one = Date32Array::from(vec![7, 7, 7]);
        assert_eq!(rows_by_date(&one), [(Some(7), vec![0, 1, 2])].into());
        let none = Date32Array::from(vec![None, None]);
        assert_eq!(rows_by_date(&none), [(None, vec![0, 1])].into());

        let dates = Date32Array::from(vec![Some(7), None, Some(8), Some(7)]);
        let expected = [(None, vec![1]), (Some(7), vec![0, 3]), (Some(8), vec![2])];
        assert_eq!(rows_by_date(&dates), expected.into());
    }
}
