//! Columns of a table.

use super::{AvroField, AvroSchema, AvroType, ColumnType, ShapeError, UnionAs};

/// Column with the topic of a row.
pub const KAFKA_TOPIC: &str = "_kafka_topic";
/// Column with the partition of a row.
pub const KAFKA_PARTITION: &str = "_kafka_partition";
/// Column with the offset of a row in its partition.
pub const KAFKA_OFFSET: &str = "_kafka_offset";
/// Column with Kafka's timestamp of a record.
pub const KAFKA_TIMESTAMP: &str = "_kafka_timestamp";
/// Optional column with the record's key, VARCHAR or BLOB.
pub const KAFKA_KEY: &str = "_kafka_key";
/// Optional column with the record's headers, of
/// [`headers_type`](crate::dead_letter::headers_type).
pub const KAFKA_HEADERS: &str = "_kafka_headers";
/// Column with the UTC date of the `--partition-by` column, and the table's partition key.
pub const EVENT_DATE: &str = "event_date";

/// Prefix that no field of a record may have, reserved for future columns.
const KAFKA_PREFIX: &str = "_kafka_";

/// Prefix of the columns that DuckLake adds to merged files: row ids, and the snapshots of rows.
pub const DUCKLAKE_PREFIX: &str = "_ducklake_internal_";

/// Columns of every table that Ducktide fills, in order.
pub const KAFKA_COLUMNS: [(&str, ColumnType); 4] = [
    (KAFKA_TOPIC, ColumnType::Varchar),
    (KAFKA_PARTITION, ColumnType::Integer),
    (KAFKA_OFFSET, ColumnType::BigInt),
    (KAFKA_TIMESTAMP, ColumnType::TimestampTz),
];

/// Column, or field of a STRUCT. All are nullable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name, in the case of its creation; compared case-insensitively.
    pub name: String,
    /// Type.
    pub column_type: ColumnType,
}

/// Columns of a table, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// Columns of the record, and Ducktide's own.
    pub columns: Vec<Column>,
}

impl Column {
    /// Creates a column.
    #[must_use]
    pub fn new(name: &str, column_type: ColumnType) -> Self {
        Self { name: name.to_owned(), column_type }
    }

    /// Returns true if this is the column's name; compares case-insensitively, as DuckDB does.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Returns true if Ducktide fills the column, rather than a field of the record.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.is_required() || self.is_named(KAFKA_KEY) || self.is_named(KAFKA_HEADERS)
    }

    /// Returns true if Ducktide cannot fill a table without the column: the table was not created for
    /// Ducktide, or for another partition key.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.is_named(EVENT_DATE) || KAFKA_COLUMNS.iter().any(|(own, _)| self.is_named(own))
    }

    /// Returns the columns of a record's fields; `parent` is the record's path, empty at the top.
    pub(super) fn of_fields(fields: &[AvroField], parent: &str) -> Result<Vec<Self>, ShapeError> {
        if fields.is_empty() {
            return Err(ShapeError::EmptyRecord { field: parent.to_owned() });
        }
        let mut columns: Vec<Self> = Vec::with_capacity(fields.len());
        for field in fields {
            let path = join(parent, &field.name);
            if field.name.is_empty() || field.name.contains('\0') {
                return Err(ShapeError::UnusableName { field: path.replace('\0', "\\0") });
            }
            if let Some(first) = columns.iter().find(|column| column.is_named(&field.name)) {
                let first = join(parent, &first.name);
                return Err(ShapeError::AmbiguousNames { first, second: path });
            }
            let column_type = ColumnType::of(&field.avro_type, &path)?;
            columns.push(Self::new(&field.name, column_type));
        }
        Ok(columns)
    }
}

impl TableShape {
    /// Returns the shape for a schema: the record's fields in their order, then [`KAFKA_COLUMNS`], then
    /// `event_date` if the table is partitioned.
    ///
    /// `partition_by` names a timestamp of the record, or `_kafka_timestamp`.
    pub fn from_avro(schema: &AvroSchema, partition_by: Option<&str>) -> Result<Self, ShapeError> {
        Self::of_record(&AvroType::record_fields(schema, UnionAs::Json)?, partition_by)
    }

    /// Returns the shape for a record's fields.
    pub fn of_record(fields: &[AvroField], partition_by: Option<&str>) -> Result<Self, ShapeError> {
        if let Some(field) = fields.iter().find(|field| is_reserved(&field.name)) {
            return Err(ShapeError::ReservedName { field: field.name.clone() });
        }
        let mut columns = Column::of_fields(fields, "")?;
        columns.extend(KAFKA_COLUMNS.map(|(name, column_type)| Column::new(name, column_type)));
        let mut shape = Self { columns };
        if let Some(column) = partition_by {
            shape.check_partition_by(column)?;
            shape.columns.push(Column::new(EVENT_DATE, ColumnType::Date));
        }
        Ok(shape)
    }

    /// Returns the shape of an existing table from the names and types that DESCRIBE prints.
    pub fn from_described<N: AsRef<str>, T: AsRef<str>>(
        columns: impl IntoIterator<Item = (N, T)>,
    ) -> Result<Self, ShapeError> {
        let columns = columns.into_iter().map(|(name, text)| {
            let column_type = ColumnType::parse(text.as_ref()).ok_or_else(|| {
                let (column, type_text) = (name.as_ref().to_owned(), text.as_ref().to_owned());
                ShapeError::UnknownColumnType { column, type_text }
            })?;
            Ok(Column::new(name.as_ref(), column_type))
        });
        Ok(Self { columns: columns.collect::<Result<_, _>>()? })
    }

    /// Checks that the table can be partitioned by this column.
    pub fn check_partition_by(&self, column: &str) -> Result<(), ShapeError> {
        match self.column(column) {
            Some(found) if found.column_type.is_timestamp() => Ok(()),
            _ => Err(ShapeError::PartitionBy { column: column.to_owned() }),
        }
    }

    /// Finds a column by its name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.is_named(name))
    }

    /// Returns true if the column, or the field of a STRUCT, exists; paths are those of
    /// [`diff`](super::diff).
    #[must_use]
    pub fn has_path(&self, path: &str) -> bool {
        let mut levels = path.split('.');
        let column = levels.next().and_then(|name| self.column(name));
        column
            .is_some_and(|column| levels.try_fold(&column.column_type, ColumnType::child).is_some())
    }

    /// Returns true if the files are in a directory for each `event_date`.
    #[must_use]
    pub fn is_partitioned(&self) -> bool {
        self.column(EVENT_DATE).is_some()
    }

    /// Returns the list of columns for CREATE TABLE, without parentheses.
    #[must_use]
    pub fn sql(&self) -> String {
        self.columns.iter().map(Column::sql).collect::<Vec<_>>().join(", ")
    }
}

/// Returns true for a name of Ducktide or DuckLake. `event_date` is reserved even if the table is not
/// partitioned, so that it can be partitioned later.
fn is_reserved(name: &str) -> bool {
    name.eq_ignore_ascii_case(EVENT_DATE)
        || begins_with(name, KAFKA_PREFIX)
        || begins_with(name, DUCKLAKE_PREFIX)
}

fn begins_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
