//! An Avro schema with every name resolved: a finite tree.

use apache_avro::{
    Schema,
    schema::{
        DecimalSchema, InnerDecimalSchema, Name, NamesRef, RecordSchema, ResolvedSchema, UuidSchema,
    },
};

use super::ShapeError;

/// How deep types may nest: bounds the stack of everything that walks a schema or a record.
const MAX_DEPTH: usize = 64;

/// How many types a schema may unfold into. A named type counts at every use: a chain of records,
/// each using the next one twice, would otherwise unfold into 2ⁿ columns.
const MAX_TYPES: usize = 10_000;

/// One Avro type as it is on the wire, with its logical type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AvroType {
    /// Nothing, in no bytes.
    Null,
    /// One byte, 0 or 1.
    Boolean,
    /// A zigzag varint of at most 32 bits.
    Int,
    /// A zigzag varint of at most 64 bits.
    Long,
    /// Four bytes, little-endian.
    Float,
    /// Eight bytes, little-endian.
    Double,
    /// A length and bytes.
    Bytes,
    /// A length and UTF-8.
    String,
    /// This many bytes.
    Fixed(usize),
    /// An index into the symbols.
    Enum(Vec<String>),
    /// Blocks of items.
    Array(Box<AvroType>),
    /// Blocks of string keys and values.
    Map(Box<AvroType>),
    /// Fields, one after the other.
    Record(Vec<AvroField>),
    /// A branch's index and its value.
    Union(Vec<AvroType>),
    /// The same, of several branches that are not null, each of which is to have a field of its own; see
    /// [`UnionAs::Struct`]. They are called as their types are in Avro.
    Variants(Vec<AvroField>),
    /// A big-endian two's complement number, to be divided by 10^`scale`.
    Decimal {
        /// How its bytes are delimited.
        encoding: BytesEncoding,
        /// How many digits it has at most.
        precision: usize,
        /// How many of them are behind the point.
        scale: usize,
    },
    /// Bytes that hold the unscaled value's bytes and the scale.
    BigDecimal,
    /// A UUID.
    Uuid(UuidEncoding),
    /// Days since 1970-01-01, an int.
    Date,
    /// Milliseconds since midnight, an int.
    TimeMillis,
    /// Microseconds since midnight, a long.
    TimeMicros,
    /// An instant: a long since 1970-01-01 UTC.
    Timestamp(TimeUnit),
    /// A date and a time of day in no particular zone: a long since 1970-01-01.
    LocalTimestamp(TimeUnit),
    /// Months, days and milliseconds: three unsigned little-endian 32-bit numbers.
    Duration,
}

/// The column of values that are no records.
pub const VALUE: &str = "value";

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvroField {
    /// The field's name.
    pub name: String,
    /// Names that the field had before, by the schema's word.
    pub aliases: Vec<String>,
    /// What it holds.
    pub avro_type: AvroType,
}

impl AvroField {
    /// A field that never had another name.
    #[must_use]
    pub fn new(name: &str, avro_type: AvroType) -> Self {
        Self { name: name.to_owned(), aliases: Vec::new(), avro_type }
    }
}

/// What a union becomes that has several branches beside null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UnionAs {
    /// JSON: the plain value.
    #[default]
    Json,
    /// A STRUCT with a field for each branch, called as its type is, all but one of them NULL.
    Struct,
}

/// How a value made of bytes is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesEncoding {
    /// By a length in front.
    Length,
    /// By this size, known from the schema.
    Fixed(usize),
}

/// How a UUID is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UuidEncoding {
    /// As a string.
    Text,
    /// As 16 bytes.
    Bytes(BytesEncoding),
}

/// The unit of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl AvroType {
    /// Resolves a parsed schema; recursive ones are refused, as no column type could hold them.
    pub fn resolve(schema: &Schema, union_as: UnionAs) -> Result<Self, ShapeError> {
        let resolved = ResolvedSchema::new(schema)
            .map_err(|error| ShapeError::UnresolvedName { name: error.to_string() })?;
        let names = resolved.get_names();
        let mut walk = Walk { names, union_as, open: Vec::new(), types: 0 };
        walk.resolve(schema, None, 0)
    }

    /// The fields of a topic's record. A value of any other type is as the one field [`VALUE`] of a
    /// record, which Avro writes in the same bytes.
    pub fn record_fields(schema: &Schema, union_as: UnionAs) -> Result<Vec<AvroField>, ShapeError> {
        match Self::resolve(schema, union_as)? {
            Self::Record(fields) => Ok(fields),
            avro_type => Ok(vec![AvroField::new(VALUE, avro_type)]),
        }
    }

    /// Whether a value takes no bytes at all, so that a count of such values bounds nothing.
    #[must_use]
    pub fn is_zero_width(&self) -> bool {
        match self {
            Self::Null | Self::Fixed(0) => true,
            Self::Record(fields) => fields.iter().all(|field| field.avro_type.is_zero_width()),
            _ => false,
        }
    }

    /// The branches of a union that are not null; the type itself if it is no union.
    #[must_use]
    pub fn branches(&self) -> Vec<&Self> {
        match self {
            Self::Union(branches) => {
                branches.iter().filter(|branch| **branch != Self::Null).collect()
            }
            other => vec![other],
        }
    }
}

