//! Field IDs in the schema of a Parquet file.
//!
//! DuckLake finds the columns of a file by them, after a rename as well. A file with field IDs needs no
//! name mapping.

use std::sync::Arc;

use ducktide_protocol::{FieldId, FieldIds};
use parquet::basic::{ConvertedType, LogicalType};
use parquet::errors::Result;
use parquet::schema::types::{Type, TypePtr};

/// Returns the schema of a file with the IDs of the table's columns. A column that the table lacks gets
/// none.
pub fn with_field_ids(root: &Type, ids: &FieldIds) -> Result<TypePtr> {
    let fields = root.get_fields().iter().map(|field| with_id(field, ids.get(field.name())));
    let fields = fields.collect::<Result<_>>()?;
    Type::group_type_builder(root.name()).with_fields(fields).build().map(Arc::new)
}

fn with_id(field: &Type, found: Option<&FieldId>) -> Result<TypePtr> {
    let id = found.map(|found| found.id);
    if field.is_primitive() {
        return rebuild(field, Vec::new(), id);
    }
    let none = FieldIds::default();
    let children = found.map_or(&none, |found| &found.fields);
    let fields = field.get_fields().iter().map(|child| match GroupKind::of(field) {
        GroupKind::Struct => with_id(child, children.get(child.name())),
        GroupKind::List | GroupKind::Map => with_ids_within(child, children),
    });
    rebuild(field, fields.collect::<Result<_>>()?, id)
}

/// Sets the IDs below the repeated group of a list or map, which has none itself.
fn with_ids_within(repeated: &Type, ids: &FieldIds) -> Result<TypePtr> {
    let fields = repeated.get_fields().iter();
    let fields = fields.map(|field| with_id(field, ids.get(field.name())));
    rebuild(repeated, fields.collect::<Result<_>>()?, None)
}

/// Returns a copy of a type with another field ID, and with other fields if it is a group.
pub fn rebuild(of: &Type, fields: Vec<TypePtr>, id: Option<i32>) -> Result<TypePtr> {
    let info = of.get_basic_info();
    let built = match of {
        Type::PrimitiveType { physical_type, type_length, scale, precision, .. } => {
            Type::primitive_type_builder(of.name(), *physical_type)
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_length(*type_length)
                .with_scale(*scale)
                .with_precision(*precision)
                .with_id(id)
                .build()
        }
        Type::GroupType { .. } => Type::group_type_builder(of.name())
            .with_repetition(info.repetition())
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_fields(fields)
            .with_id(id)
            .build(),
    };
    built.map(Arc::new)
}

/// Meaning of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Fields with names of their own.
    Struct,
    /// A repeated group with the elements.
    List,
    /// A repeated group with keys and values.
    Map,
}

impl GroupKind {
    /// Returns the kind of a group, by its new or old annotation.
    #[must_use]
    pub fn of(group: &Type) -> Self {
        let info = group.get_basic_info();
        match (info.logical_type_ref(), info.converted_type()) {
            (Some(LogicalType::List), _) | (None, ConvertedType::LIST) => Self::List,
            (Some(LogicalType::Map), _)
            | (None, ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE) => Self::Map,
            _ => Self::Struct,
        }
    }
}

#[cfg(test)]
mod tests {
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    #[test]
    fn every_leaf_gets_the_id_of_its_column() {
        let schema = parse_message_type(
            "message schema { optional int64 Id; optional group tags (LIST) { repeated group list { \
             optional group element { optional binary name (UTF8); } } } optional group marks (MAP) { \
             repeated group key_value { required binary key (UTF8); optional double value; } } \
             optional int32 other; }",
        )
        .unwrap();
        let columns = [
            (1, "id", None),
            (2, "tags", None),
            (3, "element", Some(2)),
            (4, "name", Some(3)),
            (5, "marks", None),
            (6, "key", Some(5)),
            (7, "value", Some(5)),
        ];
        let columns = columns.map(|(id, name, parent)| (id, name.to_owned(), parent));

        let root = with_field_ids(&schema, &FieldIds::from_columns(&columns)).unwrap();

        let leaves = SchemaDescriptor::new(root.clone());
        let id = |of: &Type| of.get_basic_info().has_id().then(|| of.get_basic_info().id());
        let ids: Vec<_> = leaves.columns().iter().map(|leaf| id(leaf.self_type())).collect();
        assert_eq!(ids, [Some(1), Some(4), Some(6), Some(7), None]);
        let tags = &root.get_fields()[1];
        let list = &tags.get_fields()[0];
        assert_eq!([id(tags), id(list), id(&list.get_fields()[0])], [Some(2), None, Some(3)]);
    }
}
