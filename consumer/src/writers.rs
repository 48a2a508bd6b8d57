//! The schemas that records were written with, and where they are found.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ducktide_decoder::EXTRA;
use ducktide_lake::table::{AvroSchema, UnionAs};

use crate::dead_letter::{ErrorClass, Flaw};
use crate::record_format::{KeyArgs, ValueArgs, ValueFormat};
use crate::schema_registry::{RegistryArgs, RegistryError, SchemaRegistry};

/// Confluent's wire format: a zero byte and the schema's id, big endian, before the datum.
const HEADER: usize = 5;

const NO_FIELDS: &str = r#"{"type": "record", "name": "object", "fields": []}"#;

/// The schemas that records were written with.
#[derive(Clone, Debug)]
pub(crate) struct RecordWriters {
    pub(crate) values: Writers,
    /// None where keys are kept as they are, or not at all.
    pub(crate) keys: Option<Writers>,
}

impl RecordWriters {
    pub(crate) fn new(
        values: &ValueArgs,
        keys: KeyArgs,
        registry: &RegistryArgs,
    ) -> Result<Self, RegistryError> {
        let of_keys = || Writers::of_keys(registry, values.union_as());
        let keys = keys.are_avro().then(of_keys).transpose()?;
        Ok(Self { values: Writers::of_values(values, registry)?, keys })
    }
}

/// The schemas that values, or keys, were written with.
#[derive(Clone, Debug)]
pub(crate) struct Writers {
    schemas: Schemas,
    pub(crate) part: Part,
    pub(crate) union_as: UnionAs,
}

/// A part of a record that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Value,
    Key,
}

impl Part {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Key => "key",
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
enum Schemas {
    Registry(SchemaRegistry),
    /// All of them.
    Fixed(Arc<AvroSchema>),
    /// Of JSON objects the fields that are to have a column, and the column for the others.
    Json(Arc<AvroSchema>),
}

impl Writers {
    fn of_values(values: &ValueArgs, registry: &RegistryArgs) -> Result<Self, RegistryError> {
        let schemas = match (values.value_format, &values.schema_file) {
            (ValueFormat::AvroRegistry, None) => Schemas::Registry(SchemaRegistry::new(registry)?),
            (ValueFormat::AvroFixed, Some(file)) => Schemas::Fixed(Arc::new(read(file)?)),
            (ValueFormat::Json, file) => Schemas::Json(Arc::new(json_fields(file.as_deref())?)),
            (ValueFormat::AvroRegistry, Some(_)) => {
                let why = "it is for --value-format avro-fixed and json only";
                return Err(RegistryError::File(why.to_owned()));
            }
            (ValueFormat::AvroFixed, None) => {
                return Err(RegistryError::File("name one with --schema-file".to_owned()));
            }
        };
        Ok(Self { schemas, part: Part::Value, union_as: values.union_as() })
    }

    fn of_keys(registry: &RegistryArgs, union_as: UnionAs) -> Result<Self, RegistryError> {
        let schemas = Schemas::Registry(SchemaRegistry::new(registry)?);
        Ok(Self { schemas, part: Part::Key, union_as })
    }

    /// Whether values are JSON, and have no schema.
    pub(crate) fn are_json(&self) -> bool {
        matches!(self.schemas, Schemas::Json(_))
    }

    /// Where a topic's newest schema is.
    pub(crate) fn subject(&self, topic: &str) -> String {
        self.part.subject(topic)
    }

    /// The newest schema of a topic's values or keys.
    pub(crate) async fn newest(&self, topic: &str) -> Result<AvroSchema, RegistryError> {
        match &self.schemas {
            Schemas::Registry(registry) => registry.latest(&self.subject(topic)).await,
            Schemas::Fixed(schema) | Schemas::Json(schema) => Ok(AvroSchema::clone(schema)),
        }
    }

    /// The schema of an id, or the one that all have.
    pub(crate) async fn by_id(&self, id: Option<u32>) -> Result<AvroSchema, RegistryError> {
        match (&self.schemas, id) {
            (Schemas::Registry(registry), Some(id)) => registry.by_id(id).await,
            (Schemas::Fixed(schema) | Schemas::Json(schema), None) => Ok(AvroSchema::clone(schema)),
            _ => unreachable!("`split` has told whether there is an id"),
        }
    }

    /// The topic's subject, and the version that the schema of an id is there, as far as that can be found
    /// out: for an error's text.
    pub(crate) async fn place(&self, topic: &str, id: Option<u32>) -> Option<(String, u32)> {
        let (Schemas::Registry(registry), Some(id)) = (&self.schemas, id) else { return None };
        let subject = self.subject(topic);
        let version = registry.version_of(&subject, id).await?;
        Some((subject, version))
    }

    /// The schema's id, where values have one, and the datum.
    pub(crate) fn split<'p>(&self, payload: &'p [u8]) -> Result<(Option<u32>, &'p [u8]), Flaw> {
        match self.schemas {
            Schemas::Registry(_) => Ok((Some(self.schema_id(payload)?), &payload[HEADER..])),
            Schemas::Fixed(_) | Schemas::Json(_) => Ok((None, payload)),
        }
    }

    /// The schema id that a value or key begins with.
    fn schema_id(&self, payload: &[u8]) -> Result<u32, Flaw> {
        let flaw = |what: &str| {
            let text = format!("{} {what}", self.part.name());
            Flaw::new(ErrorClass::NoSchemaId, text)
        };
        match payload {
            [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
            [] | [0, ..] => Err(flaw("is shorter than a schema id")),
            [magic, ..] => Err(flaw(&format!("does not begin with a zero byte: byte=`{magic}`"))),
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
    use ducktide_lake::table::{Column, ColumnType, TableShape};

    use super::*;

    fn of_one_schema() -> Writers {
        let schemas = Schemas::Fixed(Arc::new(AvroSchema::parse("\"string\"").unwrap()));
        Writers { schemas, part: Part::Value, union_as: UnionAs::Json }
    }

    #[test]
    fn a_value_without_a_schema_id_is_bad() {
        let writers = of_one_schema();
        assert_eq!(writers.schema_id(&[0, 0, 0, 1, 2, 9]), Ok(258));
        for value in [&[][..], &[0, 1, 2, 3], &[7, 0, 0, 0, 1]] {
            let flaw = writers.schema_id(value).unwrap_err();
            assert_eq!(flaw.class, ErrorClass::NoSchemaId, "{value:?}");
        }
        let key = Writers { part: Part::Key, ..writers };
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

        assert_eq!(writers.split(&[0, 0, 0, 0, 1]), Ok((None, &[0, 0, 0, 0, 1][..])));
        assert_eq!(writers.split(&[]), Ok((None, &[][..])));
    }
}
