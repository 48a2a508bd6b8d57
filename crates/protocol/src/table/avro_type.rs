//! Avro schema with every name resolved: a finite tree.

use super::ShapeError;
use super::avro_schema::{AvroSchema, Defined, FieldNode, Node};

/// Maximum nesting of types, which bounds the stack of everything that walks a schema or a record.
const MAX_DEPTH: usize = 64;

/// Maximum number of types in a schema. A named type counts at every use: a chain of records, each using
/// the next one twice, would otherwise become 2ⁿ columns.
const MAX_TYPES: usize = 10_000;

/// Avro type as it is encoded, with its logical type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AvroType {
    /// Null, zero bytes.
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
    /// Union of several branches that are not null, each of which becomes a field; see
    /// [`UnionAs::Struct`]. A branch has the name of its type in Avro.
    Variants(Vec<AvroField>),
    /// A big-endian two's complement number, divided by 10^`scale`.
    Decimal {
        /// Encoding of its bytes.
        encoding: BytesEncoding,
        /// Maximum number of digits.
        precision: usize,
        /// Number of digits after the decimal point.
        scale: usize,
    },
    /// Bytes with the unscaled value's bytes and the scale.
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

/// Column of values that are not records.
pub const VALUE: &str = "value";

/// Field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvroField {
    /// Name of the field.
    pub name: String,
    /// Former names of the field, according to the schema.
    pub aliases: Vec<String>,
    /// Type of the field.
    pub avro_type: AvroType,
}

impl AvroField {
    /// Creates a field without aliases.
    #[must_use]
    pub fn new(name: &str, avro_type: AvroType) -> Self {
        Self { name: name.to_owned(), aliases: Vec::new(), avro_type }
    }
}

/// Column type of a union with several branches that are not null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UnionAs {
    /// JSON: the plain value.
    #[default]
    Json,
    /// A STRUCT with a field for each branch, called as its type is, all but one of them NULL.
    Struct,
}

/// Encoding of a value that consists of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesEncoding {
    /// Length before the bytes.
    Length,
    /// Fixed size from the schema.
    Fixed(usize),
}

/// Encoding of a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UuidEncoding {
    /// String.
    Text,
    /// 16 bytes.
    Bytes(BytesEncoding),
}

/// Unit of a timestamp.
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
    /// Resolves a parsed schema; fails for a recursive one, which has no column type.
    pub fn resolve(schema: &AvroSchema, union_as: UnionAs) -> Result<Self, ShapeError> {
        let mut walk = Walk { schema, union_as, open: Vec::new(), path: Vec::new(), types: 0 };
        walk.resolve(&schema.root, 0)
    }

    /// Resolves the fields of a topic's record. A value of any other type is treated as a record with the
    /// only field [`VALUE`], which Avro encodes in the same bytes.
    pub fn record_fields(
        schema: &AvroSchema,
        union_as: UnionAs,
    ) -> Result<Vec<AvroField>, ShapeError> {
        match Self::resolve(schema, union_as)? {
            Self::Record(fields) => Ok(fields),
            avro_type => Ok(vec![AvroField::new(VALUE, avro_type)]),
        }
    }

    /// Returns true if a value takes no bytes, so that the size of a record does not limit their number.
    #[must_use]
    pub fn is_zero_width(&self) -> bool {
        match self {
            Self::Null | Self::Fixed(0) => true,
            Self::Record(fields) => fields.iter().all(|field| field.avro_type.is_zero_width()),
            _ => false,
        }
    }

    /// Returns the branches of a union that are not null; the type itself if it is not a union.
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
    schema: &'a AvroSchema,
    union_as: UnionAs,
    /// Definitions on the path to the current type.
    open: Vec<usize>,
    /// Fields on the path to the current type.
    path: Vec<String>,
    /// Number of types so far.
    types: usize,
}

