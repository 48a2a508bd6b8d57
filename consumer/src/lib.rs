//! Moves Avro records from Kafka into DuckLake tables, exactly once.
//!
//! The modules in the order of the data: `source` polls Kafka, `decode` finds the schema and decoder of
//! each record, `batch` writes rows to Parquet files, `commit` adds the files and the progress to the lake.
//! `worker` takes all decisions between them, and `driver` executes them; `startup` prepares what they need.

#[macro_use]
mod mutated;

mod batch;
mod clock;
mod commit;
mod config;
mod decode;
mod driver;
mod error;
mod event;
mod metrics;
mod random;
#[cfg(test)]
mod simulation;
mod source;
mod startup;
mod worker;

pub use batch::{dead_letter, staging};
pub use config::{Args, Config, ConfigError, OnBadRecord, OnIncompatibleSchema, TableLayout};
pub use decode::record_format::{KeyArgs, KeyFormat, UnionArgs, ValueArgs, ValueFormat};
pub use decode::schema_provider::SchemaError;
pub use driver::run;
pub use ducktide_registry::{RegistryArgs, RegistryError};
pub use error::ConsumerError;
pub use metrics::sample_metrics;
pub use source::TopicPartition;
pub use source::cluster_error::{ClusterError, ClusterErrorKind};
pub use source::group::table_group;
pub use source::group_members::GroupMember;
pub use source::inspect::{ClusterView, Identity, Watermarks};
pub use source::kafka_config::{GroupProtocol, client_config};
pub use startup::new_table::{NewTableError, create_table};
