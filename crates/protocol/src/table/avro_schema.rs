//! Avro schemas as a reader needs them.
//!
//! Producers write with schemas that Avro's Java library accepts. Whatever does not change the bytes is
//! ignored: names of any letters, namespaces that are not identifiers, defaults that do not fit their
//! types, symbols or definitions that occur twice.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::schema_text::Json;
use super::{AvroType, BytesEncoding, TimeUnit, UuidEncoding};

/// Parsed schema. All names in it resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvroSchema {
    pub(super) root: Node,
    pub(super) definitions: Vec<Definition>,
    /// Documents; the schema's own is the first.
    documents: Vec<Document>,
}

/// Text of a schema that another one refers to.
#[derive(Clone, Debug)]
pub struct ReferencedSchema {
    /// Name by which others refer to it.
    pub name: String,
    /// JSON text.
    pub text: String,
    /// Names by which it refers to others.
    pub references: Vec<String>,
}

/// Text that is not an Avro schema.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what}")]
pub struct InvalidSchema {
    what: String,
}

/// Type as it is written: names are resolved later, since they may be defined further down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Type without other types and without a name; `branch` is its name in unions.
    Leaf {
        branch: &'static str,
        avro_type: AvroType,
    },
    Array(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
    /// Index of a definition.
    Defined(usize),
    Named(NameUse),
}

/// Use of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameUse {
    name: String,
    namespace: Option<String>,
    document: usize,
}

/// Definition of a record, enum or fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) name: FullName,
    pub(super) of: Defined,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Defined {
    Record(Vec<FieldNode>),
    /// Enum or fixed.
    Leaf(AvroType),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldNode {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) node: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FullName {
    pub(super) namespace: Option<String>,
    pub(super) short: String,
}

/// JSON text of a schema, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Document {
    /// Name by which other documents refer to it.
    name: String,
    references: Vec<String>,
    root: Node,
    /// Definitions by full name.
    names: HashMap<String, usize>,
}

impl AvroSchema {
    /// Parses a schema that defines everything that it uses.
    pub fn parse(text: &str) -> Result<Self, InvalidSchema> {
        Self::parse_with_references(text, Vec::new(), Vec::new())
    }

    /// Parses a schema that refers to others by these names.
    ///
    /// Each name has one schema: if two schemas refer to different versions by one name, the caller passes
    /// the first in depth-first order, as Confluent's Java library does, so that producers write with the
    /// same one. A name is looked up in its own text, then in the texts that this one refers to.
    pub fn parse_with_references(
        text: &str,
        references: Vec<String>,
        others: Vec<ReferencedSchema>,
    ) -> Result<Self, InvalidSchema> {
        let own = ReferencedSchema { name: String::new(), text: text.to_owned(), references };
        let mut parser = Parser::default();
        let mut documents = Vec::with_capacity(others.len() + 1);
        for (index, other) in std::iter::once(own).chain(others).enumerate() {
            let document = parser.document(index, other)?;
            documents.push(document);
        }
        let root = documents[0].root.clone();
        let schema = Self { root, definitions: parser.definitions, documents };
        match parser.uses.iter().find(|name| schema.find(name).is_none()) {
            None => Ok(schema),
            Some(name) => Err(InvalidSchema::new(format!(
                "schema refers to a type that is not defined: name=`{}`",
                name.full_name()
            ))),
        }
    }

    /// Adds a field of any JSON value to the schema's record; None if the schema is not a record.
    #[must_use]
    pub fn with_json_field(mut self, name: &str) -> Option<Self> {
        let Node::Defined(index) = self.root else { return None };
        let Defined::Record(fields) = &mut self.definitions[index].of else { return None };
        let branches = ["null", "string", "boolean"];
        let node = Node::Union(branches.into_iter().filter_map(primitive).collect());
        fields.push(FieldNode { name: name.to_owned(), aliases: Vec::new(), node });
        Some(self)
    }

