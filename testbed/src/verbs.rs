//! Commands of `cargo xtask` in one module each, and the code that they share.

pub(crate) mod bench;
pub(crate) mod chaos;
pub(crate) mod demo;
pub(crate) mod services;
mod signals;
mod storage_kind;
mod streaming_services;
mod terminal;
