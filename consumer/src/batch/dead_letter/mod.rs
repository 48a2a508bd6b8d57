//! Records that can never be decoded or fitted: kept whole, in the commit of their batch, so that
//! one of them does not hold up what comes behind it.
//!
//! An outage never makes a dead letter: while the registry or anything else does not answer, the
//! batchers wait (invariant I8).

mod ratio;
mod retry;
mod writer;

pub use crate::decode::error_class::ErrorClass;
pub use crate::decode::failure::DecodeFailure;
pub use retry::{RetryError, RetryWriter, stage_resolutions};

pub(crate) use ratio::DeadLetterRatio;
pub(crate) use writer::{BYTES_PER_BATCH, DeadLetterWriter};

use std::collections::BTreeMap;

/// How many records became letters, by what is wrong with them.
pub(crate) type DeadLetterCounts = BTreeMap<ErrorClass, u64>;
