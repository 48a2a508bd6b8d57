//! Lookup of the schemas that records were written with (Avro: the writer's schema).

use std::ffi::CStr;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ducktide_decoder::EXTRA;
use ducktide_protocol::table::{AvroSchema, UnionAs};
use ducktide_registry::{RegistryArgs, RegistryError, SchemaRegistry};
use thiserror::Error;
use uuid::Uuid;

use crate::decode::error_class::ErrorClass;
use crate::decode::failure::DecodeFailure;
use crate::decode::record_format::{KeyArgs, ValueArgs, ValueFormat};

/// Size of the header in Confluent's wire format: a zero byte and the schema id, big endian.
const HEADER: usize = 5;

/// Placeholder of the topic in the name of a subject.
const TOPIC: &str = "{topic}";

const NO_FIELDS: &str = r#"{"type": "record", "name": "object", "fields": []}"#;

/// Reason for which schemas cannot be looked up.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The schema registry has no usable schema.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The schema file cannot be read or used.
    #[error("schema file cannot be used: {0}")]
    File(String),
}

/// Schemas that the values and keys of records were written with.
#[derive(Clone, Debug)]
pub(crate) struct SchemaProviders {
    pub(crate) values: SchemaProvider,
    /// None if keys are not Avro.
    pub(crate) keys: Option<SchemaProvider>,
}

impl SchemaProviders {
    pub(crate) fn new(
        values: &ValueArgs,
        keys: KeyArgs,
        registry: &RegistryArgs,
    ) -> Result<Self, SchemaError> {
        let of_keys = || SchemaProvider::of_keys(registry, values.union_as());
        let keys = keys.are_avro().then(of_keys).transpose()?;
        Ok(Self { values: SchemaProvider::of_values(values, registry)?, keys })
    }
}

/// Schemas that the values, or the keys, of records were written with.
#[derive(Clone, Debug)]
pub(crate) struct SchemaProvider {
    schemas: SchemaOrigin,
    /// Subject of the newest schema, with `{topic}` as placeholder of the topic.
    subject: Arc<str>,
    pub(crate) part: RecordPart,
    pub(crate) union_as: UnionAs,
}

/// Reference of a value or key to its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SchemaId {
    /// None: all values have one schema.
    Common,
    /// Schema id of the registry.
    Id(u32),
    /// Schema GUID, which is the same in all registries.
    Guid(Uuid),
}

impl SchemaId {
    /// Parses the value of a schema id header: a version byte, and an id or GUID, big endian.
    fn from_header(value: &[u8]) -> Option<Self> {
        let (version, id) = value.split_first()?;
        match version {
            0 => id.try_into().ok().map(|id| Self::Id(u32::from_be_bytes(id))),
            1 => Uuid::from_slice(id).ok().map(Self::Guid),
            _ => None,
        }
    }

    /// Returns the schema id, if it is known.
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

/// Part of a record that has a schema.
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

    /// Returns the name of the header with the schema id of a value or key that does not begin with
    /// it.
    pub(crate) const fn schema_header(self) -> &'static CStr {
        match self {
            Self::Value => c"__value_schema_id",
            Self::Key => c"__key_schema_id",
        }
    }

    /// Returns the subject of a topic by the default strategy of the registry, `TopicNameStrategy`.
    pub(crate) fn subject(self, topic: &str) -> String {
        format!("{topic}-{}", self.name())
    }

    /// Returns the topic of such a subject; another subject is returned unchanged.
    pub(crate) fn topic_of(self, subject: &str) -> &str {
        let topic = subject.strip_suffix(self.name()).and_then(|topic| topic.strip_suffix('-'));
        topic.unwrap_or(subject)
    }
}

/// Origin of the schemas.
#[derive(Clone, Debug)]
enum SchemaOrigin {
    Registry(SchemaRegistry),
    /// One schema for all values.
    Fixed(Arc<AvroSchema>),
    /// For JSON objects: the fields with a column, and the column of all other fields.
    Json(Arc<AvroSchema>),
}

