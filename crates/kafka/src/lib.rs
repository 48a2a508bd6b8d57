//! Connection to Kafka: settings, authentication and errors of all programs.

pub mod args;
mod certificate_check;
pub mod failure;
pub mod oauth;
pub mod property;
pub mod remedy;
pub mod security;
pub mod token_ffi;

pub use args::{Connection, KafkaArgs, KafkaSettingsError, OwnedProperty, set_default};
