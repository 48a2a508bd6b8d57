//! Storage into which a benchmark drains.

use std::path::Path;

use anyhow::Result;
use ducktide_testbed::{
    faults::{RequestCounts, RequestKind, StoreFaultProxy},
    lake_place::LakePlace,
    services::{BucketStore as _, S3},
};

/// Storage of the lakes of a benchmark.
pub(super) enum DrainTarget<'a> {
    /// Folder of the run.
    Local,
    /// Object store.
    S3(&'a S3),
    /// Object store behind a proxy that counts requests.
    CountedS3(&'a S3, &'a StoreFaultProxy),
}

impl DrainTarget<'_> {
    /// Returns the place of a new lake with this name.
    pub(super) fn place(&self, name: &str, folder: &Path) -> Result<LakePlace> {
        match self {
            Self::Local => Ok(LakePlace::folder(folder.join("files"))),
            Self::S3(store) => LakePlace::new_bucket(*store, name, store.port()),
            Self::CountedS3(store, proxy) => LakePlace::new_bucket(*store, name, proxy.port()),
        }
    }
}

/// Returns the requests of each kind, and their ratio to the commits.
pub(super) fn requests_text(counts: &RequestCounts, commits: usize, files: f64) -> String {
    let commits = f64::from(u32::try_from(commits).unwrap_or(u32::MAX));
    let row = |(kind, count): (RequestKind, u64)| {
        let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        format!("| {} | {count} | {:.2} |\n", kind.name(), count / commits)
    };
    let rows: String = counts.iter().map(row).collect();
    format!(
        "\nRequests of a whole run with {commits} commits and {files} files:\n\n\
         | request | number | per commit |\n|:--|--:|--:|\n{rows}"
    )
}
