//! A minute of libFuzzer for the decoder, from the corpus in the repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::Outcome;
use crate::{cargo, layout};

/// The programs of `decoder/fuzz`, half of the time each.
const TARGETS: [&str; 2] = ["avro", "json"];

/// Seconds for each of them.
const SECONDS: u32 = 30;

/// What `cargo fuzz` builds with, for a stable compiler and without a sanitizer: counters at each
/// branch, and comparisons that libFuzzer sees.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing";

/// libFuzzer is C++; where there is no compiler for it, this is not checked.
pub(super) fn run() -> Result<Outcome> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let found = Command::new(&compiler).arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        let why = format!("no C++ compiler `{compiler}`: the decoder was NOT fuzzed");
        return Ok(Outcome::Skipped(why));
    }
    let folder = layout::root().join("decoder/fuzz");
    let built = build(&folder)?;
    for target in TARGETS {
        fuzz(&folder, &built.join(target), target)?;
    }
    Ok(Outcome::Ok)
}

/// Returns where the programs are. For a named target, as the flags are not for build scripts then.
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
    ensure!(status.success(), "build decoder/fuzz: {status}");
    Ok(output.join(host).join("release"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc says no host")?.to_owned())
}

/// New inputs go into a folder of their own: the corpus is what was chosen for it.
fn fuzz(folder: &Path, program: &Path, target: &str) -> Result<()> {
    let found = layout::root().join("target/fuzz/found").join(target);
    fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
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
        "{target} found an input that breaks the decoder, see above; again with \
         `{} FILE`: {status}",
        program.display()
    );
    Ok(())
}
