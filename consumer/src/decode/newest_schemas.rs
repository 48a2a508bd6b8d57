//! What is known of the newest schemas of a topic.

use ducktide_decoder::KeyDecoder;
use ducktide_lake::table::{
    AvroField, AvroSchema, AvroType, ShapeError, TableShape, UnionAs, rename,
};

/// What is known of the newest schemas of a topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewestSchemas {
    /// The fields of values; none where no schema of theirs is known.
    pub(crate) fields: Vec<AvroField>,
    /// The key as a field, where keys are Avro.
    pub(crate) key: Option<AvroField>,
}

impl NewestSchemas {
    /// Reads the fields out of the newest schemas.
    pub(crate) fn of(
        value: Option<&AvroSchema>,
        key: Option<&AvroSchema>,
        union_as: UnionAs,
    ) -> Result<Self, ShapeError> {
        let key = key.map(|schema| KeyDecoder::field(schema, union_as)).transpose()?;
        let fields = value.map(|schema| AvroType::record_fields(schema, union_as)).transpose()?;
        Ok(Self { fields: fields.unwrap_or_default(), key })
    }

    /// With the names that a table has for the fields.
    pub(crate) fn renamed_for(&self, table: &TableShape) -> Self {
        let mut renamed = self.clone();
        rename(&mut renamed.fields, &table.columns, &[]);
        rename(renamed.key.as_mut_slice(), &table.columns, &[]);
        renamed
    }
}
