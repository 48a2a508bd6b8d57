//! How each column is encoded.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use ducktide_lake::{
    parquet_encoding::{encode_column, writer_properties},
    table::KAFKA_TOPIC,
};
use parquet::{
    arrow::ArrowSchemaConverter,
    basic::Type,
    file::properties::{
        DEFAULT_DICTIONARY_PAGE_SIZE_LIMIT, EnabledStatistics, WriterPropertiesBuilder,
        WriterPropertiesPtr,
    },
    schema::types::{ColumnDescriptor, TypePtr},
};

use super::{ColumnHints, StagingError};

/// A table's Parquet schema, and what is written of every leaf column.
///
/// | column | encoding | statistics |
/// |---|---|---|
/// | enums | dictionary of any size | yes |
/// | `_kafka_topic` | dictionary of any size | only if asked for |
/// | other text, JSON, bytes | see [`encode_column`] | only if asked for |
/// | all others | see [`encode_column`] | yes |
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
        let mut builder = writer_properties("ducktide-consumer");
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
    let builder = encode_column(builder, column);
    match column.physical_type() {
        Type::BYTE_ARRAY => set_text_column(builder, column, hints),
        _ => builder,
    }
}

fn set_text_column(
    builder: WriterPropertiesBuilder,
    column: &ColumnDescriptor,
    hints: &ColumnHints,
) -> WriterPropertiesBuilder {
    let path = || column.path().clone();
    let is_enum = column.path().parts().len() == 1 && is_in(&hints.enums, column);
    let builder = if is_enum || is_in(&hints.statistics, column) {
        builder
    } else {
        builder.set_column_statistics_enabled(path(), EnabledStatistics::None)
    };
    if is_enum || root(column) == KAFKA_TOPIC {
        builder
            .set_column_dictionary_enabled(path(), true)
            .set_column_dictionary_page_size_limit(path(), DEFAULT_DICTIONARY_PAGE_SIZE_LIMIT)
    } else {
        builder
    }
}

/// The table's column that a leaf belongs to.
fn root(column: &ColumnDescriptor) -> &str {
    column.path().parts().first().map_or("", String::as_str)
}

fn is_in(names: &[String], column: &ColumnDescriptor) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(root(column)))
}