struct Walk<'a> {
    names: &'a NamesRef<'a>,
    union_as: UnionAs,
    /// Full names of the types that the walk is inside of.
    open: Vec<String>,
    /// How many types the walk has met.
    types: usize,
}

impl Walk<'_> {
    fn resolve(
        &mut self,
        schema: &Schema,
        namespace: Option<&str>,
        depth: usize,
    ) -> Result<AvroType, ShapeError> {
        self.types += 1;
        if self.types > MAX_TYPES || depth > MAX_DEPTH {
            return Err(ShapeError::TooLarge { max_types: MAX_TYPES, max_depth: MAX_DEPTH });
        }
        Ok(match schema {
            Schema::Array(array) => {
                AvroType::Array(Box::new(self.resolve(&array.items, namespace, depth + 1)?))
            }
            Schema::Map(map) => {
                AvroType::Map(Box::new(self.resolve(&map.types, namespace, depth + 1)?))
            }
            Schema::Union(union) => {
                let branches = union.variants().iter();
                let branches = branches.map(|branch| self.resolve(branch, namespace, depth + 1));
                let types = branches.collect::<Result<_, _>>()?;
                self.union(union.variants(), types)
            }
            Schema::Record(record) => self.record(record, namespace, depth)?,
            Schema::Ref { name } => self.reference(name, namespace, depth)?,
            other => leaf(other),
        })
    }

    fn union(&self, schemas: &[Schema], types: Vec<AvroType>) -> AvroType {
        let union = AvroType::Union(types);
        if self.union_as == UnionAs::Json || union.branches().len() < 2 {
            return union;
        }
        let AvroType::Union(types) = union else { unreachable!("it was just made") };
        let names = schemas.iter().map(branch_name);
        let fields = names.zip(types).map(|(name, avro_type)| AvroField::new(&name, avro_type));
        AvroType::Variants(fields.collect())
    }

    fn record(
        &mut self,
        record: &RecordSchema,
        namespace: Option<&str>,
        depth: usize,
    ) -> Result<AvroType, ShapeError> {
        let name = record.name.fully_qualified_name(namespace).into_owned();
        let full_name = name.fullname(None);
        if self.open.contains(&full_name) {
            return Err(ShapeError::Recursive { name: full_name });
        }
        self.open.push(full_name);
        let fields = record.fields.iter().map(|field| {
            let avro_type = self.resolve(&field.schema, name.namespace(), depth + 1)?;
            let (name, aliases) = (field.name.clone(), field.aliases.clone());
            Ok(AvroField { name, aliases, avro_type })
        });
        let fields = fields.collect::<Result<_, _>>()?;
        self.open.pop();
        Ok(AvroType::Record(fields))
    }

    fn reference(
        &mut self,
        name: &Name,
        namespace: Option<&str>,
        depth: usize,
    ) -> Result<AvroType, ShapeError> {
        let name = name.fully_qualified_name(namespace).into_owned();
        let Some(schema) = self.names.get(&name).copied() else {
            return Err(ShapeError::UnresolvedName { name: name.fullname(None) });
        };
        self.resolve(schema, name.namespace(), depth + 1)
    }
}

/// What Avro calls a branch's type: the name of a record, enum or fixed, or else the type's own, whatever
/// its logical type.
fn branch_name(schema: &Schema) -> String {
    let name = match schema {
        Schema::Null => "null",
        Schema::Boolean => "boolean",
        Schema::Int | Schema::Date | Schema::TimeMillis => "int",
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => "long",
        Schema::Float => "float",
        Schema::Double => "double",
        Schema::Bytes
        | Schema::BigDecimal
        | Schema::Uuid(UuidSchema::Bytes)
        | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. }) => "bytes",
        Schema::String | Schema::Uuid(UuidSchema::String) => "string",
        Schema::Array(_) => "array",
        Schema::Map(_) => "map",
        Schema::Union(_) => unreachable!("Avro has no union in a union"),
        Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. })
        | Schema::Uuid(UuidSchema::Fixed(fixed))
        | Schema::Duration(fixed)
        | Schema::Fixed(fixed) => fixed.name.name(),
        Schema::Enum(symbols) => symbols.name.name(),
        Schema::Record(record) => record.name.name(),
        Schema::Ref { name } => name.name(),
    };
    name.to_owned()
}

