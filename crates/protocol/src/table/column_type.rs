//! DuckLake's column types, and their mapping from Avro types.

use std::fmt;

use super::{AvroField, AvroType, Column, ShapeError, TimeUnit, quote_identifier};

/// Maximum precision of DECIMAL; larger Avro decimals become VARCHAR, as a HUGEINT is written as DOUBLE.
const MAX_DECIMAL_PRECISION: usize = 38;

/// DuckLake column types that Ducktide writes.
///
/// | Avro | column |
/// |---|---|
/// | boolean, string, enum | BOOLEAN, VARCHAR, VARCHAR |
/// | bytes, fixed | BLOB |
/// | int, long | BIGINT: a later promotion would corrupt the table's statistics |
/// | float, double | DOUBLE, for the same reason |
/// | array, map, record | LIST, MAP(VARCHAR, T), STRUCT |
/// | decimal of up to 38 digits; wider; big-decimal | DECIMAL(p, s); VARCHAR; VARCHAR |
/// | uuid, date, time-millis and -micros | UUID, DATE, TIME |
/// | timestamp-millis and -micros; -nanos | TIMESTAMPTZ; `TIMESTAMP_NS` |
/// | local-timestamp-millis and -micros; -nanos | TIMESTAMP; `TIMESTAMP_NS` |
/// | duration | STRUCT(months, days, millis), each BIGINT |
/// | union of null and T | T; every column is nullable |
/// | union of several branches | JSON, or a STRUCT of them ([`UnionAs`](super::UnionAs)) |
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `BOOLEAN`.
    Boolean,
    /// `INTEGER`, of `_kafka_partition` alone.
    Integer,
    /// `BIGINT`.
    BigInt,
    /// `DOUBLE`.
    Double,
    /// `VARCHAR`.
    Varchar,
    /// `BLOB`.
    Blob,
    /// `JSON`.
    Json,
    /// `UUID`.
    Uuid,
    /// `DATE`.
    Date,
    /// `TIME`, in microseconds.
    Time,
    /// `TIMESTAMP`, in microseconds, without time zone.
    Timestamp,
    /// `TIMESTAMP_NS`, in nanoseconds, without time zone.
    TimestampNs,
    /// `TIMESTAMP WITH TIME ZONE`, in microseconds.
    TimestampTz,
    /// `DECIMAL(precision, scale)`.
    Decimal {
        /// Number of digits, at most 38.
        precision: u8,
        /// Number of digits after the decimal point.
        scale: u8,
    },
    /// `T[]`.
    List(Box<ColumnType>),
    /// `MAP(VARCHAR, T)`.
    Map(Box<ColumnType>),
    /// `STRUCT(name T, …)`.
    Struct(Vec<Column>),
}

impl ColumnType {
    /// Returns the column type of an Avro type; `field` is its path, for the error.
    pub fn of(avro_type: &AvroType, field: &str) -> Result<Self, ShapeError> {
        Ok(match avro_type {
            AvroType::Null => return Err(ShapeError::NullOnly { field: field.to_owned() }),
            AvroType::Boolean => Self::Boolean,
            AvroType::Int | AvroType::Long => Self::BigInt,
            AvroType::Float | AvroType::Double => Self::Double,
            AvroType::Bytes | AvroType::Fixed(_) => Self::Blob,
            AvroType::String | AvroType::Enum(_) | AvroType::BigDecimal => Self::Varchar,
            AvroType::Decimal { precision, scale, .. } => Self::decimal(*precision, *scale),
            AvroType::Uuid(_) => Self::Uuid,
            AvroType::Date => Self::Date,
            AvroType::TimeMillis | AvroType::TimeMicros => Self::Time,
            AvroType::Timestamp(TimeUnit::Nanos) | AvroType::LocalTimestamp(TimeUnit::Nanos) => {
                Self::TimestampNs
            }
            AvroType::Timestamp(_) => Self::TimestampTz,
            AvroType::LocalTimestamp(_) => Self::Timestamp,
            AvroType::Duration => Self::duration(),
            AvroType::Array(items) => Self::List(Box::new(Self::of(items, field)?)),
            AvroType::Map(values) => Self::Map(Box::new(Self::of(values, field)?)),
            AvroType::Record(fields) => Self::Struct(Column::of_fields(fields, field)?),
            AvroType::Variants(branches) => {
                let is_value = |branch: &&AvroField| branch.avro_type != AvroType::Null;
                let branches: Vec<_> = branches.iter().filter(is_value).cloned().collect();
                Self::Struct(Column::of_fields(&branches, field)?)
            }
            AvroType::Union(_) => match avro_type.branches()[..] {
                [] => return Err(ShapeError::NullOnly { field: field.to_owned() }),
                [branch] => Self::of(branch, field)?,
                _ => Self::Json,
            },
        })
    }

    fn decimal(precision: usize, scale: usize) -> Self {
        match (u8::try_from(precision), u8::try_from(scale)) {
            (Ok(precision), Ok(scale))
                if usize::from(precision) <= MAX_DECIMAL_PRECISION && scale <= precision =>
            {
                Self::Decimal { precision, scale }
            }
            _ => Self::Varchar,
        }
    }

    fn duration() -> Self {
        let fields = ["months", "days", "millis"];
        Self::Struct(fields.map(|name| Column::new(name, Self::BigInt)).into())
    }

    /// Returns true if the column holds points in time, so that a table can be partitioned by it.
    #[must_use]
    pub fn is_timestamp(&self) -> bool {
        matches!(self, Self::Timestamp | Self::TimestampNs | Self::TimestampTz)
    }

    /// Returns the type one level down a path: a STRUCT's field, a list's `element`, a map's `value`.
    pub(super) fn child(&self, level: &str) -> Option<&Self> {
        match self {
            Self::Struct(fields) => {
                fields.iter().find(|field| field.is_named(level)).map(|field| &field.column_type)
            }
            Self::List(items) if level == "element" => Some(items),
            Self::Map(values) if level == "value" => Some(values),
            _ => None,
        }
    }

    /// Returns the type as SQL, spelled as in DuckDB's DESCRIBE.
    #[must_use]
    pub fn sql(&self) -> String {
        match self {
            Self::Boolean => "BOOLEAN".to_owned(),
            Self::Integer => "INTEGER".to_owned(),
            Self::BigInt => "BIGINT".to_owned(),
            Self::Double => "DOUBLE".to_owned(),
            Self::Varchar => "VARCHAR".to_owned(),
            Self::Blob => "BLOB".to_owned(),
            Self::Json => "JSON".to_owned(),
            Self::Uuid => "UUID".to_owned(),
            Self::Date => "DATE".to_owned(),
            Self::Time => "TIME".to_owned(),
            Self::Timestamp => "TIMESTAMP".to_owned(),
            Self::TimestampNs => "TIMESTAMP_NS".to_owned(),
            Self::TimestampTz => "TIMESTAMP WITH TIME ZONE".to_owned(),
            Self::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
            Self::List(items) => format!("{}[]", items.sql()),
            Self::Map(values) => format!("MAP(VARCHAR, {})", values.sql()),
            Self::Struct(fields) => {
                let fields = fields.iter().map(Column::sql).collect::<Vec<_>>();
                format!("STRUCT({})", fields.join(", "))
            }
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql())
    }
}

impl Column {
    /// Returns the column's definition in CREATE TABLE, its name quoted.
    #[must_use]
    pub fn sql(&self) -> String {
        format!("{} {}", quote_identifier(&self.name), self.column_type.sql())
    }
}
