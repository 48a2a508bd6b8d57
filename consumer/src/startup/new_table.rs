//! Creation of a table before the first consumer, for `ducktide init`.

use ducktide_lake::DuckLake;
use ducktide_protocol::table::{InvalidTableName, ShapeError};
use ducktide_protocol::{LakeError, Table};
use ducktide_registry::{RegistryArgs, RegistryError, SchemaRegistry};
use thiserror::Error;

use crate::config::topics::table_of;
use crate::config::{OnIncompatibleSchema, TableLayout};
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::record_format::UnionArgs;
use crate::decode::schema_provider::RecordPart;
use crate::startup::table;

/// Reason for which a table was not created.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages describe the variants")]
pub enum NewTableError {
    #[error("request the newest schema: subject=`{subject}` {error}")]
    Registry { subject: String, error: RegistryError },
    #[error("no table can be derived from the schema: subject=`{subject}` {error}")]
    Shape { subject: String, error: ShapeError },
    #[error("invalid table name; set --table: {0}")]
    Name(#[from] InvalidTableName),
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    #[error("start the schema registry client: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Creates the table for the newest schema of a subject, as the first consumer would, or adds the
/// columns that an existing table lacks. Without a name, the table has the name of the topic.
pub fn create_table(
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
