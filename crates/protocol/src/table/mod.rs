//! What a DuckLake table looks like, and how an Avro record schema becomes one. Pure: no DuckDB here.
//!
//! Data meets the files in this order: [`AvroSchema`] is a schema as its text has it, [`AvroType`] is a writer's schema with every name resolved,
//! [`ColumnType`] the DuckLake type it becomes, [`TableShape`] the whole table, and [`diff`] says
//! whether a table that exists already can take the rows of a shape that is wanted.

mod avro_schema;
mod avro_type;
mod column_type;
mod difference;
mod error;
mod name;
mod parse;
mod partitioning;
mod rename;
mod schema_text;
mod shape;

pub use avro_schema::{AvroSchema, InvalidSchema, ReferencedSchema};
pub use avro_type::{AvroField, AvroType, BytesEncoding, TimeUnit, UnionAs, UuidEncoding, VALUE};
pub use column_type::ColumnType;
pub use difference::{Difference, Unfit, diff};
pub use error::ShapeError;
pub use name::{InvalidTableName, MAX_NAME_BYTES, TableName, quote_identifier};
pub use partitioning::{Partitioning, PartitioningError, column_of_comment, date_comment};
pub use rename::rename;
pub use shape::DUCKLAKE_PREFIX;
pub use shape::{
    Column, EVENT_DATE, KAFKA_COLUMNS, KAFKA_HEADERS, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION,
    KAFKA_TIMESTAMP, KAFKA_TOPIC, TableShape,
};
