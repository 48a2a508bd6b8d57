//! Client of the schema registry (Confluent's API): settings, requests and errors of all programs.
//!
//! Requests, authentication and the use of several URLs are those of `schema_registry_converter`. A
//! middleware adds the HTTP status to its errors, which [`RegistryError`] classifies by their remedy.

mod answer;
mod args;
mod client;
mod error;

pub use args::{RegistryArgs, RegistrySettingsError, RegistryUrls};
pub use client::SchemaRegistry;
pub use error::RegistryError;
