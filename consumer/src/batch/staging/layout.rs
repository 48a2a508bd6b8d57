//! Parquet schema and encoding of each column.

use std::{io, sync::Arc};

use arrow_schema::{FieldRef, Schema, SchemaRef};
use ducktide_lake::{
    parquet_encoding::{encode_column, writer_properties},
    parquet_field_ids::with_field_ids,
};
use ducktide_protocol::{FieldIds, table::KAFKA_TOPIC};
use parquet::{
    arrow::{ArrowSchemaConverter, arrow_writer::ArrowRowGroupWriterFactory},
    basic::Type,
    errors::ParquetError,
    file::{
        properties::{
            DEFAULT_DICTIONARY_PAGE_SIZE_LIMIT, EnabledStatistics, WriterPropertiesBuilder,
            WriterPropertiesPtr,
        },
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnDescriptor, Type as ParquetType, TypePtr},
};

use super::{ColumnHints, StagingError};

/// Memory of the encoder of a column before it has values, bytes: a compressor, a page, and for
/// text the hash table of its dictionary. Measured as the resident memory of a process with 500
/// such columns and 1 to 60 open files (`examples/staging_memory.rs`): 22 to 40 KB for numbers, 55
/// to 110 KB for text.
const NUMBER_ENCODER_BYTES: usize = 40 * 1024;
const TEXT_ENCODER_BYTES: usize = 100 * 1024;

/// Parquet schema of a table, with the encoding and statistics of each leaf column.
///
/// | column | encoding | statistics |
/// |---|---|---|
/// | enums | dictionary of any size | yes |
/// | `_kafka_topic` | dictionary of any size | only if requested |
/// | other text, JSON, bytes | see [`encode_column`] | only if requested |
/// | all others | see [`encode_column`] | yes |
#[derive(Debug)]
pub(super) struct ParquetLayout {
    /// Schema of the batches.
    pub(super) schema: SchemaRef,
    pub(super) root: TypePtr,
    pub(super) properties: WriterPropertiesPtr,
    /// Columns of the table, each with a factory of its encoders alone.
    pub(super) columns: Vec<(FieldRef, ArrowRowGroupWriterFactory)>,
    /// For each leaf column, true if it contains text or bytes.
    pub(super) is_text: Vec<bool>,
}

impl ParquetLayout {
    pub(super) fn new(
        schema: SchemaRef,
        hints: &ColumnHints,
        field_ids: &FieldIds,
    ) -> Result<Self, StagingError> {
        let descriptor =
            ArrowSchemaConverter::new().convert(&schema).map_err(StagingError::Schema)?;
        let mut builder = writer_properties("ducktide-consumer");
        for column in descriptor.columns() {
            builder = set_column(builder, column, hints);
        }
        let properties = Arc::new(builder.build());
        let root = with_field_ids(descriptor.root_schema(), field_ids);
        let root = root.map_err(StagingError::Schema)?;
        let columns = schema.fields().iter().zip(root.get_fields()).map(|(field, leaves)| {
            Ok((Arc::clone(field), encoder_factory(field, leaves, &properties)?))
        });
        let columns = columns.collect::<Result<_, _>>().map_err(StagingError::Schema)?;
        let is_text = descriptor.columns().iter();
        let is_text = is_text.map(|column| column.physical_type() == Type::BYTE_ARRAY).collect();
        Ok(Self { schema, root, properties, columns, is_text })
    }

    /// Returns the memory of the encoders of all columns before they have values, bytes.
    pub(super) fn encoder_bytes(&self) -> usize {
        let bytes =
            |&is_text: &bool| if is_text { TEXT_ENCODER_BYTES } else { NUMBER_ENCODER_BYTES };
        self.is_text.iter().map(bytes).sum()
    }
}

/// Creates a factory of the encoders of one column.
fn encoder_factory(
    field: &FieldRef,
    leaves: &TypePtr,
    properties: &WriterPropertiesPtr,
) -> Result<ArrowRowGroupWriterFactory, ParquetError> {
    let root = ParquetType::group_type_builder("schema").with_fields(vec![Arc::clone(leaves)]);
    let root = Arc::new(root.build()?);
    // The library creates factories only from file writers.
    let nowhere = SerializedFileWriter::new(io::sink(), root, Arc::clone(properties))?;
    let schema = Arc::new(Schema::new(vec![Arc::clone(field)]));
    Ok(ArrowRowGroupWriterFactory::new(&nowhere, schema))
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

/// Returns the column of the table that a leaf column belongs to.
fn root(column: &ColumnDescriptor) -> &str {
    column.path().parts().first().map_or("", String::as_str)
}

fn is_in(names: &[String], column: &ColumnDescriptor) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(root(column)))
}
