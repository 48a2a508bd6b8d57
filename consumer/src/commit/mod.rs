//! From files to a commit of the lake.

pub(crate) mod committer;
pub(crate) mod event;
pub(crate) mod flush;
pub(crate) mod request;
