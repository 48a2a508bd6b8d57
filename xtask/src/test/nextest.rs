//! Runs the tests with real services with cargo-nextest, each in its own process.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::cargo_test::TestCounts;
use crate::{cargo, layout};

/// Selection of the tests marked `#[ignore]`; see `.config/nextest.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TestSelection {
    /// All tests except those of separate steps.
    All,
    /// One test for each area.
    OnePerArea,
    /// Tests that need promtool.
    Monitoring,
    /// Tests of the archive.
    Package,
    /// Tests that need an object store.
    ObjectStorage,
    /// Tests with object stores of Azure and Google Cloud.
    OtherStores,
}

impl TestSelection {
    const fn profile(self) -> &'static str {
        match self {
            Self::All => "default",
            Self::OnePerArea => "fast",
            Self::Monitoring => "monitoring",
            Self::Package => "package",
            Self::ObjectStorage => "object-storage",
            Self::OtherStores => "other-stores",
        }
    }
}

/// Builds all tests and stores the list of test programs for later runs. Those runs do not call
/// cargo again, and so do not wait for the lock of a concurrent cargo.
pub(super) fn build() -> Result<()> {
    let mut build = cargo::command(["build", "--release", "--locked", "--workspace"]);
    let status = build.arg("--all-targets").status().context("start cargo")?;
    ensure!(status.success(), "cargo build failed: {status}");
    fs::create_dir_all(folder()).context("create a folder for nextest")?;
    let mut list = nextest("list");
    list.args(["--release", "--locked", "--workspace", "--list-type", "binaries-only"]);
    write(list.args(["--message-format", "json"]), BINARIES)?;
    write(&mut cargo::command(["metadata", "--format-version", "1", "--locked"]), METADATA)
}

/// Runs tests that [`build`] has built; returns whether all passed, and the counts.
#[expect(clippy::print_stdout, reason = "prints the output of the tests")]
pub(super) fn run(
    selection: TestSelection,
    environment: &[(String, String)],
) -> Result<(bool, TestCounts)> {
    let profile = selection.profile();
    let mut command = nextest("run");
    command
        .arg("--binaries-metadata")
        .arg(folder().join(BINARIES))
        .arg("--cargo-metadata")
        .arg(folder().join(METADATA))
        .args(["--run-ignored", "only", "--profile", profile, "--no-input-handler"])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("start cargo-nextest")?;
    // nextest reports to standard error.
    let lines = BufReader::new(child.stderr.take().context("its output is piped")?).lines();
    let mut counts = TestCounts::default();
    for line in lines {
        let line = line.context("read the output of cargo-nextest")?;
        println!("{line}");
        counts = TestCounts::of_nextest(&line).unwrap_or(counts);
    }
    let status = child.wait().context("wait for cargo-nextest")?;
    print_slowest(profile)?;
    Ok((status.success(), counts))
}

const BINARIES: &str = "binaries.json";
const METADATA: &str = "metadata.json";

fn folder() -> PathBuf {
    layout::root().join("target/nextest")
}

fn nextest(verb: &str) -> Command {
    let mut command = cargo::program(layout::tool("cargo-nextest"));
    command.args(["nextest", verb]);
    command
}

fn write(command: &mut Command, name: &str) -> Result<()> {
    let path = folder().join(name);
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let status = command.stdout(file).status().context("list the tests' programs")?;
    ensure!(status.success(), "list the tests' programs: {status}");
    Ok(())
}

/// Number of the slowest tests to list.
const SLOWEST: usize = 20;

#[expect(clippy::print_stdout, reason = "artifact of the report")]
fn print_slowest(profile: &str) -> Result<()> {
    let report = folder().join(profile).join("junit.xml");
    let report =
        fs::read_to_string(&report).with_context(|| format!("read {}", report.display()))?;
    let mut tests = times(&report);
    tests.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = tests.iter().map(|(seconds, _)| seconds).sum();
    println!("\n{} tests took {total:.0} s in total; the slowest:", tests.len());
    for (seconds, name) in tests.iter().take(SLOWEST) {
        println!("{seconds:>8.1} s  {name}");
    }
    Ok(())
}

/// Returns the seconds and the name of each test in a report in `JUnit` format.
fn times(report: &str) -> Vec<(f64, String)> {
    let cases = report.split("<testcase ").skip(1);
    cases
        .filter_map(|case| {
            let tag = format!(" {}", case.split('>').next()?);
            let attribute = |name: &str| {
                let (_, value) = tag.split_once(&format!(" {name}=\""))?;
                value.split('"').next().map(str::to_owned)
            };
            let name = format!("{} {}", attribute("classname")?, attribute("name")?);
            Some((attribute("time")?.parse().ok()?, name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_from_a_report() {
        let report = r#"<testsuite name="a::b"><testcase name="on_sqlite::x" classname="a::b"
            timestamp="2026-11-29T07:00:00Z" time="12.500"></testcase>
            <testcase name="y" classname="a::b" time="0.5"/></testsuite>"#;
        let expected = [(12.5, "a::b on_sqlite::x".to_owned()), (0.5, "a::b y".to_owned())];
        assert_eq!(times(report), expected);
    }
}
