//! The columns of a table.

use super::{AvroField, AvroSchema, AvroType, ColumnType, ShapeError, UnionAs};

/// The topic that a row came from.
pub const KAFKA_TOPIC: &str = "_kafka_topic";
/// The partition that a row came from.
pub const KAFKA_PARTITION: &str = "_kafka_partition";
/// A row's offset in its partition.
pub const KAFKA_OFFSET: &str = "_kafka_offset";
/// The timestamp that Kafka keeps with a record.
pub const KAFKA_TIMESTAMP: &str = "_kafka_timestamp";
/// The record's key, in tables that have the column: VARCHAR or BLOB.
pub const KAFKA_KEY: &str = "_kafka_key";
/// The record's headers, in tables that have the column: of
/// [`headers_type`](crate::dead_letter::headers_type).
pub const KAFKA_HEADERS: &str = "_kafka_headers";
/// The UTC date of the `--partition-by` column, and the table's partition key.
pub const EVENT_DATE: &str = "event_date";

/// No field of a record may start like this: there may be more such columns one day.
const KAFKA_PREFIX: &str = "_kafka_";

/// DuckLake adds columns of this kind to merged files: row ids, and the snapshots of rows.
pub const DUCKLAKE_PREFIX: &str = "_ducklake_internal_";

/// The columns that every table filled by Ducktide has, in their order.
pub const KAFKA_COLUMNS: [(&str, ColumnType); 4] = [
    (KAFKA_TOPIC, ColumnType::Varchar),
    (KAFKA_PARTITION, ColumnType::Integer),
    (KAFKA_OFFSET, ColumnType::BigInt),
    (KAFKA_TIMESTAMP, ColumnType::TimestampTz),
];

/// A column, or a field of a STRUCT. All are nullable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name, in the case it was created with; compared without regard to case.
    pub name: String,
    /// The type.
    pub column_type: ColumnType,
}

/// The columns of a table, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// The record's columns, and Ducktide's own.
    pub columns: Vec<Column>,
}

impl Column {
    /// Puts a column together.
    #[must_use]
    pub fn new(name: &str, column_type: ColumnType) -> Self {
        Self { name: name.to_owned(), column_type }
    }

    /// Whether this is the column's name; DuckDB compares without regard to case.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether Ducktide fills the column itself, rather than from the record.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.is_required() || self.is_named(KAFKA_KEY) || self.is_named(KAFKA_HEADERS)
    }

    /// Whether a table that lacks the column was not made for Ducktide, or for another partition key.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.is_named(EVENT_DATE) || KAFKA_COLUMNS.iter().any(|(own, _)| self.is_named(own))
    }

    /// The columns of a record's fields; `parent` is the record's path, empty at the top.
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
    /// The table that a topic of this schema wants: the record's fields in their order, then where
    /// each row came from, then `event_date` if the table is to be partitioned.
    ///
    /// `partition_by` names a timestamp of the record, or `_kafka_timestamp`.
    pub fn from_avro(schema: &AvroSchema, partition_by: Option<&str>) -> Result<Self, ShapeError> {
        Self::of_record(&AvroType::record_fields(schema, UnionAs::Json)?, partition_by)
    }

    /// The same for a record's fields.
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

    /// The shape of an existing table, from the names and types that DESCRIBE prints.
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

    /// Whether the table can be partitioned by this column.
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

    /// Whether there is such a column, or field of a STRUCT; its path is in the words of
    /// [`diff`](super::diff).
    #[must_use]
    pub fn has_path(&self, path: &str) -> bool {
        let mut levels = path.split('.');
        let column = levels.next().and_then(|name| self.column(name));
        column
            .is_some_and(|column| levels.try_fold(&column.column_type, ColumnType::child).is_some())
    }

    /// Whether rows are kept in a folder for each `event_date`.
    #[must_use]
    pub fn is_partitioned(&self) -> bool {
        self.column(EVENT_DATE).is_some()
    }

    /// What stands between the parentheses of CREATE TABLE.
    #[must_use]
    pub fn sql(&self) -> String {
        self.columns.iter().map(Column::sql).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a name belongs to Ducktide or DuckLake. `event_date` does even where the table is not partitioned,
/// so that it can be partitioned later.
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
