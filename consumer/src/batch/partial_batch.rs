//! What batchers hand to the worker, and how it becomes one lake commit.

use std::collections::BTreeMap;

use ducktide_lake::commit::{Commit, ProgressDelta, SchemaIds};
use ducktide_lake::position::{Partition, SourceId};
use ducktide_lake::{StagedFile, TableVersion};

use crate::batch::dead_letter::LetterCounts;
use crate::batch::staging::remove_file;

/// What one batcher gathered between two cuts.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) progress: Vec<ProgressDelta>,
    pub(crate) files: Vec<StagedFile>,
    pub(crate) table_versions: Vec<TableVersion>,
    pub(crate) schema_ids: SchemaIds,
    pub(crate) told: Told,
}

impl Part {
    /// Removes the files, which no commit may have seen.
    pub(crate) fn remove_files(self) {
        self.files.iter().for_each(|file| remove_file(&file.path));
    }
}

/// What is told of a batch once it is committed.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Its dead letters by what is wrong with them.
    pub(crate) letters: LetterCounts,
    /// For each partition Kafka's time of the newest record, milliseconds since 1970.
    pub(crate) newest: BTreeMap<(SourceId, Partition), i64>,
}

/// Joins the parts of all batchers into one commit; None when nothing happened.
pub(crate) fn join(parts: Vec<Part>) -> Option<(Commit, Told)> {
    let mut all = Part::default();
    for part in parts {
        all.progress.extend(part.progress);
        all.files.extend(part.files);
        for (source, ids) in part.schema_ids {
            all.schema_ids.entry(source).or_default().extend(ids);
        }
        for (class, count) in part.told.letters {
            *all.told.letters.entry(class).or_default() += count;
        }
        all.told.newest.extend(part.told.newest);
        for version in part.table_versions {
            if !all.table_versions.contains(&version) {
                all.table_versions.push(version);
            }
        }
    }
    let Part { progress, files, table_versions, schema_ids, told } = all;
    (!progress.is_empty())
        .then(|| (Commit::ingest(progress, files, table_versions).of_schemas(schema_ids), told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_without_progress_make_no_commit() {
        assert!(join(vec![Part::default(), Part::default()]).is_none());
    }
}