    /// Resolves a use of a name.
    pub(super) fn find(&self, used: &NameUse) -> Option<Node> {
        let documents = self.nearest_first(used.document);
        let full_names = [used.full_name(), used.name.clone()];
        let defined = full_names.iter().find_map(|name| {
            documents.iter().find_map(|index| self.documents[*index].names.get(name))
        });
        match defined {
            Some(definition) => Some(Node::Defined(*definition)),
            // Reference to a text that defines no type of that name, such as a union.
            None => full_names
                .iter()
                .find_map(|name| self.referenced(name))
                .map(|index| self.documents[index].root.clone()),
        }
    }

    /// Returns all documents: the given one, then those that it refers to, then the others, since Java's
    /// library resolves the names of all documents everywhere.
    fn nearest_first(&self, document: usize) -> Vec<usize> {
        let mut order = vec![document];
        let mut next = 0;
        while let Some(index) = order.get(next).copied() {
            for name in &self.documents[index].references {
                let found = self.referenced(name).filter(|index| !order.contains(index));
                order.extend(found);
            }
            next += 1;
        }
        let others = (0..self.documents.len()).filter(|index| !order.contains(index));
        let others = others.collect::<Vec<_>>();
        order.extend(others);
        order
    }

    fn referenced(&self, name: &str) -> Option<usize> {
        self.documents.iter().skip(1).position(|document| document.name == name).map(|at| at + 1)
    }
}

impl FromStr for AvroSchema {
    type Err = InvalidSchema;

    fn from_str(text: &str) -> Result<Self, InvalidSchema> {
        Self::parse(text)
    }
}

impl InvalidSchema {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

impl NameUse {
    fn full_name(&self) -> String {
        FullName::new(&self.name, self.namespace.as_deref()).to_string()
    }
}

impl FullName {
    /// Splits the namespace off a name with dots; an empty namespace is None.
    fn new(name: &str, namespace: Option<&str>) -> Self {
        let (namespace, short) = match name.rsplit_once('.') {
            Some((namespace, short)) => (Some(namespace), short),
            None => (namespace, name),
        };
        let namespace = namespace.filter(|namespace| !namespace.is_empty()).map(str::to_owned);
        Self { namespace, short: short.to_owned() }
    }
}

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}.{}", self.short),
            None => f.write_str(&self.short),
        }
    }
}

/// Collector of the definitions of all documents.
#[derive(Default)]
struct Parser {
    definitions: Vec<Definition>,
    uses: Vec<NameUse>,
    /// Definitions of the current document, by full name.
    names: HashMap<String, usize>,
    aliases: Vec<(String, usize)>,
    document: usize,
}

type Object = BTreeMap<String, Json>;

impl Parser {
    fn document(
        &mut self,
        index: usize,
        text: ReferencedSchema,
    ) -> Result<Document, InvalidSchema> {
        let json = Json::read(&text.text)
            .map_err(|error| InvalidSchema::new(format!("schema is not JSON: {error}")))?;
        self.document = index;
        let root = self.node(&json, None)?;
        let mut names = std::mem::take(&mut self.names);
        for (alias, definition) in self.aliases.drain(..) {
            names.entry(alias).or_insert(definition);
        }
        Ok(Document { name: text.name, references: text.references, root, names })
    }

    fn node(&mut self, json: &Json, namespace: Option<&str>) -> Result<Node, InvalidSchema> {
        match json {
            Json::Text(name) => Ok(self.named(name, namespace)),
            Json::List(branches) => {
                let branches = branches.iter().map(|branch| self.node(branch, namespace));
                Ok(Node::Union(branches.collect::<Result<_, _>>()?))
            }
            Json::Object(object) => self.object(object, namespace),
            Json::Number(_) | Json::Other => {
                Err(InvalidSchema::new("schema has a type that is not a text, list or object"))
            }
        }
    }

    fn named(&mut self, name: &str, namespace: Option<&str>) -> Node {
        primitive(name).unwrap_or_else(|| {
            let used = NameUse {
                name: name.to_owned(),
                namespace: namespace.map(str::to_owned),
                document: self.document,
            };
            self.uses.push(used.clone());
            Node::Named(used)
        })
    }

