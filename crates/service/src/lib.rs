//! Common parts of the programs: telemetry, HTTP endpoints, signals and exit, units, text tables.

pub mod endpoints;
pub mod hidden_value;
pub mod kafka_property;
pub mod process;
pub mod telemetry;
pub mod text_table;
pub mod units;
