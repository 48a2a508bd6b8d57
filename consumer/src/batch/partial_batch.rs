//! Results of the batchers, and their merge into one lake commit.

use std::collections::BTreeMap;
use std::time::Duration;

use ducktide_protocol::commit::{Commit, ProgressDelta, SchemaIds};
use ducktide_protocol::position::{Partition, SourceId};
use ducktide_protocol::{StagedFile, TableVersion};

use crate::batch::dead_letter::DeadLetterCounts;

/// Files and progress of one batcher between two cuts.
#[derive(Debug, Default)]
pub(crate) struct PartialBatch {
    pub(crate) progress: Vec<ProgressDelta>,
    pub(crate) files: Vec<StagedFile>,
    pub(crate) table_versions: Vec<TableVersion>,
    pub(crate) schema_ids: SchemaIds,
    pub(crate) stats: CommitStats,
}

/// Statistics of a batch that are reported after its commit.
#[derive(Debug, Default)]
pub(crate) struct CommitStats {
    /// Number of dead letters by error class.
    pub(crate) dead_letters: DeadLetterCounts,
    /// Kafka timestamp of the newest record of each partition, milliseconds since 1970.
    pub(crate) newest: BTreeMap<(SourceId, Partition), i64>,
    /// Time that the batchers have worked on the batch.
    pub(crate) worked: Duration,
}

/// Merges the partial batches of all batchers into one commit; returns None without progress.
pub(crate) fn merge(parts: Vec<PartialBatch>) -> Option<(Commit, CommitStats)> {
    let mut all = PartialBatch::default();
    for part in parts {
        all.progress.extend(part.progress);
        all.files.extend(part.files);
        for (source, ids) in part.schema_ids {
            all.schema_ids.entry(source).or_default().extend(ids);
        }
        for (class, count) in part.stats.dead_letters {
            *all.stats.dead_letters.entry(class).or_default() += count;
        }
        all.stats.newest.extend(part.stats.newest);
        all.stats.worked += part.stats.worked;
        for version in part.table_versions {
            if !all.table_versions.contains(&version) {
                all.table_versions.push(version);
            }
        }
    }
    let PartialBatch { progress, files, table_versions, schema_ids, stats } = all;
    (!progress.is_empty())
        .then(|| (Commit::ingest(progress, files, table_versions).of_schemas(schema_ids), stats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_batches_without_progress_make_no_commit() {
        assert!(merge(vec![PartialBatch::default(), PartialBatch::default()]).is_none());
    }
}
