//! Statistics of concatenated column chunks.

use parquet::basic::SortOrder;
use parquet::data_type::{
    BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type, Int96Type,
};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::schema::types::ColumnDescPtr;

/// Returns whether a chunk's exact minimum and maximum are known, or it has only NULLs.
pub(super) fn has_bounds(chunk: &ColumnChunkMetaData) -> bool {
    chunk.statistics().is_some_and(|statistics| {
        let has_both = statistics.min_bytes_opt().is_some() && statistics.max_bytes_opt().is_some();
        let is_exact = statistics.min_is_exact() && statistics.max_is_exact();
        (has_both && is_exact && !statistics.is_min_max_deprecated()) || is_null(chunk)
    })
}

fn is_null(chunk: &ColumnChunkMetaData) -> bool {
    let nulls = chunk.statistics().and_then(Statistics::null_count_opt);
    nulls.is_some() && nulls == u64::try_from(chunk.num_values()).ok()
}

/// Combines the statistics of all chunks. Those of a single chunk are not changed.
pub(super) fn merge(column: &ColumnDescPtr, chunks: &[&ColumnChunkMetaData]) -> Option<Statistics> {
    if let [chunk] = chunks {
        return chunk.statistics().cloned();
    }
    let all: Option<Vec<_>> = chunks.iter().map(|chunk| chunk.statistics()).collect();
    let all = all?;
    let nulls = all.iter().map(|statistics| statistics.null_count_opt()).sum();
    // Unsigned numbers, and decimals in bytes, have another order than their physical values.
    let has_order = match all[0] {
        Statistics::ByteArray(_) | Statistics::FixedLenByteArray(_) | Statistics::Boolean(_) => {
            column.sort_order() == SortOrder::UNSIGNED
        }
        _ => column.sort_order() == SortOrder::SIGNED,
    };
    let is_known = has_order && chunks.iter().all(|chunk| has_bounds(chunk));
    macro_rules! by_type {
        ($($variant:ident: $type:ty),*) => {
            match all[0] {
                $(Statistics::$variant(_) => {
                    let typed = |statistics: &&Statistics| match statistics {
                        Statistics::$variant(values) => Some(values.clone()),
                        _ => None,
                    };
                    let values: Option<Vec<_>> = all.iter().map(typed).collect();
                    Some(join::<$type>(&values.filter(|_| is_known)?, nulls))
                })*
            }
        };
    }
    by_type!(
        Boolean: BoolType, Int32: Int32Type, Int64: Int64Type, Int96: Int96Type, Float: FloatType,
        Double: DoubleType, ByteArray: ByteArrayType, FixedLenByteArray: FixedLenByteArrayType
    )
}

fn join<T: DataType>(all: &[ValueStatistics<T::T>], nulls: Option<u64>) -> Statistics {
    let less = |a: &T::T, b: &T::T| a.partial_cmp(b).is_some_and(std::cmp::Ordering::is_lt);
    let least = all.iter().filter_map(ValueStatistics::min_opt);
    let least = least.reduce(|least, next| if less(next, least) { next } else { least });
    let greatest = all.iter().filter_map(ValueStatistics::max_opt);
    let greatest =
        greatest.reduce(|greatest, next| if less(greatest, next) { next } else { greatest });
    Statistics::new(least.cloned(), greatest.cloned(), None, nulls, false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::{LogicalType, Type as PhysicalType};
    use parquet::data_type::ByteArray;
    use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type};

    use super::*;

    fn column(physical: PhysicalType, logical: Option<LogicalType>) -> ColumnDescPtr {
        let of_type =
            Type::primitive_type_builder("x", physical).with_logical_type(logical).build();
        let path = ColumnPath::from("x");
        Arc::new(ColumnDescriptor::new(Arc::new(of_type.unwrap()), 1, 0, path))
    }

    fn chunk(column: &ColumnDescPtr, statistics: Option<Statistics>) -> ColumnChunkMetaData {
        let mut builder = ColumnChunkMetaData::builder(Arc::clone(column)).set_num_values(10);
        if let Some(statistics) = statistics {
            builder = builder.set_statistics(statistics);
        }
        builder.build().unwrap()
    }

    fn merged(column: &ColumnDescPtr, all: Vec<Option<Statistics>>) -> Option<Statistics> {
        let chunks: Vec<_> = all.into_iter().map(|one| chunk(column, one)).collect();
        merge(column, &chunks.iter().collect::<Vec<_>>())
    }

    fn numbers(min: i32, max: i32, nulls: u64) -> Statistics {
        Statistics::int32(Some(min), Some(max), None, Some(nulls), false)
    }

    #[test]
    fn minimum_and_maximum_are_combined_and_nulls_added_up() {
        let column = column(PhysicalType::INT32, None);
        let only_nulls = Some(Statistics::int32(None, None, None, Some(10), false));

        let all = vec![Some(numbers(-3, 5, 1)), only_nulls.clone(), Some(numbers(0, 9, 2))];
        assert_eq!(merged(&column, all), Some(numbers(-3, 9, 13)));
        let nulls = Some(Statistics::int32(None, None, None, Some(20), false));
        assert_eq!(merged(&column, vec![only_nulls.clone(), only_nulls]), nulls);
    }

    #[test]
    fn statistics_that_one_chunk_lacks_are_omitted() {
        let column = column(PhysicalType::INT32, None);
        let unknown = Some(Statistics::int32(None, None, None, Some(3), false));

        assert_eq!(merged(&column, vec![Some(numbers(1, 2, 0)), None]), None);
        assert_eq!(merged(&column, vec![Some(numbers(1, 2, 0)), unknown]), None);
    }

    #[test]
    fn texts_are_compared_by_their_bytes_and_unsigned_numbers_have_no_bounds() {
        let texts = column(PhysicalType::BYTE_ARRAY, Some(LogicalType::String));
        let text = |min: &str, max: &str| {
            let bound = |text: &str| Some(ByteArray::from(text));
            Some(Statistics::byte_array(bound(min), bound(max), None, Some(0), false))
        };
        assert_eq!(merged(&texts, vec![text("b", "é"), text("abc", "z")]), text("abc", "é"));

        let unsigned = LogicalType::Integer { bit_width: 32, is_signed: false };
        let unsigned = column(PhysicalType::INT32, Some(unsigned));
        assert_eq!(merged(&unsigned, vec![Some(numbers(1, 2, 0)), Some(numbers(-1, -1, 0))]), None);
    }
}
