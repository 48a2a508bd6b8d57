//! Decoding plan of each field of a record, compiled from its Avro type and its column.

use ducktide_protocol::table::{
    AvroField, AvroType, BytesEncoding, Column, ColumnType, TimeUnit, UuidEncoding,
};

use crate::json_plan::JsonPlan;

/// Decoding plan of one value.
///
/// Compiled from the writer's type and the type of the column, which [`ducktide_protocol::table::diff`]
/// has found compatible. Decoding matches on the plan and on the builder; no names are compared per
/// record.
#[derive(Debug)]
pub(super) enum ReadPlan {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    Bytes(BytesEncoding),
    /// Bytes into VARCHAR; they must be valid UTF-8.
    BytesAsText(BytesEncoding),
    /// The symbols.
    Enum(Box<[Box<str>]>),
    UuidText,
    Uuid(BytesEncoding),
    Decimal {
        encoding: BytesEncoding,
        precision: u8,
    },
    /// A decimal that is too wide for DECIMAL, into VARCHAR.
    DecimalText {
        encoding: BytesEncoding,
        precision: usize,
        scale: usize,
    },
    BigDecimalText,
    Date,
    TimeMillis,
    TimeMicros,
    /// To microseconds.
    Timestamp(TimeUnit),
    /// Nanoseconds, unchanged.
    TimestampNanos,
    Duration,
    Array {
        items: Box<ReadPlan>,
        widthless: bool,
    },
    Map {
        values: Box<ReadPlan>,
    },
    Record(RecordPlan),
    /// A union with at most one branch that is not null.
    Optional {
        null_branches: Box<[bool]>,
        value: Box<ReadPlan>,
    },
    /// A union of several branches, each with a field of the STRUCT; None is the null branch.
    Variants(Box<[Option<(usize, ReadPlan)>]>),
    /// Any type, as JSON text. If the column's type is a union, its null branch is NULL.
    Json {
        null_branch: Option<usize>,
        value: JsonPlan,
    },
}

/// The fields of a record in the writer's order, each with the index of its column.
#[derive(Debug, Default)]
pub(super) struct RecordPlan {
    pub(super) fields: Vec<(usize, ReadPlan)>,
    /// Columns without a field in the writer's schema: NULL.
    pub(super) absent: Vec<usize>,
}

impl RecordPlan {
    /// Matches fields and columns by name.
    ///
    /// # Panics
    /// If a field has no column; `diff` must have excluded that.
    pub(super) fn compile(fields: &[AvroField], columns: &[&Column]) -> Self {
        let compiled = fields.iter().map(|field| {
            let index = columns.iter().position(|column| column.is_named(&field.name));
            let index = index.expect("a table without the field's column does not fit");
            (index, ReadPlan::compile(&field.avro_type, &columns[index].column_type))
        });
        let fields = compiled.collect::<Vec<_>>();
        let is_absent = |index: &usize| fields.iter().all(|(taken, _)| taken != index);
        Self { absent: (0..columns.len()).filter(is_absent).collect(), fields }
    }
}

impl ReadPlan {
    pub(super) fn compile(avro_type: &AvroType, column: &ColumnType) -> Self {
        if *column == ColumnType::Json {
            return Self::json(avro_type);
        }
        match avro_type {
            AvroType::Boolean => Self::Boolean,
            AvroType::Int => Self::Int,
            AvroType::Long => Self::Long,
            AvroType::Float => Self::Float,
            AvroType::Double => Self::Double,
            AvroType::String => Self::Text,
            AvroType::Bytes => Self::bytes(BytesEncoding::Length, column),
            AvroType::Fixed(size) => Self::bytes(BytesEncoding::Fixed(*size), column),
            AvroType::Enum(symbols) => {
                Self::Enum(symbols.iter().map(|symbol| symbol.as_str().into()).collect())
            }
            AvroType::Uuid(UuidEncoding::Text) => Self::UuidText,
            AvroType::Uuid(UuidEncoding::Bytes(encoding)) => Self::Uuid(*encoding),
            AvroType::Decimal { encoding, precision, scale } => {
                Self::decimal(*encoding, *precision, *scale, column)
            }
            AvroType::BigDecimal => Self::BigDecimalText,
            AvroType::Date => Self::Date,
            AvroType::TimeMillis => Self::TimeMillis,
            AvroType::TimeMicros => Self::TimeMicros,
            AvroType::Timestamp(TimeUnit::Nanos) | AvroType::LocalTimestamp(TimeUnit::Nanos) => {
                Self::TimestampNanos
            }
            AvroType::Timestamp(unit) | AvroType::LocalTimestamp(unit) => Self::Timestamp(*unit),
            AvroType::Duration => Self::Duration,
            AvroType::Array(items) => Self::array(items, column),
            AvroType::Map(values) => {
                let ColumnType::Map(column) = column else { incompatible() };
                Self::Map { values: Box::new(Self::compile(values, column)) }
            }
            AvroType::Record(fields) => {
                let ColumnType::Struct(columns) = column else { incompatible() };
                Self::Record(RecordPlan::compile(fields, &columns.iter().collect::<Vec<_>>()))
            }
            AvroType::Variants(branches) => Self::variants(branches, column),
            AvroType::Union(branches) => Self::optional(avro_type, branches, column),
            AvroType::Null => incompatible(),
        }
    }

    fn json(avro_type: &AvroType) -> Self {
        let null_branch = match avro_type {
            AvroType::Union(branches) => branches.iter().position(|b| *b == AvroType::Null),
            AvroType::Variants(branches) => {
                branches.iter().position(|branch| branch.avro_type == AvroType::Null)
            }
            _ => None,
        };
        Self::Json { null_branch, value: JsonPlan::compile(avro_type) }
    }

    fn bytes(encoding: BytesEncoding, column: &ColumnType) -> Self {
        match column {
            ColumnType::Varchar => Self::BytesAsText(encoding),
            _ => Self::Bytes(encoding),
        }
    }

    fn decimal(
        encoding: BytesEncoding,
        precision: usize,
        scale: usize,
        column: &ColumnType,
    ) -> Self {
        match (column, u8::try_from(precision)) {
            (ColumnType::Decimal { .. }, Ok(precision)) => Self::Decimal { encoding, precision },
            _ => Self::DecimalText { encoding, precision, scale },
        }
    }

    fn array(items: &AvroType, column: &ColumnType) -> Self {
        let ColumnType::List(column) = column else { incompatible() };
        let widthless = items.is_zero_width();
        Self::Array { items: Box::new(Self::compile(items, column)), widthless }
    }

    fn variants(branches: &[AvroField], column: &ColumnType) -> Self {
        let ColumnType::Struct(columns) = column else { incompatible() };
        let branches = branches.iter().map(|branch| {
            if branch.avro_type == AvroType::Null {
                return None;
            }
            let index = columns.iter().position(|column| column.is_named(&branch.name));
            let index = index.expect("a table without the branch's field does not fit");
            Some((index, Self::compile(&branch.avro_type, &columns[index].column_type)))
        });
        Self::Variants(branches.collect())
    }

    fn optional(union: &AvroType, branches: &[AvroType], column: &ColumnType) -> Self {
        let [branch] = union.branches()[..] else { incompatible() };
        Self::Optional {
            null_branches: branches.iter().map(|branch| *branch == AvroType::Null).collect(),
            value: Box::new(Self::compile(branch, column)),
        }
    }
}

fn incompatible() -> ! {
    unreachable!("a table whose column has another type does not fit")
}
