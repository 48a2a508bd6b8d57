//! Message of a commit to `ducktide_commit_files`; `postgres_commit_files.sql` describes it.

use ducktide_protocol::StagedFile;
use ducktide_protocol::commit::Commit;
use serde::Serialize;

use super::{author, partition_directory};
use crate::catalog::layout::TRIGGER_VERSION;

/// Directory of rows without a date, as in Hive: the partition value is NULL.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Version of the message.
const VERSION: u8 = 1;

#[derive(Serialize)]
struct Request<'a> {
    author: &'a str,
    words: &'a str,
    extra: String,
    triggers: u32,
    ignore_replays: bool,
    versions: Vec<VersionOfTable<'a>>,
    files: Vec<FileOfTable<'a>>,
    /// The last field: a proxy that has seen it has seen the whole message.
    ducktide_commit_files: u8,
}

#[derive(Serialize)]
struct VersionOfTable<'a> {
    schema: &'a str,
    table: &'a str,
    changed_at: i64,
}

#[derive(Serialize)]
struct FileOfTable<'a> {
    schema: &'a str,
    table: &'a str,
    name: String,
    path: String,
    rows: u64,
    bytes: u64,
    footer: u64,
    partition: Vec<Option<&'a str>>,
    columns: Vec<Column<'a>>,
}

/// ID, bytes, values, NULLs, minimum, maximum, presence of NaN.
type Column<'a> =
    (i32, i64, Option<u64>, Option<u64>, Option<&'a str>, Option<&'a str>, Option<bool>);

/// Returns the message of a commit as JSON. With `ignore_replays` it does not wait for announced replays.
pub(super) fn request(commit: &Commit, ignore_replays: bool) -> String {
    let (author, words) = author(commit.kind());
    let versions = commit.table_versions().iter().map(|version| VersionOfTable {
        schema: &version.table.schema,
        table: &version.table.table,
        changed_at: version.changed_at.0,
    });
    let request = Request {
        author,
        words,
        extra: commit.message().to_json(),
        triggers: TRIGGER_VERSION,
        ignore_replays,
        versions: versions.collect(),
        files: commit.files().iter().map(file).collect(),
        ducktide_commit_files: VERSION,
    };
    serde_json::to_string(&request).expect("numbers, texts and fixed names always serialize")
}

fn file(of: &StagedFile) -> FileOfTable<'_> {
    let columns = of.footer.columns.iter().map(|column| {
        let (min, max) = (column.min.as_deref(), column.max.as_deref());
        (column.id, column.bytes, column.values, column.nulls, min, max, column.contains_nan)
    });
    let value = partition_directory(&of.path).and_then(|name| name.split_once('='));
    let value = value.map(|(_, value)| Some(value).filter(|value| *value != NULL_PARTITION));
    FileOfTable {
        schema: &of.table.schema,
        table: &of.table.table,
        name: of.table.to_string(),
        path: of.path.to_string_lossy().into_owned(),
        rows: of.rows,
        bytes: of.bytes,
        footer: of.footer.bytes,
        partition: value.into_iter().collect(),
        columns: columns.collect(),
    }
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::commit::{Counts, ProgressDelta};
    use ducktide_protocol::position::{Epoch, Offset, OffsetRange, Partition, SourceId};
    use ducktide_protocol::{FileFooter, StagedColumn};

    use super::*;

    fn commit(directory: &str) -> Commit {
        let delta = ProgressDelta {
            source: SourceId(1),
            partition: Partition(0),
            epoch: Epoch(0),
            range: OffsetRange { from: Offset(5), to: Offset(7) },
            counts: Counts { rows: 2, ..Counts::default() },
        };
        let column = StagedColumn { id: 1, bytes: 9, min: Some("a".into()), ..Default::default() };
        let file = StagedFile {
            path: format!("/lake/main/events/{directory}ducktide-1.parquet").into(),
            table: "events".parse().unwrap(),
            rows: 2,
            bytes: 100,
            footer: FileFooter { bytes: 50, columns: vec![column] },
        };
        Commit::ingest(vec![delta], vec![file], Vec::new())
    }

    #[test]
    fn a_request_names_files_with_their_partitions() {
        for (directory, partition) in [
            ("", "[]"),
            ("event_date=2026-11-01/", r#"["2026-11-01"]"#),
            ("event_date=__HIVE_DEFAULT_PARTITION__/", "[null]"),
        ] {
            let json = request(&commit(directory), false);
            let expected = format!(
                r#""rows":2,"bytes":100,"footer":50,"partition":{partition},"columns":[[1,9,null,null,"a",null,null]]}}],"ducktide_commit_files":1}}"#
            );
            assert!(json.ends_with(&expected), "{json}");
        }
    }
}
