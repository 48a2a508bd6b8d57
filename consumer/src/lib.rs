//! Moves Avro records from Kafka into DuckLake tables, exactly once.
//!
//! Data meets the modules in this order: `source` polls, `assignment` says which records count,
//! `batcher` has them decoded (`schemas`, `ducktide_decoder`) and written (`lane`, `staging`), `committer`
//! brings rows and progress into the lake. `worker` owns all state between them.

pub mod dead_letter;
pub mod staging;

mod assignment;
mod batch;
mod batcher;
mod committer;
mod config;
mod dedupe;
mod error;
mod event;
mod flush;
mod group;
mod in_flight;
mod kafka_config;
mod lane;
mod metrics;
mod new_table;
mod record_format;
mod schema_registry;
mod schemas;
mod source;
mod startup;
mod survey;
mod table;
mod topics;
mod worker;
mod writers;

pub use config::{Args, Config, ConfigError, OnBadRecord, OnIncompatibleSchema, TableLayout};
pub use error::ConsumerError;
pub use group::table_group;
pub use kafka_config::{GroupProtocol, KafkaArgs, KafkaSettingsError};
pub use metrics::sample_metrics;
pub use new_table::{NewTableError, make_table};
pub use record_format::{KeyArgs, KeyFormat, UnionArgs, ValueArgs, ValueFormat};
pub use schema_registry::{RegistryArgs, RegistryError, Secret};
pub use source::TopicPartition;
pub use source::cluster_error::{ClusterError, ClusterErrorKind};
pub use source::group_members::GroupMember;
pub use source::inspect::{ClusterView, Identity, Watermarks};
pub use worker::run;
