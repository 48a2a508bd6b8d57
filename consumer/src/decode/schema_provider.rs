//! The schemas that records were written with, and where they are found.

use std::ffi::CStr;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ducktide_decoder::EXTRA;
use ducktide_protocol::table::{AvroSchema, UnionAs};
use uuid::Uuid;

use crate::decode::error_class::ErrorClass;
use crate::decode::failure::DecodeFailure;
use crate::decode::record_format::{KeyArgs, ValueArgs, ValueFormat};
use crate::decode::schema_registry::{RegistryArgs, RegistryError, SchemaRegistry};

/// Confluent's wire format: a zero byte and the schema's id, big endian, before the datum.
const HEADER: usize = 5;

/// What stands for the topic in the name of a subject.
const TOPIC: &str = "{topic}";

const NO_FIELDS: &str = r#"{"type": "record", "name": "object", "fields": []}"#;

/// The schemas that records were written with.
#[derive(Clone, Debug)]
pub(crate) struct SchemaProviders {
    pub(crate) values: SchemaProvider,
    /// None where keys are kept as they are, or not at all.
    pub(crate) keys: Option<SchemaProvider>,
}

impl SchemaProviders {
    pub(crate) fn new(
        values: &ValueArgs,
        keys: KeyArgs,
        registry: &RegistryArgs,
    ) -> Result<Self, RegistryError> {
        let of_keys = || SchemaProvider::of_keys(registry, values.union_as());
        let keys = keys.are_avro().then(of_keys).transpose()?;
        Ok(Self { values: SchemaProvider::of_values(values, registry)?, keys })
    }
}

/// The schemas that values, or keys, were written with.
#[derive(Clone, Debug)]
pub(crate) struct SchemaProvider {
    schemas: SchemaOrigin,
    /// Where the newest schema is; `{topic}` stands for the topic.
    subject: Arc<str>,
    pub(crate) part: RecordPart,
    pub(crate) union_as: UnionAs,
}

/// How a value or key names its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SchemaId {
    /// Not at all: all have one schema.
    Common,
    /// By the registry's number.
    Id(u32),
    /// By the registry's name for its text, the same in all registries.
    Guid(Uuid),
}

impl SchemaId {
    /// What producers put into the header: a version byte, and a number or GUID, big endian.
    fn from_header(value: &[u8]) -> Option<Self> {
        let (version, id) = value.split_first()?;
        match version {
            0 => id.try_into().ok().map(|id| Self::Id(u32::from_be_bytes(id))),
            1 => Uuid::from_slice(id).ok().map(Self::Guid),
            _ => None,
        }
    }

    /// The registry's number, if that is known.
    pub(crate) const fn number(self) -> Option<u32> {
        match self {
            Self::Id(id) => Some(id),
            Self::Common | Self::Guid(_) => None,
        }
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Common => f.write_str("schema of all values"),
            Self::Id(id) => write!(f, "schema_id=`{id}`"),
            Self::Guid(guid) => write!(f, "schema_guid=`{guid}`"),
        }
    }
}

/// A part of a record that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordPart {
    Value,
    Key,
}

impl RecordPart {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Key => "key",
        }
    }

    /// The header that names the schema of a value or key that has no id in front.
    pub(crate) const fn schema_header(self) -> &'static CStr {
        match self {
            Self::Value => c"__value_schema_id",
            Self::Key => c"__key_schema_id",
        }
    }

    /// Where a topic's values or keys have their schemas: the registry's default strategy.
    pub(crate) fn subject(self, topic: &str) -> String {
        format!("{topic}-{}", self.name())
    }

    /// The topic of a subject; other subjects are their own.
    pub(crate) fn topic_of(self, subject: &str) -> &str {
        let topic = subject.strip_suffix(self.name()).and_then(|topic| topic.strip_suffix('-'));
        topic.unwrap_or(subject)
    }
}

/// Where they are.
#[derive(Clone, Debug)]
enum SchemaOrigin {
    Registry(SchemaRegistry),
    /// All of them.
    Fixed(Arc<AvroSchema>),
    /// Of JSON objects the fields that are to have a column, and the column for the others.
    Json(Arc<AvroSchema>),
}

impl SchemaProvider {
    fn of_values(values: &ValueArgs, registry: &RegistryArgs) -> Result<Self, RegistryError> {
        let schemas = match (values.value_format, &values.schema_file) {
            (ValueFormat::AvroRegistry, None) => {
                SchemaOrigin::Registry(SchemaRegistry::new(registry)?)
            }
            (ValueFormat::AvroFixed, Some(file)) => SchemaOrigin::Fixed(Arc::new(read(file)?)),
            (ValueFormat::Json, file) => {
                SchemaOrigin::Json(Arc::new(json_fields(file.as_deref())?))
            }
            (ValueFormat::AvroRegistry, Some(_)) => {
                let why = "it is for --value-format avro-fixed and json only";
                return Err(RegistryError::File(why.to_owned()));
            }
            (ValueFormat::AvroFixed, None) => {
                return Err(RegistryError::File("name one with --schema-file".to_owned()));
            }
        };
        let subject = values.subject.as_str().into();
        Ok(Self { schemas, subject, part: RecordPart::Value, union_as: values.union_as() })
    }

