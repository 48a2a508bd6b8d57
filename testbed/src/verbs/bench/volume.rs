//! Size of a benchmark.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
};

use clap::Args;

/// Number of events, partitions and runs.
#[derive(Debug, Args)]
pub(super) struct Volume {
    /// Number of events in the topic.
    #[arg(long, value_name = "N", default_value = "3000000")]
    pub(super) rows: NonZeroU64,

    /// Number of runs of each program; the median is reported.
    #[arg(long, value_name = "N", default_value = "5")]
    pub(super) runs: NonZeroU32,

    /// Number of partitions of the topic.
    #[arg(long, value_name = "N", default_value = "8")]
    pub(super) partitions: NonZeroU32,

    /// File for the results as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,

    /// Additional arguments of the measured program, such as `-- --batchers 1`.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub(super) program_arguments: Vec<String>,
}
