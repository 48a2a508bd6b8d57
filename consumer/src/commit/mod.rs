//! Last stage: when a batch is cut, and its commit to the lake.

pub(crate) mod committer;
pub(crate) mod core;
pub(crate) mod event;
pub(crate) mod request;
