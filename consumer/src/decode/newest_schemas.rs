//! Newest schemas of a topic.

use ducktide_decoder::KeyDecoder;
use ducktide_protocol::table::{
    AvroField, AvroSchema, AvroType, ShapeError, TableShape, UnionAs, rename,
};

/// Fields of the newest schemas of a topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewestSchemas {
    /// Fields of the values; empty if their schema is unknown.
    pub(crate) fields: Vec<AvroField>,
    /// Key as a field, if keys are Avro.
    pub(crate) key: Option<AvroField>,
}

impl NewestSchemas {
    /// Reads the fields of the newest schemas.
    pub(crate) fn of(
        value: Option<&AvroSchema>,
        key: Option<&AvroSchema>,
        union_as: UnionAs,
    ) -> Result<Self, ShapeError> {
        let key = key.map(|schema| KeyDecoder::field(schema, union_as)).transpose()?;
        let fields = value.map(|schema| AvroType::record_fields(schema, union_as)).transpose()?;
        Ok(Self { fields: fields.unwrap_or_default(), key })
    }

    /// Returns the fields with the names of their columns in a table.
    pub(crate) fn renamed_for(&self, table: &TableShape) -> Self {
        let mut renamed = self.clone();
        rename(&mut renamed.fields, &table.columns, &[]);
        rename(renamed.key.as_mut_slice(), &table.columns, &[]);
        renamed
    }
}
