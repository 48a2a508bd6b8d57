//! `cargo xtask simulate`: runs the simulation of the consumer with fresh or given seeds.

use std::process::{Child, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cargo, layout, setup};

/// Test that runs consecutive seeds.
const TEST: &str = "simulation::tests::fresh_seeds_hold_the_guarantee";

/// Distance between the first seeds of two jobs: more schedules than a job runs in a week.
const SEEDS_PER_JOB: u64 = 1 << 32;

/// Arguments of the build and of the runs. All packages are built together, because a single one would have
/// other features, and its dependencies would be compiled again.
const TESTS: [&str; 7] =
    ["test", "--release", "--locked", "--workspace", "--exclude", "xtask", "--lib"];

/// Options of the verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    /// First seed; None for a random one.
    seed: Option<u64>,
    minutes: u64,
    jobs: u64,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { seed: None, minutes: 1, jobs: 1 };
        for pair in arguments.chunks(2) {
            let [flag, value] = pair else {
                bail!("argument without a value; see `cargo xtask --help` argument=`{}`", pair[0]);
            };
            let number: u64 =
                value.parse().with_context(|| format!("expected a number: {flag}=`{value}`"))?;
            match flag.as_str() {
                "--seed" => options.seed = Some(number),
                "--minutes" => options.minutes = number,
                "--jobs" => options.jobs = number,
                _ => {
                    bail!("unknown argument; simulate takes --seed, --minutes and --jobs: `{flag}`")
                }
            }
        }
        ensure!(options.minutes > 0 && options.jobs > 0, "--minutes and --jobs are at least 1");
        Ok(options)
    }

    /// Returns the first seed of a job.
    fn seed_of(self, job: u64) -> Option<u64> {
        self.seed.map(|seed| seed.wrapping_add(job.wrapping_mul(SEEDS_PER_JOB)))
    }
}

/// `cargo xtask simulate [--seed N] [--minutes M] [--jobs J]`.
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    setup::for_build()?;
    let built = cargo::command(TESTS).arg("--no-run").status().context("start cargo")?;
    ensure!(built.success(), "build the tests: {built}");
    let jobs = (0..options.jobs).map(|job| start(options, job)).collect::<Result<Vec<_>>>()?;
    let mut is_successful = true;
    for mut job in jobs {
        is_successful &= job.wait().context("wait for cargo")?.success();
    }
    Ok(if is_successful { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn start(options: Options, job: u64) -> Result<Child> {
    let mut cargo = cargo::command(TESTS);
    cargo.args(["--quiet", "--", "--exact", TEST, "--nocapture"]);
    cargo.env("DUCKTIDE_SIMULATION_SECONDS", (options.minutes * 60).to_string());
    cargo.env("LD_LIBRARY_PATH", layout::cache().join("duckdb"));
    if let Some(seed) = options.seed_of(job) {
        cargo.env("DUCKTIDE_SIMULATION_SEED", seed.to_string());
    }
    cargo.spawn().context("start cargo")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn options_have_defaults_and_are_checked() {
        let default = Options { seed: None, minutes: 1, jobs: 1 };
        assert_eq!(parse(&[]).unwrap(), default);
        let given = parse(&["--seed", "7", "--minutes", "60", "--jobs", "2"]).unwrap();
        assert_eq!(given, Options { seed: Some(7), minutes: 60, jobs: 2 });
        assert_eq!((given.seed_of(0), given.seed_of(1)), (Some(7), Some(7 + SEEDS_PER_JOB)));
        for wrong in [&["--seed"][..], &["--seed", "x"], &["--minutes", "0"], &["--hours", "1"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
