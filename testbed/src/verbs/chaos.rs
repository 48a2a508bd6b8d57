//! `cargo xtask chaos`: injects faults into the pipeline, and checks the lake.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use ducktide_testbed::{
    catalog::CatalogKind,
    chaos::{self, Options},
};

use crate::verbs::{signals, storage_kind::StorageKind};

/// Arguments of `cargo xtask chaos`.
#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// Seed of the fault schedule; the same seed gives the same schedule. Odd seeds use Kafka's
    /// consumer protocol (KIP-848), even ones the classic protocol with static members.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Duration of the fault injection, in minutes.
    #[arg(long, value_name = "M", default_value_t = 5.0)]
    minutes: f64,

    /// Catalog of the lake.
    #[arg(long, value_enum, default_value = "postgres")]
    catalog: CatalogArg,

    /// Storage of the lake's files. `s3` starts versitygw, an object store, and has faults of the store
    /// instead of faults of the disk.
    #[arg(long, value_enum, default_value = "local")]
    storage: StorageKind,

    /// Number of consumers in the group.
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=16))]
    consumers: u8,

    /// Events per second of the producer.
    #[arg(long, value_name = "N", default_value_t = 1_500)]
    rate: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CatalogArg {
    Postgres,
    Sqlite,
}

/// Runs the chaos test; an error when the lake is not exact.
#[expect(clippy::print_stdout, reason = "the report is the result")]
pub(crate) fn run(args: &ChaosArgs) -> Result<()> {
    signals::exit_on_interrupt("interrupted: all started processes are ending".to_owned());
    let options = Options {
        seed: args.seed,
        length: Duration::try_from_secs_f64(args.minutes * 60.0)?,
        catalog: match args.catalog {
            CatalogArg::Postgres => CatalogKind::Postgres,
            CatalogArg::Sqlite => CatalogKind::Sqlite,
        },
        in_object_storage: args.storage == StorageKind::S3,
        consumers: args.consumers.into(),
        rate: args.rate,
    };
    let report = chaos::run(&options, &mut |text| println!("{text}"))?;
    println!("\n{report}");
    ensure!(report.is_exact(), "the lake is not exact; the seed gives the same schedule again");
    Ok(())
}