    fn object(&mut self, object: &Object, namespace: Option<&str>) -> Result<Node, InvalidSchema> {
        let of = object.get("type").ok_or_else(|| InvalidSchema::new("schema has no `type`"))?;
        let required = |key: &str| {
            let missing = || InvalidSchema::new(format!("schema lacks a key: key=`{key}`"));
            object.get(key).ok_or_else(missing)
        };
        match of.text() {
            // An error is a record of Avro's remote procedure calls.
            Some("record" | "error") => self.record(object, namespace),
            Some("enum") => {
                let symbols = required("symbols")?.list().unwrap_or_default().iter();
                let symbols = symbols.filter_map(Json::text).map(str::to_owned).collect();
                Ok(self.define(object, namespace, Defined::Leaf(AvroType::Enum(symbols))))
            }
            Some("fixed") => {
                let size = required("size")?.number();
                let size =
                    size.ok_or_else(|| InvalidSchema::new("size of a fixed is not a number"))?;
                let avro_type = logical_fixed(object, size);
                Ok(self.define(object, namespace, Defined::Leaf(avro_type)))
            }
            Some("array") => Ok(Node::Array(Box::new(self.node(required("items")?, namespace)?))),
            Some("map") => Ok(Node::Map(Box::new(self.node(required("values")?, namespace)?))),
            _ => {
                let node = self.node(of, namespace)?;
                Ok(self.with_logical_type(object, of, node))
            }
        }
    }

    /// Applies the logical type of an object to the type inside, as in `{"type": {"type": "int"},
    /// "logicalType": "date"}`.
    fn with_logical_type(&mut self, object: &Object, of: &Json, node: Node) -> Node {
        match node {
            Node::Leaf { branch, avro_type } => {
                Node::Leaf { branch, avro_type: logical(object, avro_type) }
            }
            Node::Defined(index) if matches!(of, Json::Object(_)) => {
                let Definition { name, of: Defined::Leaf(AvroType::Fixed(size)) } =
                    &self.definitions[index]
                else {
                    return node;
                };
                // Its name stays the fixed without the logical type.
                let of = Defined::Leaf(logical_fixed(object, *size));
                self.definitions.push(Definition { name: name.clone(), of });
                Node::Defined(self.definitions.len() - 1)
            }
            node => node,
        }
    }

    fn record(&mut self, object: &Object, namespace: Option<&str>) -> Result<Node, InvalidSchema> {
        let name = full_name(object, namespace);
        // Its fields may refer to it.
        let node = self.define(object, namespace, Defined::Record(Vec::new()));
        let namespace = name.namespace.as_deref();
        let invalid = |what: &str| InvalidSchema::new(format!("{what}: record=`{name}`"));
        let fields = object.get("fields").and_then(Json::list);
        let fields = fields.ok_or_else(|| invalid("record has no list of fields"))?;
        let fields = fields.iter().map(|field| {
            let Json::Object(field) = field else { return Err(invalid("field is not an object")) };
            let text = |key| field.get(key).and_then(Json::text);
            let of = field.get("type").ok_or_else(|| invalid("field has no `type`"))?;
            Ok(FieldNode {
                name: text("name").ok_or_else(|| invalid("field has no `name`"))?.to_owned(),
                aliases: texts(field, "aliases"),
                node: self.node(of, namespace)?,
            })
        });
        let fields = fields.collect::<Result<_, _>>()?;
        if let Node::Defined(index) = node {
            self.definitions[index].of = Defined::Record(fields);
        }
        Ok(node)
    }

    fn define(&mut self, object: &Object, namespace: Option<&str>, of: Defined) -> Node {
        let name = full_name(object, namespace);
        let index = self.definitions.len();
        self.names.entry(name.to_string()).or_insert(index);
        for alias in texts(object, "aliases") {
            let alias = FullName::new(&alias, name.namespace.as_deref());
            self.aliases.push((alias.to_string(), index));
        }
        self.definitions.push(Definition { name, of });
        Node::Defined(index)
    }
}

fn full_name(object: &Object, namespace: Option<&str>) -> FullName {
    let text = |key| object.get(key).and_then(Json::text);
    FullName::new(text("name").unwrap_or_default(), text("namespace").or(namespace))
}

