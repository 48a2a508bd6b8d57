//! Columns of a source file, by the table's field IDs.

use std::collections::HashMap;
use std::sync::Arc;

use ducktide_lake::parquet_field_ids::{GroupKind, rebuild};
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type, TypePtr};

use super::not_spliceable::NotSpliceable;

/// Name and field ID of DuckLake's columns for row IDs and for the snapshots of rows (DuckLake 1.0, in
/// merged files).
pub(super) const ROW_ID: (&str, i32) = ("_ducklake_internal_row_id", 2_147_483_540);
pub(super) const SNAPSHOT_ID: (&str, i32) = ("_ducklake_internal_snapshot_id", 2_147_483_539);

/// Rows of `ducklake_name_mapping` for one `mapping_id`: the names of the table's columns in a file without
/// field IDs.
#[derive(Debug, Default)]
pub(super) struct NameMapping {
    /// Children of the table (None) and of each column that has any: number and field ID by the name in
    /// the file.
    children: HashMap<Option<i64>, HashMap<String, (i64, i32)>>,
}

impl NameMapping {
    pub(super) fn add(&mut self, column: i64, name: String, field_id: i32, parent: Option<i64>) {
        self.children.entry(parent).or_default().insert(name, (column, field_id));
    }

    fn child(&self, parent: Option<i64>, name: &str) -> Option<(i64, i32)> {
        self.children.get(&parent)?.get(name).copied()
    }

    /// Returns the element of a list, whatever its name.
    fn only_child(&self, parent: i64) -> Option<(i64, i32)> {
        let mut children = self.children.get(&Some(parent))?.values();
        children.next().copied().filter(|_| children.next().is_none())
    }

    fn columns(&self) -> usize {
        self.children.get(&None).map_or(0, HashMap::len)
    }
}

/// Properties in which two leaf columns must agree for their pages to be interchangeable.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LeafColumn {
    field_ids: Vec<i32>,
    physical: PhysicalType,
    length: i32,
    meaning: (Option<LogicalType>, ConvertedType),
    levels: (i16, i16),
}

impl LeafColumn {
    /// Returns the ID of the column itself, without those of the columns around it.
    pub(super) fn field_id(&self) -> i32 {
        self.field_ids.last().copied().unwrap_or_default()
    }

    /// Returns whether it is within a list or map.
    pub(super) const fn is_repeated(&self) -> bool {
        self.levels.1 > 0
    }
}

/// Columns of a source file.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Columns of the table, with their field IDs.
    pub(super) fields: Vec<TypePtr>,
    /// Leaf columns, with their indexes in the file.
    pub(super) leaves: Vec<(LeafColumn, usize)>,
    /// Indexes of DuckLake's own columns.
    pub(super) row_id: Option<usize>,
    pub(super) snapshot_id: Option<usize>,
}

impl Shape {
    /// Finds the field IDs, in the file itself or by its names.
    pub(super) fn new(
        schema: &SchemaDescriptor,
        names: Option<&NameMapping>,
    ) -> Result<Self, NotSpliceable> {
        let root = schema.root_schema();
        let internal = |(name, id): (&str, i32)| {
            let is_it = |column: &ColumnDescriptor| {
                let info = column.self_type().get_basic_info();
                column.path().parts() == [name] && info.has_id() && info.id() == id
            };
            schema.columns().iter().position(|column| is_it(column))
        };
        let (row_id, snapshot_id) = (internal(ROW_ID), internal(SNAPSHOT_ID));
        let mut shape = Self { fields: Vec::new(), leaves: Vec::new(), row_id, snapshot_id };
        let mut place = 0;
        for field in root.get_fields() {
            let is_internal = [row_id, snapshot_id].contains(&Some(place));
            if is_internal {
                place += 1;
                continue;
            }
            let found = names.map(|names| (names, names.child(None, field.name())));
            let field = match found {
                None => Arc::clone(field),
                Some((names, Some(child))) => with_ids(field, names, child)?,
                Some((_, None)) => {
                    return Err(NotSpliceable("a column has no name in the mapping"));
                }
            };
            shape.add_leaves(&field, &mut Vec::new(), schema, &mut place)?;
            shape.fields.push(field);
        }
        // A partition's column may be in the path only; then DuckLake writes it.
        if names.is_some_and(|names| names.columns() != shape.fields.len()) {
            return Err(NotSpliceable("a column of the mapping is not in the file"));
        }
        Ok(shape)
    }

    fn add_leaves(
        &mut self,
        field: &Type,
        within: &mut Vec<i32>,
        schema: &SchemaDescriptor,
        place: &mut usize,
    ) -> Result<(), NotSpliceable> {
        let info = field.get_basic_info();
        let has_id = info.has_id();
        if has_id {
            within.push(info.id());
        }
        if field.is_group() {
            for child in field.get_fields() {
                self.add_leaves(child, within, schema, place)?;
            }
        } else {
            if !has_id {
                return Err(NotSpliceable("a column has no field id"));
            }
            let column = schema.column(*place);
            let leaf = LeafColumn {
                field_ids: within.clone(),
                physical: column.physical_type(),
                length: column.type_length(),
                meaning: meaning(&column),
                levels: (column.max_def_level(), column.max_rep_level()),
            };
            self.leaves.push((leaf, *place));
            *place += 1;
        }
        if has_id {
            within.pop();
        }
        Ok(())
    }

