//! Lookup of the schemas that records were written with, and of their decoders.

pub(crate) mod decoders;
pub(crate) mod error_class;
pub(crate) mod failure;
pub(crate) mod newest_schemas;
pub(crate) mod record_format;
pub(crate) mod schema_lookup;
pub(crate) mod schema_provider;
