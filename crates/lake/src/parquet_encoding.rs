//! Properties of the Parquet files that workers write, and the encoding of each column.

use parquet::basic::{Compression, ConvertedType, Encoding, LogicalType, Type, ZstdLevel};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnDescriptor;

/// Maximum size of a text column's dictionary in bytes. Ids exceed it within some hundred rows and are
/// then written without a dictionary; names of states or countries stay below it.
const TEXT_DICTIONARY_BYTES: usize = 16 * 1024;

/// Returns the properties that the files of all workers share.
///
/// Statistics hold whole values, never truncated ones: DuckLake takes a truncated maximum for a value.
#[must_use]
pub fn writer_properties(created_by: &str) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_created_by(format!("{created_by} {}", env!("CARGO_PKG_VERSION")))
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_truncate_length(None)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
}

/// Sets the encoding of a leaf column.
///
/// | column | encoding |
/// |---|---|
/// | integers, dates, times, decimals of up to 18 digits | delta binary packed |
/// | booleans | RLE |
/// | text | dictionary up to 16 KiB, then plain |
/// | others: doubles, UUIDs, wider decimals, JSON, bytes | plain |
#[must_use]
pub fn encode_column(
    builder: WriterPropertiesBuilder,
    column: &ColumnDescriptor,
) -> WriterPropertiesBuilder {
    let path = || column.path().clone();
    let is_text = column.logical_type_ref() == Some(&LogicalType::String)
        || column.converted_type() == ConvertedType::UTF8;
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