    /// Returns the indexes in this file of another file's columns; None for a column that was added to the
    /// table after this file was written, whose rows are NULL.
    pub(super) fn indexes_of(&self, model: &Self) -> Result<Vec<Option<usize>>, NotSpliceable> {
        let place = |wanted: &LeafColumn| {
            let same = self.leaves.iter().find(|(leaf, _)| leaf == wanted);
            if same.is_none() && !(self.lacks_column_of(wanted) && model.is_optional(wanted)) {
                return Err(NotSpliceable("a column is not the same in all files"));
            }
            Ok(same.map(|(_, place)| *place))
        };
        let column_indexes: Vec<_> =
            model.leaves.iter().map(|(wanted, _)| place(wanted)).collect::<Result<_, _>>()?;
        if column_indexes.iter().flatten().count() != self.leaves.len() {
            return Err(NotSpliceable("the files do not have the same columns"));
        }
        Ok(column_indexes)
    }

    /// Returns whether the file has no leaf of the table's column that a leaf belongs to.
    fn lacks_column_of(&self, leaf: &LeafColumn) -> bool {
        self.leaves.iter().all(|(own, _)| own.field_ids.first() != leaf.field_ids.first())
    }

    /// Returns whether the table's column that a leaf belongs to can be NULL.
    fn is_optional(&self, leaf: &LeafColumn) -> bool {
        self.fields.iter().any(|field| {
            let info = field.get_basic_info();
            leaf.field_ids.first() == Some(&info.id()) && info.repetition() == Repetition::OPTIONAL
        })
    }
}

/// Returns a type with the field IDs of a mapping. The repeated group within a list or map has none.
fn with_ids(
    field: &Type,
    names: &NameMapping,
    (column, id): (i64, i32),
) -> Result<TypePtr, NotSpliceable> {
    let rebuilt = |of: &Type, fields, id| {
        rebuild(of, fields, id)
            .map_err(|_: ParquetError| NotSpliceable("a column's type is not valid"))
    };
    if field.is_primitive() {
        return rebuilt(field, Vec::new(), Some(id));
    }
    let (kind, fields) = (GroupKind::of(field), field.get_fields());
    let unnamed = NotSpliceable("a nested column has no name in the mapping");
    let child = |child: &Type| names.child(Some(column), child.name());
    let children = match kind {
        GroupKind::Struct => {
            let with_id = |field: &TypePtr| with_ids(field, names, child(field).ok_or(unnamed)?);
            fields.iter().map(with_id).collect::<Result<Vec<_>, _>>()?
        }
        GroupKind::List | GroupKind::Map => {
            let [repeated] = fields else {
                return Err(NotSpliceable("a list or map has no repeated group"));
            };
            let is_list = kind == GroupKind::List;
            let with_id = |field: &TypePtr| {
                let found = if is_list { names.only_child(column) } else { child(field) };
                with_ids(field, names, found.ok_or(unnamed)?)
            };
            if !repeated.is_group() || (is_list && repeated.get_fields().len() != 1) {
                return Err(NotSpliceable("a list has another form than three levels"));
            }
            let within =
                repeated.get_fields().iter().map(with_id).collect::<Result<Vec<_>, _>>()?;
            vec![rebuilt(repeated, within, None)?]
        }
    };
    rebuilt(field, children, Some(id))
}

/// Returns a column's logical type in canonical form: writers may use the old annotations, the new ones,
/// both, or none for an integer as wide as its physical type.
fn meaning(column: &ColumnDescriptor) -> (Option<LogicalType>, ConvertedType) {
    let width = match column.physical_type() {
        PhysicalType::INT32 => 32,
        PhysicalType::INT64 => 64,
        _ => 0,
    };
    let integer = |bit_width, is_signed| LogicalType::Integer { bit_width, is_signed };
    let logical = match (column.logical_type_ref(), column.converted_type()) {
        (Some(logical), _) => Some(logical.clone()),
        (None, ConvertedType::NONE) => None,
        (None, ConvertedType::UTF8) => Some(LogicalType::String),
        (None, ConvertedType::JSON) => Some(LogicalType::Json),
        (None, ConvertedType::ENUM) => Some(LogicalType::Enum),
        (None, ConvertedType::DATE) => Some(LogicalType::Date),
        (None, ConvertedType::DECIMAL) => Some(LogicalType::Decimal {
            scale: column.type_scale(),
            precision: column.type_precision(),
        }),
        (None, ConvertedType::INT_8) => Some(integer(8, true)),
        (None, ConvertedType::INT_16) => Some(integer(16, true)),
        (None, ConvertedType::INT_32) => Some(integer(32, true)),
        (None, ConvertedType::INT_64) => Some(integer(64, true)),
        (None, ConvertedType::UINT_8) => Some(integer(8, false)),
        (None, ConvertedType::UINT_16) => Some(integer(16, false)),
        (None, ConvertedType::UINT_32) => Some(integer(32, false)),
        (None, ConvertedType::UINT_64) => Some(integer(64, false)),
        (None, other) => return (None, other),
    };
    let is_plain = |logical: &LogicalType| *logical == integer(width, true);
    (logical.filter(|logical| !is_plain(logical)), ConvertedType::NONE)
}