fn texts(object: &Object, key: &str) -> Vec<String> {
    let list = object.get(key).and_then(Json::list).unwrap_or_default();
    list.iter().filter_map(Json::text).map(str::to_owned).collect()
}

fn primitive(name: &str) -> Option<Node> {
    let (branch, avro_type) = match name {
        "null" => ("null", AvroType::Null),
        "boolean" => ("boolean", AvroType::Boolean),
        "int" => ("int", AvroType::Int),
        "long" => ("long", AvroType::Long),
        "float" => ("float", AvroType::Float),
        "double" => ("double", AvroType::Double),
        "bytes" => ("bytes", AvroType::Bytes),
        "string" => ("string", AvroType::String),
        _ => return None,
    };
    Some(Node::Leaf { branch, avro_type })
}

/// Applies the logical type of a type without a name. One that does not fit the type or is unknown is
/// ignored.
fn logical(object: &Object, avro_type: AvroType) -> AvroType {
    match (logical_name(object), &avro_type) {
        ("decimal", AvroType::Bytes) => decimal(object, BytesEncoding::Length),
        ("big-decimal", AvroType::Bytes) => Some(AvroType::BigDecimal),
        ("uuid", AvroType::String) => Some(AvroType::Uuid(UuidEncoding::Text)),
        ("uuid", AvroType::Bytes) => {
            Some(AvroType::Uuid(UuidEncoding::Bytes(BytesEncoding::Length)))
        }
        ("date", AvroType::Int) => Some(AvroType::Date),
        ("time-millis", AvroType::Int) => Some(AvroType::TimeMillis),
        ("time-micros", AvroType::Long) => Some(AvroType::TimeMicros),
        ("timestamp-millis", AvroType::Long) => Some(AvroType::Timestamp(TimeUnit::Millis)),
        ("timestamp-micros", AvroType::Long) => Some(AvroType::Timestamp(TimeUnit::Micros)),
        ("timestamp-nanos", AvroType::Long) => Some(AvroType::Timestamp(TimeUnit::Nanos)),
        ("local-timestamp-millis", AvroType::Long) => {
            Some(AvroType::LocalTimestamp(TimeUnit::Millis))
        }
        ("local-timestamp-micros", AvroType::Long) => {
            Some(AvroType::LocalTimestamp(TimeUnit::Micros))
        }
        ("local-timestamp-nanos", AvroType::Long) => {
            Some(AvroType::LocalTimestamp(TimeUnit::Nanos))
        }
        _ => None,
    }
    .unwrap_or(avro_type)
}

/// Applies the logical type of a fixed.
fn logical_fixed(object: &Object, size: usize) -> AvroType {
    match (logical_name(object), size) {
        ("decimal", _) => decimal(object, BytesEncoding::Fixed(size)),
        ("uuid", 16) => Some(AvroType::Uuid(UuidEncoding::Bytes(BytesEncoding::Fixed(size)))),
        ("duration", 12) => Some(AvroType::Duration),
        _ => None,
    }
    .unwrap_or(AvroType::Fixed(size))
}

fn logical_name(object: &Object) -> &str {
    object.get("logicalType").and_then(Json::text).unwrap_or_default()
}

