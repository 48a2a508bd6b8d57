//! Runs libFuzzer on the decoder for a minute, starting with the corpus in the repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::outcome::StepOutcome;
use crate::{cargo, layout};

/// Programs of `crates/decoder/fuzz`; each gets half of the time.
const TARGETS: [&str; 2] = ["avro", "json"];

/// Duration per target, seconds.
const SECONDS: u32 = 30;

/// Flags that `cargo fuzz` builds with, for a stable compiler and without a sanitizer: counters at
/// each branch, and comparisons visible to libFuzzer.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing";

/// Runs the step. libFuzzer is C++; without a C++ compiler the step is skipped.
pub(super) fn run() -> Result<StepOutcome> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let found = Command::new(&compiler).arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        let reason = format!("no C++ compiler `{compiler}`: the decoder was NOT TESTED");
        return Ok(StepOutcome::Skipped(reason));
    }
    let folder = layout::root().join("crates/decoder/fuzz");
    let built = build(&folder)?;
    for target in TARGETS {
        fuzz(&folder, &built.join(target), target)?;
    }
    Ok(StepOutcome::Ok)
}

/// Builds the targets and returns their folder. A target triple is given, so that the flags do not
/// apply to build scripts.
fn build(folder: &Path) -> Result<PathBuf> {
    let (host, output) = (host()?, layout::root().join("target/fuzz"));
    let manifest = folder.join("Cargo.toml");
    let status = cargo::command(["build", "--release", "--locked", "--bins", "--target", &host])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(&output)
        .env("RUSTFLAGS", FLAGS)
        .status()
        .context("start cargo")?;
    ensure!(status.success(), "build crates/decoder/fuzz: {status}");
    Ok(output.join(host).join("release"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not report its host")?.to_owned())
}

/// Runs one target. New inputs go into a separate folder, because the corpus contains selected
/// inputs only.
fn fuzz(folder: &Path, program: &Path, target: &str) -> Result<()> {
    let found = layout::root().join("target/fuzz/found").join(target);
    fs::create_dir_all(&found).with_context(|| format!("create {}", found.display()))?;
    let crashes = layout::root().join("target/fuzz/crash-");
    let status = Command::new(program)
        .args([&found, &folder.join("corpus").join(target)])
        .arg(format!("-max_total_time={SECONDS}"))
        .arg(format!("-artifact_prefix={}", crashes.display()))
        .args(["-timeout=10", "-rss_limit_mb=512", "-print_final_stats=1", "-verbosity=0"])
        .status()
        .with_context(|| format!("start {}", program.display()))?;
    ensure!(
        status.success(),
        "{target} found a failing input, see above; reproduce with \
         `{} FILE`: {status}",
        program.display()
    );
    Ok(())
}
