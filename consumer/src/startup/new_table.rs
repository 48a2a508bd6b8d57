//! A table that is made before there is a consumer.

use ducktide_lake::DuckLake;
use ducktide_protocol::table::{InvalidTableName, ShapeError};
use ducktide_protocol::{LakeError, Table};
use thiserror::Error;

use crate::config::topics::table_of;
use crate::config::{OnIncompatibleSchema, TableLayout};
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::record_format::UnionArgs;
use crate::decode::schema_provider::RecordPart;
use crate::decode::schema_registry::{RegistryArgs, RegistryError, SchemaRegistry};
use crate::startup::table;

/// Why a table could not be made.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum NewTableError {
    #[error("read the newest schema: subject=`{subject}` {error}")]
    Registry { subject: String, error: RegistryError },
    #[error("the schema has no table: subject=`{subject}` {error}")]
    Shape { subject: String, error: ShapeError },
    #[error("name the table with --table: {0}")]
    Name(#[from] InvalidTableName),
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    #[error("start the schema registry's client: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Makes the table that the records of a subject's newest schema fill, as the first consumer would; a
/// table that is there gets the columns that it lacks. Without a name it has the topic's.
pub fn make_table(
    lake: &mut DuckLake,
    registry: &RegistryArgs,
    subject: &str,
    name: Option<&str>,
    layout: &TableLayout,
    unions: UnionArgs,
) -> Result<Table, NewTableError> {
    let failed = |subject: &str| {
        let subject = subject.to_owned();
        move |error| NewTableError::Registry { subject, error }
    };
    let topic = RecordPart::Value.topic_of(subject);
    let name = table_of(name, topic)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let registry = SchemaRegistry::new(registry).map_err(failed(subject))?;
    let newest =
        |subject: &str| runtime.block_on(registry.latest(subject)).map_err(failed(subject));
    let key =
        layout.keys.are_avro().then(|| newest(&RecordPart::Key.subject(topic))).transpose()?;
    let newest = NewestSchemas::of(Some(&newest(subject)?), key.as_ref(), unions.union_as)
        .map_err(|error| NewTableError::Shape { subject: subject.to_owned(), error })?;
    Ok(table::prepare(lake, &name, &newest, layout, OnIncompatibleSchema::Stop)?)
}