    fn of_keys(registry: &RegistryArgs, union_as: UnionAs) -> Result<Self, RegistryError> {
        let schemas = SchemaOrigin::Registry(SchemaRegistry::new(registry)?);
        Ok(Self {
            schemas,
            subject: RecordPart::Key.subject(TOPIC).into(),
            part: RecordPart::Key,
            union_as,
        })
    }

    /// Whether values are JSON, and have no schema.
    pub(crate) fn are_json(&self) -> bool {
        matches!(self.schemas, SchemaOrigin::Json(_))
    }

    /// Where a topic's newest schema is.
    pub(crate) fn subject(&self, topic: &str) -> String {
        self.subject.replace(TOPIC, topic)
    }

    /// The newest schema of a topic's values or keys.
    pub(crate) async fn newest(&self, topic: &str) -> Result<AvroSchema, RegistryError> {
        match &self.schemas {
            SchemaOrigin::Registry(registry) => registry.latest(&self.subject(topic)).await,
            SchemaOrigin::Fixed(schema) | SchemaOrigin::Json(schema) => {
                Ok(AvroSchema::clone(schema))
            }
        }
    }

    /// The schema that a value or key names, or the one that all have.
    pub(crate) async fn by_id(&self, id: SchemaId) -> Result<AvroSchema, RegistryError> {
        match (&self.schemas, id) {
            (SchemaOrigin::Registry(registry), SchemaId::Id(id)) => registry.by_id(id).await,
            (SchemaOrigin::Registry(registry), SchemaId::Guid(guid)) => {
                registry.by_guid(guid).await
            }
            (SchemaOrigin::Fixed(schema) | SchemaOrigin::Json(schema), SchemaId::Common) => {
                Ok(AvroSchema::clone(schema))
            }
            _ => unreachable!("`split` has told whether there is an id"),
        }
    }

    /// The topic's subject, and the version that the schema of an id is there, as far as that can be found
    /// out: for an error's text.
    pub(crate) async fn place(&self, topic: &str, id: SchemaId) -> Option<(String, u32)> {
        let (SchemaOrigin::Registry(registry), Some(id)) = (&self.schemas, id.number()) else {
            return None;
        };
        let subject = self.subject(topic);
        let version = registry.version_of(&subject, id).await?;
        Some((subject, version))
    }

    /// The schema's id, where values have one, and the datum.
    ///
    /// `header` finds the last header of a name. Where there is one, the payload is the datum alone,
    /// whatever it begins with.
    #[inline]
    pub(crate) fn split<'p>(
        &self,
        payload: &'p [u8],
        header: impl FnOnce(&'static CStr) -> Option<&'p [u8]>,
    ) -> Result<(SchemaId, &'p [u8]), DecodeFailure> {
        match self.schemas {
            SchemaOrigin::Registry(_) => match header(self.part.schema_header()) {
                Some(value) => Ok((self.id_in_header(value)?, payload)),
                None => Ok((SchemaId::Id(self.schema_id(payload)?), &payload[HEADER..])),
            },
            SchemaOrigin::Fixed(_) | SchemaOrigin::Json(_) => Ok((SchemaId::Common, payload)),
        }
    }

    fn id_in_header(&self, value: &[u8]) -> Result<SchemaId, DecodeFailure> {
        SchemaId::from_header(value).ok_or_else(|| {
            let text = format!(
                "header has neither a schema id (0 and 4 bytes) nor a GUID (1 and 16 bytes): \
                 header=`{}` bytes=`{}`",
                self.part.schema_header().to_string_lossy(),
                value.len()
            );
            DecodeFailure::new(ErrorClass::NoSchemaId, text)
        })
    }

