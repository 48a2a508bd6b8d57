//! How workers encode the columns of Parquet files.

use parquet::basic::{Encoding, LogicalType, Type};
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::schema::types::ColumnDescriptor;

/// The dictionary of a text column: ids outgrow it within some hundred rows, and go on without one,
/// while names of states or countries stay within.
const TEXT_DICTIONARY_BYTES: usize = 16 * 1024;

/// Sets the encoding of a leaf column.
///
/// | column | encoding |
/// |---|---|
/// | integers, dates, times, decimals of up to 18 digits | delta binary packed |
/// | booleans | RLE |
/// | text | dictionary while it is small, then plain |
/// | others: doubles, UUIDs, wider decimals, JSON, bytes | plain |
#[must_use]
pub fn encode_column(
    builder: WriterPropertiesBuilder,
    column: &ColumnDescriptor,
) -> WriterPropertiesBuilder {
    let path = || column.path().clone();
    let is_text = column.logical_type_ref() == Some(&LogicalType::String)
        || column.converted_type() == parquet::basic::ConvertedType::UTF8;
    match column.physical_type() {
        Type::INT32 | Type::INT64 => {
            builder.set_column_encoding(path(), Encoding::DELTA_BINARY_PACKED)
        }
        Type::BOOLEAN => builder.set_column_encoding(path(), Encoding::RLE),
        Type::BYTE_ARRAY if is_text => builder
            .set_column_dictionary_enabled(path(), true)
            .set_column_dictionary_page_size_limit(path(), TEXT_DICTIONARY_BYTES)
            .set_column_encoding(path(), Encoding::PLAIN),
        _ => builder.set_column_encoding(path(), Encoding::PLAIN),
    }
}