fn decimal(object: &Object, encoding: BytesEncoding) -> Option<AvroType> {
    let precision = object.get("precision")?.number()?;
    let scale = object.get("scale").map_or(Some(0), Json::number)?;
    let is_valid = precision > 0 && scale <= precision;
    is_valid.then_some(AvroType::Decimal { encoding, precision, scale })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{TableShape, UnionAs};

    fn referenced(name: &str, references: &[&str], text: &str) -> ReferencedSchema {
        let references = references.iter().map(ToString::to_string).collect();
        ReferencedSchema { name: name.to_owned(), text: text.to_owned(), references }
    }

    /// Returns the columns of a schema that refers to others, without Ducktide's own.
    fn columns(text: &str, references: &[&str], others: Vec<ReferencedSchema>) -> String {
        let references = references.iter().map(ToString::to_string).collect();
        let schema = AvroSchema::parse_with_references(text, references, others).unwrap();
        let fields = AvroType::record_fields(&schema, UnionAs::Struct).unwrap();
        let shape = TableShape::of_record(&fields, None).unwrap();
        let columns = shape.columns.iter().filter(|column| !column.is_own());
        let columns = columns.map(|column| format!("{} {}", column.name, column.column_type.sql()));
        columns.collect::<Vec<_>>().join(", ")
    }

    fn record(name: &str, field: &str, of: &str) -> String {
        format!(
            r#"{{"type": "record", "name": "{name}", "fields": [
                {{"name": "{field}", "type": {of}}}]}}"#
        )
    }

    #[test]
    fn a_union_of_references_has_a_field_for_each_record() {
        let at = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
        let others = vec![
            referenced("a.Paid", &[], &record("a.Paid", "at", at)),
            referenced("a.Sent", &[], &record("a.Sent", "at", "\"string\"")),
        ];

        let columns = columns(r#"["a.Paid", "a.Sent"]"#, &["a.Paid", "a.Sent"], others);

        let sql = r#""Paid" STRUCT("at" TIMESTAMP WITH TIME ZONE), "Sent" STRUCT("at" VARCHAR)"#;
        assert_eq!(columns, format!("value STRUCT({sql})"));
    }

    #[test]
    fn types_within_referenced_schemas_and_unions_of_them_resolve() {
        let inner = record("b.Inner", "x", "\"int\"");
        let others = || {
            vec![
                referenced("b.Outer", &[], &record("b.Outer", "inner", &inner)),
                referenced("any.avsc", &["b.Outer"], r#"["null", "b.Outer"]"#),
            ]
        };
        for of in ["\"b.Inner\"", "[\"null\", \"b.Inner\"]"] {
            let columns = columns(&record("R", "a", of), &["any.avsc"], others());
            assert_eq!(columns, r#"a STRUCT("x" BIGINT)"#);
        }
        let by_name = columns(&record("R", "a", "\"any.avsc\""), &["any.avsc"], others());
        assert_eq!(by_name, r#"a STRUCT("inner" STRUCT("x" BIGINT))"#);
    }

    #[test]
    fn references_share_what_they_refer_to() {
        let others = vec![
            referenced("A", &["c.C"], &record("A", "c", "\"c.C\"")),
            referenced("c.C", &[], &record("c.C", "x", "\"int\"")),
            referenced("B", &["c.C"], &record("B", "c", "\"c.C\"")),
        ];

        let columns = columns(r#"["A", "B"]"#, &["A", "B"], others);

        let sql = r#""A" STRUCT("c" STRUCT("x" BIGINT)), "B" STRUCT("c" STRUCT("x" BIGINT))"#;
        assert_eq!(columns, format!("value STRUCT({sql})"));
    }

    #[test]
    fn a_type_that_two_references_define_is_each_ones_own() {
        let symbols =
            |symbols: &str| format!(r#"{{"type": "enum", "name": "n.E", "symbols": [{symbols}]}}"#);
        let texts =
            [record("A", "e", &symbols("\"x\"")), record("B", "e", &symbols("\"y\", \"z\""))];
        let others = vec![referenced("A", &[], &texts[0]), referenced("B", &[], &texts[1])];
        let names = ["A".to_owned(), "B".to_owned()].into();
        let schema = AvroSchema::parse_with_references(r#"["A", "B"]"#, names, others).unwrap();

        let resolved = AvroType::resolve(&schema, UnionAs::Json).unwrap();

        let of = |symbols: &[&str]| {
            let symbols = symbols.iter().map(ToString::to_string).collect();
            AvroType::Record(vec![crate::table::AvroField::new("e", AvroType::Enum(symbols))])
        };
        assert_eq!(resolved, AvroType::Union(vec![of(&["x"]), of(&["y", "z"])]));
    }

    #[test]
    fn a_reference_to_itself_is_refused() {
        let others = vec![referenced("X", &["X"], "\"X\"")];
        let schema = AvroSchema::parse_with_references("\"X\"", vec!["X".to_owned()], others);

        assert!(AvroType::resolve(&schema.unwrap(), UnionAs::Json).is_err());
    }
}
