//! How each column is encoded.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use ducktide_lake::table::KAFKA_TOPIC;
use parquet::{
    arrow::ArrowSchemaConverter,
    basic::{Compression, Encoding, LogicalType, Type, ZstdLevel},
    file::properties::{
        EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterPropertiesPtr,
        WriterVersion,
    },
    schema::types::{ColumnDescriptor, TypePtr},
};

use super::{ColumnHints, StagingError};

/// The dictionary of a text column: ids outgrow it within some hundred rows, and go on without one,
/// while names of states or countries stay within.
const TEXT_DICTIONARY_BYTES: usize = 16 * 1024;

/// A table's Parquet schema, and the encoding of every leaf column.
///
/// | column | encoding | statistics |
/// |---|---|---|
/// | integers, dates, times, decimals of up to 18 digits | delta binary packed | yes |
/// | booleans; doubles; UUIDs, wider decimals | RLE; plain; plain | yes |
/// | enums | dictionary | yes |
/// | `_kafka_topic` | dictionary | only if asked for |
/// | other text | dictionary while it is small, then plain | only if asked for |
/// | JSON, bytes | plain | only if asked for |
///
/// Statistics hold whole values, never truncated ones: DuckLake takes a truncated maximum for a value.
#[derive(Debug)]
pub(super) struct Layout {
    /// The schema of the batches.
    pub(super) schema: SchemaRef,
    pub(super) root: TypePtr,
    pub(super) properties: WriterPropertiesPtr,
}

impl Layout {
    pub(super) fn new(schema: SchemaRef, hints: &ColumnHints) -> Result<Self, StagingError> {
        let descriptor =
            ArrowSchemaConverter::new().convert(&schema).map_err(StagingError::Schema)?;
        let mut builder = WriterProperties::builder()
            .set_created_by(concat!("ducktide-consumer ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_enabled(false)
            .set_statistics_truncate_length(None)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true);
        for column in descriptor.columns() {
            builder = set_column(builder, column, hints);
        }
        let properties = Arc::new(builder.build());
        Ok(Self { schema, root: descriptor.root_schema_ptr(), properties })
    }
}

fn set_column(
    builder: WriterPropertiesBuilder,
    column: &ColumnDescriptor,
    hints: &ColumnHints,
) -> WriterPropertiesBuilder {
    let path = column.path().clone();
    let builder = if is_in(&hints.no_statistics, column) {
        builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
    } else {
        builder
    };
    match column.physical_type() {
        Type::INT32 | Type::INT64 => {
            builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
        }
        Type::BOOLEAN => builder.set_column_encoding(path, Encoding::RLE),
        Type::BYTE_ARRAY => set_text_column(builder, column, hints),
        _ => builder.set_column_encoding(path, Encoding::PLAIN),
    }
}

fn set_text_column(
    mut builder: WriterPropertiesBuilder,
    column: &ColumnDescriptor,
    hints: &ColumnHints,
) -> WriterPropertiesBuilder {
    let path = column.path();
    let is_enum = path.parts().len() == 1 && is_in(&hints.enums, column);
    if !is_enum && !is_in(&hints.statistics, column) {
        let none = EnabledStatistics::None;
        builder = builder.set_column_statistics_enabled(path.clone(), none);
    }
    let is_string = column.logical_type_ref() == Some(&LogicalType::String);
    if is_enum || is_string {
        builder = builder.set_column_dictionary_enabled(path.clone(), true);
    }
    if is_string && !is_enum && root(column) != KAFKA_TOPIC {
        builder =
            builder.set_column_dictionary_page_size_limit(path.clone(), TEXT_DICTIONARY_BYTES);
    }
    builder.set_column_encoding(path.clone(), Encoding::PLAIN)
}

/// The table's column that a leaf belongs to.
fn root(column: &ColumnDescriptor) -> &str {
    column.path().parts().first().map_or("", String::as_str)
}

fn is_in(names: &[String], column: &ColumnDescriptor) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(root(column)))
}
