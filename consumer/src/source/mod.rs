//! First stage: the Kafka client, its poll loop, and requests to the cluster.
//!
//! [`poll_loop::PollLoop`] has all decisions, without a thread or a wait; [`poll_thread`] drives it with
//! librdkafka, the client of [`ffi`].

pub(crate) mod assignment;
pub(crate) mod client;
pub(crate) mod cluster_error;
pub(crate) mod cluster_queries;
mod command;
mod delivery;
pub(crate) mod event;
mod ffi;
pub(crate) mod group;
pub(crate) mod group_members;
pub(crate) mod in_flight;
pub(crate) mod inspect;
pub(crate) mod kafka_config;
#[cfg(test)]
pub(crate) mod memory_record;
mod name_wait;
#[cfg(test)]
mod native_tests;
pub(crate) mod poll_loop;
mod poll_thread;
pub(crate) mod record;
pub(crate) mod shared_assignment;
pub(crate) mod topic_partition;
mod wake_signal;

pub(crate) use command::{PartitionStart, SourceCommand};
pub(crate) use delivery::{Delivery, RecordRun};
pub(crate) use event::{ClusterAnswer, SourceEvent};
pub(crate) use ffi::Record;
pub(crate) use poll_thread::{JoinConfig, Source};
pub use topic_partition::TopicPartition;
