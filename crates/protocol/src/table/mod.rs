//! Shapes of DuckLake tables, and their derivation from Avro schemas. Pure, without DuckDB.
//!
//! In the order of the data: [`AvroSchema`] is a parsed schema, [`AvroType`] the same with every name
//! resolved, [`ColumnType`] its DuckLake type, [`TableShape`] the columns of a table, and [`diff`]
//! compares an existing table with a wanted shape.

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
pub use difference::{Difference, TypeMismatch, diff};
pub use error::ShapeError;
pub use name::{InvalidTableName, MAX_NAME_BYTES, TableName, quote_identifier};
pub use partitioning::{Partitioning, PartitioningError, column_of_comment, date_comment};
pub use rename::rename;
pub use shape::DUCKLAKE_PREFIX;
pub use shape::{
    Column, EVENT_DATE, KAFKA_COLUMNS, KAFKA_HEADERS, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION,
    KAFKA_TIMESTAMP, KAFKA_TOPIC, TableShape,
};
