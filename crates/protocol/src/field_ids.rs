//! IDs of a table's columns in the lake, which are the field IDs in its Parquet files.

use std::collections::BTreeMap;

/// IDs of columns by their names, or of the fields of a STRUCT, the `element` of a list, the `key` and
/// `value` of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldIds(BTreeMap<String, FieldId>);

/// ID of a column, and those of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldId {
    /// ID of the column.
    pub id: i32,
    /// IDs of its fields; empty for a leaf.
    pub fields: FieldIds,
}

impl FieldIds {
    /// Builds the tree of the columns: ID, name, and ID of the column that each is a field of.
    #[must_use]
    pub fn from_columns(columns: &[(i32, String, Option<i32>)]) -> Self {
        Self::within(None, columns)
    }

    fn within(parent: Option<i32>, columns: &[(i32, String, Option<i32>)]) -> Self {
        let children = columns.iter().filter(|(_, _, of)| *of == parent);
        let field = |(id, name, _): &(i32, String, Option<i32>)| {
            (lower_case(name), FieldId { id: *id, fields: Self::within(Some(*id), columns) })
        };
        Self(children.map(field).collect())
    }

    /// Returns the columns, with their names in lower case.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &FieldId)> {
        self.0.iter().map(|(name, field)| (name.as_str(), field))
    }

    /// Finds a column by its name; compares case-insensitively, as DuckDB does.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&FieldId> {
        self.0.get(&lower_case(name))
    }
}

fn lower_case(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_within_their_columns() {
        let columns = [(1, "a", None), (2, "B", None), (3, "a", Some(2)), (4, "element", Some(3))];
        let columns = columns.map(|(id, name, parent)| (id, name.to_owned(), parent));

        let ids = FieldIds::from_columns(&columns);

        assert_eq!(ids.get("A").map(|field| field.id), Some(1));
        let nested = ids.get("b").and_then(|field| field.fields.get("a")).unwrap();
        assert_eq!((nested.id, nested.fields.get("element").unwrap().id), (3, 4));
        assert!(ids.get("element").is_none());
    }
}
