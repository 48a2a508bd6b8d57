//! From the bytes of a record to its schema and decoder.

pub(crate) mod decoders;
pub(crate) mod error_class;
pub(crate) mod failure;
pub(crate) mod newest_schemas;
pub(crate) mod record_format;
pub(crate) mod schema_provider;
pub(crate) mod schema_registry;