/// Types that hold no others.
fn leaf(schema: &Schema) -> AvroType {
    match schema {
        Schema::Null => AvroType::Null,
        Schema::Boolean => AvroType::Boolean,
        Schema::Int => AvroType::Int,
        Schema::Long => AvroType::Long,
        Schema::Float => AvroType::Float,
        Schema::Double => AvroType::Double,
        Schema::Bytes => AvroType::Bytes,
        Schema::String => AvroType::String,
        Schema::Fixed(fixed) => AvroType::Fixed(fixed.size),
        Schema::Enum(symbols) => AvroType::Enum(symbols.symbols.clone()),
        Schema::Decimal(decimal) => self::decimal(decimal),
        Schema::BigDecimal => AvroType::BigDecimal,
        Schema::Uuid(uuid) => AvroType::Uuid(match uuid {
            UuidSchema::String => UuidEncoding::Text,
            UuidSchema::Bytes => UuidEncoding::Bytes(BytesEncoding::Length),
            UuidSchema::Fixed(fixed) => UuidEncoding::Bytes(BytesEncoding::Fixed(fixed.size)),
        }),
        Schema::Date => AvroType::Date,
        Schema::TimeMillis => AvroType::TimeMillis,
        Schema::TimeMicros => AvroType::TimeMicros,
        Schema::TimestampMillis => AvroType::Timestamp(TimeUnit::Millis),
        Schema::TimestampMicros => AvroType::Timestamp(TimeUnit::Micros),
        Schema::TimestampNanos => AvroType::Timestamp(TimeUnit::Nanos),
        Schema::LocalTimestampMillis => AvroType::LocalTimestamp(TimeUnit::Millis),
        Schema::LocalTimestampMicros => AvroType::LocalTimestamp(TimeUnit::Micros),
        Schema::LocalTimestampNanos => AvroType::LocalTimestamp(TimeUnit::Nanos),
        Schema::Duration(_) => AvroType::Duration,
        Schema::Array(_)
        | Schema::Map(_)
        | Schema::Union(_)
        | Schema::Record(_)
        | Schema::Ref { .. } => unreachable!("types that hold others are resolved before"),
    }
}

fn decimal(decimal: &DecimalSchema) -> AvroType {
    let encoding = match &decimal.inner {
        InnerDecimalSchema::Bytes => BytesEncoding::Length,
        InnerDecimalSchema::Fixed(fixed) => BytesEncoding::Fixed(fixed.size),
    };
    AvroType::Decimal { encoding, precision: decimal.precision, scale: decimal.scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(schema: &str) -> Result<AvroType, ShapeError> {
        AvroType::resolve(&Schema::parse_str(schema).unwrap(), UnionAs::Struct)
    }

    #[test]
    fn a_named_type_is_unfolded_at_every_use_in_its_own_namespace() {
        let resolved = resolve(
            r#"{"type": "record", "name": "a.R", "fields": [
                {"name": "x", "type": {"type": "fixed", "name": "F", "size": 3}},
                {"name": "y", "type": "F"},
                {"name": "z", "type": {"type": "record", "name": "b.S", "fields": [
                    {"name": "f", "type": "a.F"}]}}]}"#,
        )
        .unwrap();

        let field = |name: &str, avro_type| AvroField {
            name: name.to_owned(),
            aliases: Vec::new(),
            avro_type,
        };
        let inner = AvroType::Record(vec![field("f", AvroType::Fixed(3))]);
        let fixed = |name| field(name, AvroType::Fixed(3));
        assert_eq!(resolved, AvroType::Record(vec![fixed("x"), fixed("y"), field("z", inner)]));
    }

    #[test]
    fn branches_are_called_as_their_types_are() {
        let resolved = resolve(
            r#"["null", {"type": "long", "logicalType": "timestamp-millis"}, "string",
                {"type": "record", "name": "a.R", "fields": [{"name": "x", "type": "int"}]},
                {"type": "array", "items": ["null", "int"]}]"#,
        )
        .unwrap();

        let AvroType::Variants(fields) = resolved else { panic!("{resolved:?}") };
        let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["null", "long", "string", "R", "array"]);
        let items = AvroType::Union(vec![AvroType::Null, AvroType::Int]);
        assert_eq!(fields[4].avro_type, AvroType::Array(Box::new(items)));
    }

    #[test]
    fn a_recursive_type_is_refused_by_name() {
        let error = resolve(
            r#"{"type": "record", "name": "n.Node", "fields": [
                {"name": "next", "type": ["null", "Node"]}]}"#,
        )
        .unwrap_err();

        assert_eq!(error, ShapeError::Recursive { name: "n.Node".to_owned() });
    }

    #[test]
    fn a_schema_that_doubles_at_every_level_is_refused_in_time() {
        let mut schema = r#"{"type": "record", "name": "R0", "fields": [
            {"name": "x", "type": "int"}]}"#
            .to_owned();
        for level in 1..30 {
            schema = format!(
                r#"{{"type": "record", "name": "R{level}", "fields": [
                    {{"name": "a", "type": {schema}}}, {{"name": "b", "type": "R{}"}}]}}"#,
                level - 1
            );
        }

        assert!(matches!(resolve(&schema), Err(ShapeError::TooLarge { .. })));
    }
}
