//! `cargo xtask chaos`: attacks the pipeline for as long as one likes, and says whether it held.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use ducktide_testbed::{
    catalog::CatalogKind,
    chaos::{self, Options},
};

use crate::verbs::signals;

/// What `cargo xtask chaos` takes.
#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// Makes the schedule of faults: the same one for the same seed. Odd seeds run in Kafka's
    /// consumer protocol (KIP-848), even ones in the classic protocol with static members.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How long faults are injected.
    #[arg(long, value_name = "M", default_value_t = 5.0)]
    minutes: f64,

    /// Where the lake's catalog is.
    #[arg(long, value_enum, default_value = "postgres")]
    catalog: CatalogArg,

    /// How many consumers share the topic.
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=16))]
    consumers: u8,

    /// Events per second.
    #[arg(long, value_name = "N", default_value_t = 1_500)]
    rate: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CatalogArg {
    Postgres,
    Sqlite,
}

/// Runs it. Errors when the lake is not exact.
#[expect(clippy::print_stdout, reason = "the report is the result")]
pub(crate) fn run(args: &ChaosArgs) -> Result<()> {
    signals::exit_on_interrupt("interrupted: every process has been told to end".to_owned());
    let options = Options {
        seed: args.seed,
        length: Duration::try_from_secs_f64(args.minutes * 60.0)?,
        catalog: match args.catalog {
            CatalogArg::Postgres => CatalogKind::Postgres,
            CatalogArg::Sqlite => CatalogKind::Sqlite,
        },
        consumers: args.consumers.into(),
        rate: args.rate,
    };
    let report = chaos::run(&options, &mut |text| println!("{text}"))?;
    println!("\n{report}");
    ensure!(report.is_exact(), "the lake is not exact; run the same schedule again by its seed");
    Ok(())
}