    /// The schema id that a value or key begins with.
    fn schema_id(&self, payload: &[u8]) -> Result<u32, DecodeFailure> {
        let failure = |what: &str| {
            let text = format!("{} {what}", self.part.name());
            DecodeFailure::new(ErrorClass::NoSchemaId, text)
        };
        match payload {
            [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
            [] | [0, ..] => Err(failure("is shorter than a schema id")),
            [magic, ..] => {
                Err(failure(&format!("does not begin with a zero byte: byte=`{magic}`")))
            }
        }
    }
}

fn read(file: &Path) -> Result<AvroSchema, RegistryError> {
    AvroSchema::parse(&text_of(file)?).map_err(|error| unusable(file, &error))
}

fn text_of(file: &Path) -> Result<String, RegistryError> {
    std::fs::read_to_string(file).map_err(|error| unusable(file, &error))
}

fn unusable(file: &Path, error: &dyn fmt::Display) -> RegistryError {
    RegistryError::File(format!("{error}: file=`{}`", file.display()))
}

/// A record's schema with a field more, whose column is JSON; without a file that one alone.
fn json_fields(file: Option<&Path>) -> Result<AvroSchema, RegistryError> {
    let fields = match file {
        Some(file) => read(file)?,
        None => {
            AvroSchema::parse(NO_FIELDS).map_err(|error| RegistryError::File(error.to_string()))?
        }
    };
    let schema = fields.with_json_field(EXTRA);
    schema.ok_or_else(|| match file {
        Some(file) => unusable(file, &"the schema is not a record's"),
        None => unreachable!("{NO_FIELDS} is a record's schema"),
    })
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::table::{Column, ColumnType, TableShape};

    use super::*;

    fn of_one_schema() -> SchemaProvider {
        let schemas = SchemaOrigin::Fixed(Arc::new(AvroSchema::parse("\"string\"").unwrap()));
        SchemaProvider {
            schemas,
            subject: "all".into(),
            part: RecordPart::Value,
            union_as: UnionAs::Json,
        }
    }

    #[test]
    fn a_value_without_a_schema_id_is_bad() {
        let writers = of_one_schema();
        assert_eq!(writers.schema_id(&[0, 0, 0, 1, 2, 9]), Ok(258));
        for value in [&[][..], &[0, 1, 2, 3], &[7, 0, 0, 0, 1]] {
            let failure = writers.schema_id(value).unwrap_err();
            assert_eq!(failure.class, ErrorClass::NoSchemaId, "{value:?}");
        }
        let key = SchemaProvider { part: RecordPart::Key, ..writers };
        assert!(key.schema_id(&[7]).unwrap_err().text.starts_with("key does not begin"));
    }

    #[test]
    fn what_json_has_no_field_for_has_a_column() {
        let columns = |file: Option<&Path>| {
            let shape = TableShape::from_avro(&json_fields(file).unwrap(), None).unwrap();
            shape.columns[..shape.columns.len() - 4].to_vec()
        };
        assert_eq!(columns(None), [Column::new("_extra", ColumnType::Json)]);
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("schema.avsc");
        let text = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}"#;
        std::fs::write(&file, text).unwrap();
        let a = Column::new("a", ColumnType::BigInt);
        assert_eq!(columns(Some(&file)), [a, Column::new("_extra", ColumnType::Json)]);

        std::fs::write(&file, "\"long\"").unwrap();
        let refused = json_fields(Some(&file)).unwrap_err().to_string();
        assert!(refused.contains("not a record's"), "{refused}");
    }

    #[test]
    fn values_of_one_schema_are_all_datum() {
        let writers = of_one_schema();

        let split = |payload| writers.split(payload, |_| Some(&[0, 0, 0, 0, 7]));
        assert_eq!(split(&[0, 0, 0, 0, 1]), Ok((SchemaId::Common, &[0, 0, 0, 0, 1][..])));
        assert_eq!(split(&[]), Ok((SchemaId::Common, &[][..])));
    }

    #[test]
    fn a_subject_may_have_the_topic_in_its_name() {
        let fixed = of_one_schema();
        assert_eq!(fixed.subject("orders"), "all");
        let writers = SchemaProvider { subject: "shop.{topic}.v1-value".into(), ..fixed };
        assert_eq!(writers.subject("orders"), "shop.orders.v1-value");
    }

    #[test]
    fn a_header_names_the_schema_whatever_the_value_begins_with() {
        use clap::Parser;

        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            registry: RegistryArgs,
        }
        let registry = Line::try_parse_from(["test"]).unwrap().registry;
        let keys = SchemaProvider::of_keys(&registry, UnionAs::Json).unwrap();
        let values = SchemaProvider { part: RecordPart::Value, ..keys.clone() };
        let header = |name: &'static CStr, value: &'static [u8]| {
            move |asked: &'static CStr| (asked == name).then_some(value)
        };
        let framed: &[u8] = &[0, 0, 0, 0, 1, 9];
        let (of_value, of_key) = (c"__value_schema_id", c"__key_schema_id");
        let id: &[u8] = &[0, 0, 0, 1, 2];
        let guid: &[u8] = &[1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

        assert_eq!(values.split(framed, header(of_value, id)), Ok((SchemaId::Id(258), framed)));
        assert_eq!(keys.split(&[], header(of_key, id)), Ok((SchemaId::Id(258), &[][..])));
        let (named, datum) = values.split(framed, header(of_value, guid)).unwrap();
        assert_eq!(named.to_string(), "schema_guid=`00010203-0405-0607-0809-0a0b0c0d0e0f`");
        assert_eq!((named.number(), datum), (None, framed));
        assert_eq!(values.split(framed, header(of_key, id)), Ok((SchemaId::Id(1), &framed[5..])));
        assert_eq!(values.split(framed, |_| None), Ok((SchemaId::Id(1), &framed[5..])));
        for broken in [&[][..], &[0], &id[..4], &guid[..16], &[2, 0, 0, 0, 1]] {
            let failure = values.split(framed, |_| Some(broken)).unwrap_err();
            assert_eq!(failure.class, ErrorClass::NoSchemaId, "{broken:?}");
            assert!(failure.text.contains("header=`__value_schema_id`"), "{}", failure.text);
        }
    }
}
