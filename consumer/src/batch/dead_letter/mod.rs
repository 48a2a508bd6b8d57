//! Records that cannot be decoded or stored. They are kept complete in the dead-letter table, in
//! the commit of their batch, so that they do not block the records after them.
//!
//! An outage never creates a dead letter: while the schema registry is unavailable, the batchers
//! wait (invariant I8).

mod ratio;
mod retry;
mod writer;

pub use crate::decode::error_class::ErrorClass;
pub use crate::decode::failure::DecodeFailure;
pub use retry::{RetryError, RetryWriter, stage_resolutions};

pub(crate) use ratio::DeadLetterRatio;
pub(crate) use writer::{BYTES_PER_BATCH, DeadLetterWriter};

use std::collections::BTreeMap;

/// Number of dead letters by error class.
pub(crate) type DeadLetterCounts = BTreeMap<ErrorClass, u64>;