impl Walk<'_> {
    fn resolve(&mut self, node: &Node, depth: usize) -> Result<AvroType, ShapeError> {
        self.types += 1;
        if self.types > MAX_TYPES || depth > MAX_DEPTH {
            return Err(ShapeError::TooLarge { max_types: MAX_TYPES, max_depth: MAX_DEPTH });
        }
        Ok(match node {
            Node::Leaf { avro_type, .. } => avro_type.clone(),
            Node::Array(items) => AvroType::Array(Box::new(self.resolve(items, depth + 1)?)),
            Node::Map(values) => AvroType::Map(Box::new(self.resolve(values, depth + 1)?)),
            Node::Union(branches) => self.union(branches, depth)?,
            Node::Defined(index) => self.defined(*index, depth)?,
            Node::Named(used) => {
                let found = self.schema.find(used).expect("the parser has resolved all names");
                self.resolve(&found, depth + 1)?
            }
        })
    }

    fn union(&mut self, nodes: &[Node], depth: usize) -> Result<AvroType, ShapeError> {
        let types = nodes.iter().map(|branch| self.resolve(branch, depth + 1));
        let union = AvroType::Union(types.collect::<Result<_, _>>()?);
        if self.union_as == UnionAs::Json || union.branches().len() < 2 {
            return Ok(union);
        }
        let AvroType::Union(types) = union else { unreachable!("it was created above") };
        let names = nodes.iter().map(|node| self.branch_name(node)).collect::<Vec<_>>();
        for (at, (name, full_name)) in names.iter().enumerate() {
            let twin = names[..at].iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
            if let Some((_, first)) = twin {
                let (first, second) = (first.clone(), full_name.clone());
                return Err(ShapeError::AmbiguousBranches {
                    field: self.path.join("."),
                    first,
                    second,
                });
            }
        }
        let fields = names.into_iter().zip(types);
        let fields = fields.map(|((name, _), avro_type)| AvroField::new(&name, avro_type));
        Ok(AvroType::Variants(fields.collect()))
    }

    fn defined(&mut self, index: usize, depth: usize) -> Result<AvroType, ShapeError> {
        let definition = &self.schema.definitions[index];
        let fields = match &definition.of {
            Defined::Leaf(avro_type) => return Ok(avro_type.clone()),
            Defined::Record(fields) => fields,
        };
        if self.open.contains(&index) {
            return Err(ShapeError::Recursive { name: definition.name.to_string() });
        }
        self.open.push(index);
        let fields =
            fields.iter().map(|field| self.field(field, depth)).collect::<Result<_, _>>()?;
        self.open.pop();
        Ok(AvroType::Record(fields))
    }

    fn field(&mut self, field: &FieldNode, depth: usize) -> Result<AvroField, ShapeError> {
        self.path.push(field.name.clone());
        let avro_type = self.resolve(&field.node, depth + 1)?;
        self.path.pop();
        Ok(AvroField { name: field.name.clone(), aliases: field.aliases.clone(), avro_type })
    }

    /// Returns Avro's name of a branch, short and full: the name of a record, enum or fixed, or else that of
    /// the type without its logical type.
    fn branch_name(&self, node: &Node) -> (String, String) {
        let own = |name: &str| (name.to_owned(), name.to_owned());
        match node {
            Node::Leaf { branch, .. } => own(branch),
            Node::Array(_) => own("array"),
            Node::Map(_) => own("map"),
            Node::Union(_) => own("union"),
            Node::Defined(index) => {
                let name = &self.schema.definitions[*index].name;
                (name.short.clone(), name.to_string())
            }
            Node::Named(used) => match self.schema.find(used) {
                Some(Node::Named(_)) | None => own("union"),
                Some(found) => self.branch_name(&found),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(schema: &str) -> Result<AvroType, ShapeError> {
        AvroType::resolve(&AvroSchema::parse(schema).unwrap(), UnionAs::Struct)
    }

    #[test]
    fn a_named_type_is_resolved_at_every_use_in_its_own_namespace() {
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
    fn branches_have_the_names_of_their_types() {
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
    fn branches_of_one_short_name_are_refused_with_their_full_names() {
        let union = r#"[{"type": "record", "name": "a.R", "fields": [{"name": "x", "type": "int"}]},
            {"type": "record", "name": "b.r", "fields": [{"name": "x", "type": "int"}]}]"#;
        let schema = format!(
            r#"{{"type": "record", "name": "S", "fields": [{{"name": "u", "type": {union}}}]}}"#
        );

        let error = resolve(&schema).unwrap_err();

        let [field, first, second] = ["u", "a.R", "b.r"].map(str::to_owned);
        assert_eq!(error, ShapeError::AmbiguousBranches { field, first, second });
        let schema = AvroSchema::parse(&schema).unwrap();
        assert!(AvroType::resolve(&schema, UnionAs::Json).is_ok());
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
