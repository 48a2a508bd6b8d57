//! Decodes Avro and JSON records into Arrow rows: a plan is compiled once for a writer's schema and
//! a table, then one pass over each payload appends to column builders.
//!
//! There is no value tree, and no allocation per record: a [`RecordDecoder`] reads the datum in
//! place and writes to the [`RowBuffer`] of its table, whose batches go to the Parquet writer. A
//! record that fails leaves the rows unchanged. Records of different writers' schemas may alternate
//! in one buffer, if all fit its table.
//!
//! Everything in a datum is bounded by the datum: lengths by the remaining bytes, the number of
//! items without bytes by its size, nesting by the schema, which is finite because recursive
//! schemas are rejected.

mod arrow;
mod builder;
mod calendar;
mod cursor;
mod decimal;
mod error;
mod json;
mod json_plan;
mod json_text;
mod json_values;
mod key;
mod key_and_headers;
mod plan;
mod read;
mod record_decoder;
mod row_buffer;
mod text_buffer;
mod topics;

pub use arrow::{UTC, fields as arrow_fields};
pub use calendar::{date_text, timestamp_micros};
pub use error::{CompileError, DecodeError, Problem};
pub use json_values::EXTRA;
pub use key::{Key, KeyDecoder};
pub use record_decoder::RecordDecoder;
pub use row_buffer::{FIRST_EVENT_DATE, LAST_EVENT_DATE, RowBuffer};