impl SchemaProvider {
    fn of_values(values: &ValueArgs, registry: &RegistryArgs) -> Result<Self, SchemaError> {
        let schemas = match (values.value_format, &values.schema_file) {
            (ValueFormat::AvroRegistry, None) => {
                SchemaOrigin::Registry(SchemaRegistry::new(registry)?)
            }
            (ValueFormat::AvroFixed, Some(file)) => SchemaOrigin::Fixed(Arc::new(read(file)?)),
            (ValueFormat::Json, file) => {
                SchemaOrigin::Json(Arc::new(json_fields(file.as_deref())?))
            }
            (ValueFormat::AvroRegistry, Some(_)) => {
                let why = "--schema-file requires --value-format avro-fixed or json";
                return Err(SchemaError::File(why.to_owned()));
            }
            (ValueFormat::AvroFixed, None) => {
                return Err(SchemaError::File(
                    "--value-format avro-fixed requires --schema-file".to_owned(),
                ));
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

    /// Returns whether values are JSON, without a schema.
    pub(crate) fn are_json(&self) -> bool {
        matches!(self.schemas, SchemaOrigin::Json(_))
    }

    /// Returns the subject of the newest schema of a topic.
    pub(crate) fn subject(&self, topic: &str) -> String {
        self.subject.replace(TOPIC, topic)
    }

    /// Requests the newest schema of the values or keys of a topic.
    pub(crate) async fn newest(&self, topic: &str) -> Result<AvroSchema, RegistryError> {
        match &self.schemas {
            SchemaOrigin::Registry(registry) => registry.latest(&self.subject(topic)).await,
            SchemaOrigin::Fixed(schema) | SchemaOrigin::Json(schema) => {
                Ok(AvroSchema::clone(schema))
            }
        }
    }

    /// Requests the schema that a value or key was written with.
    pub(crate) async fn by_id(&self, id: SchemaId) -> Result<AvroSchema, RegistryError> {
        match (&self.schemas, id) {
            (SchemaOrigin::Registry(registry), SchemaId::Id(id)) => registry.by_id(id).await,
            (SchemaOrigin::Registry(registry), SchemaId::Guid(guid)) => {
                registry.by_guid(guid).await
            }
            (SchemaOrigin::Fixed(schema) | SchemaOrigin::Json(schema), SchemaId::Common) => {
                Ok(AvroSchema::clone(schema))
            }
            _ => unreachable!("`split` returns an id only with a registry"),
        }
    }

    /// Returns the subject of a topic and the version of a schema id in it, if they can be found.
    /// For the text of an error.
    pub(crate) async fn place(&self, topic: &str, id: SchemaId) -> Option<(String, u32)> {
        let (SchemaOrigin::Registry(registry), Some(id)) = (&self.schemas, id.number()) else {
            return None;
        };
        let subject = self.subject(topic);
        let version = registry.version_of(&subject, id).await?;
        Some((subject, version))
    }

    /// Splits a payload into its schema id, if values have one, and the datum.
    ///
    /// `header` returns the last header of a name. If the header with the schema id exists, the
    /// payload is the datum, whatever it begins with.
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
                "header contains neither a schema id (0 and 4 bytes) nor a GUID (1 and 16 bytes): \
                 header=`{}` bytes=`{}`",
                self.part.schema_header().to_string_lossy(),
                value.len()
            );
            DecodeFailure::new(ErrorClass::NoSchemaId, text)
        })
    }

    /// Returns the schema id that a value or key begins with.
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

fn read(file: &Path) -> Result<AvroSchema, SchemaError> {
    AvroSchema::parse(&text_of(file)?).map_err(|error| unusable(file, &error))
}

fn text_of(file: &Path) -> Result<String, SchemaError> {
    std::fs::read_to_string(file).map_err(|error| unusable(file, &error))
}

fn unusable(file: &Path, error: &dyn fmt::Display) -> SchemaError {
    SchemaError::File(format!("{error}: file=`{}`", file.display()))
}

/// Returns the schema of a file with an additional JSON field; without a file, that field alone.
fn json_fields(file: Option<&Path>) -> Result<AvroSchema, SchemaError> {
    let fields = match file {
        Some(file) => read(file)?,
        None => {
            AvroSchema::parse(NO_FIELDS).map_err(|error| SchemaError::File(error.to_string()))?
        }
    };
    let schema = fields.with_json_field(EXTRA);
    schema.ok_or_else(|| match file {
        Some(file) => unusable(file, &"schema is not a record"),
        None => unreachable!("{NO_FIELDS} is a record"),
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
    fn a_value_without_a_schema_id_cannot_be_decoded() {
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
    fn fields_without_a_column_go_to_the_extra_column() {
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
        assert!(refused.contains("not a record"), "{refused}");
    }

    #[test]
    fn values_of_one_schema_have_no_header() {
        let writers = of_one_schema();

        let split = |payload| writers.split(payload, |_| Some(&[0, 0, 0, 0, 7]));
        assert_eq!(split(&[0, 0, 0, 0, 1]), Ok((SchemaId::Common, &[0, 0, 0, 0, 1][..])));
        assert_eq!(split(&[]), Ok((SchemaId::Common, &[][..])));
    }

    #[test]
    fn the_topic_replaces_the_placeholder_in_a_subject() {
        let fixed = of_one_schema();
        assert_eq!(fixed.subject("orders"), "all");
        let writers = SchemaProvider { subject: "shop.{topic}.v1-value".into(), ..fixed };
        assert_eq!(writers.subject("orders"), "shop.orders.v1-value");
    }

    #[test]
    fn a_schema_id_header_has_precedence_over_the_value() {
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
