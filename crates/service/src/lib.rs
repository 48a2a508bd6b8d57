//! Common parts of the programs: telemetry, traces, HTTP endpoints, signals and exit, units, text tables.

pub mod endpoints;
pub mod hidden_value;
pub mod process;
pub mod secret;
pub mod telemetry;
pub mod text_table;
pub mod traces;
pub mod units;
