//! Answer to a commit.

use ducktide_protocol::error::{LakeError, LakeFault, Result};
use ducktide_protocol::position::SnapshotId;
use serde::Deserialize;

use super::{Failure, Sent};
use crate::catalog::{format, layout};

/// Answer of the catalog; `postgres_commit_files.sql` describes each.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum CommitAnswer {
    Committed { snapshot: Option<i64>, locked: bool },
    Fenced,
    TableChanged,
    ReplayAnnounced,
    UnknownFormat { found: String },
    UnknownColumns { found: String },
    TriggersMissing { found: usize },
    ProgressUnmoved,
    NewerTriggers { found: u32 },
    Refused { reason: String },
}

impl CommitAnswer {
    /// Reads the answer of the function.
    pub(super) fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| {
            let remedy = "the lake's commit function is another version; run `ducktide init`";
            LakeError::refused(remedy).because(error)
        })
    }

    /// Returns the meaning of the answer; None if the commit has to wait for a replay.
    pub(super) fn read(self) -> Result<Option<Sent>> {
        let refused = |text: String| Sent::Failed(Failure { text, is_refusal: true });
        Ok(Some(match self {
            Self::Committed { snapshot, locked } => {
                if !locked {
                    tracing::warn!("commit lock timed out, continuing without it");
                }
                Sent::Committed(snapshot.map(SnapshotId))
            }
            Self::Fenced => {
                Sent::Failed(Failure { text: "ducktide fenced".to_owned(), is_refusal: false })
            }
            Self::TableChanged => Sent::TableChanged,
            Self::ReplayAnnounced => return Ok(None),
            Self::Refused { reason } => refused(reason),
            Self::UnknownFormat { found } => {
                format::require(Some(&found))?;
                refused(format!("unknown catalog format: {found}"))
            }
            Self::UnknownColumns { found: columns } => {
                return Err(LakeError::from_fault(LakeFault::UnknownCatalogColumns { columns }));
            }
            Self::TriggersMissing { found } => {
                let needed = layout::TRIGGERS.len();
                return Err(LakeError::from_fault(LakeFault::TriggersMissing { found, needed }));
            }
            Self::ProgressUnmoved => {
                return Err(LakeError::invalid(
                    "progress did not move, so nothing was committed: a trigger of the lake has no \
                     effect; restore the triggers from a lake of the same version, and then run \
                     `ducktide status` before you restart any worker",
                ));
            }
            Self::NewerTriggers { found } => {
                let ours = layout::TRIGGER_VERSION;
                return Err(layout::newer_layout("oldest_compatible_triggers", found, ours));
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_read() {
        let answers = [
            (
                r#"{"outcome":"committed","snapshot":7,"locked":true}"#,
                CommitAnswer::Committed { snapshot: Some(7), locked: true },
            ),
            (r#"{"outcome":"fenced"}"#, CommitAnswer::Fenced),
            (
                r#"{"outcome":"unknown_columns","found":"t.c"}"#,
                CommitAnswer::UnknownColumns { found: "t.c".into() },
            ),
        ];
        for (json, expected) in answers {
            assert_eq!(CommitAnswer::from_json(json).unwrap(), expected);
        }
    }
}
