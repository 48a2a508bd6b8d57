//! Failures of requests that the lake refuses.

use ducktide_protocol::{ErrorKind, LakeError};

use crate::failure::Failure;

/// Returns a failure with exit code 1 for an invalid request: the lake itself can be used.
pub(super) fn refused(error: LakeError) -> Failure {
    match error.kind() {
        ErrorKind::Invalid => Failure::Refused(error.chain()),
        ErrorKind::Unavailable | ErrorKind::Setting => error.into(),
    }
}
