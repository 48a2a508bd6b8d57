//! Commit by the function `ducktide_commit_files` of a PostgreSQL catalog: one round trip.

use ducktide_protocol::error::Result;
use ducktide_protocol::failpoint::{self, Failpoint};

use super::Failure;
use super::answer::CommitAnswer;
use crate::catalog::{layout, postgres_connection};
use crate::duck_lake::DuckLake;

/// Calls the function once.
pub(super) fn call(
    lake: &mut DuckLake,
    message: &str,
) -> Result<std::result::Result<CommitAnswer, Failure>> {
    failpoint::reached(Failpoint::MessageSet);
    match lake.commit_connection()?.call_commit_function(message)? {
        Ok(answer) => CommitAnswer::from_json(&answer).map(Ok),
        Err(error) if postgres_connection::is_undefined_function(&error) => {
            Err(layout::older_layout(&lake.catalog()?)?)
        }
        Err(error) => {
            let (text, is_refusal) = postgres_connection::describe(&error);
            Ok(Err(Failure { text, is_refusal }))
        }
    }
}
