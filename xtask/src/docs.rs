//! `cargo xtask docs`: writes the pages that are made from the code, or checks that they are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cargo, layout, setup};

/// The page, below the workspace's root.
const PAGE: &str = "docs/configuration.md";

/// The example of the package `ducktide` that prints it.
const EXAMPLE: &str = "configuration";

/// `cargo xtask docs [--check]`.
#[expect(clippy::print_stdout, reason = "the verb says what it did")]
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let check_only = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("docs takes no argument but --check; found `{}`", arguments.join(" ")),
    };
    setup::for_build()?;
    if check_only {
        check()?;
        println!("docs: {PAGE} is up to date");
    } else {
        fs::write(page(), make()?).with_context(|| format!("write {PAGE}"))?;
        println!("docs: wrote {PAGE}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails when the page is not what the code says now.
pub(crate) fn check() -> Result<()> {
    let made = make()?;
    let found = fs::read_to_string(page()).with_context(|| format!("read {PAGE}"))?;
    let Some(line) = first_difference(&found, &made) else { return Ok(()) };
    bail!("{PAGE} is out of date: run `cargo xtask docs` and commit the page first_line=`{line}`")
}

fn page() -> PathBuf {
    layout::root().join(PAGE)
}

/// Builds with the features of `cargo test --workspace`, so that after the tests nothing is left to
/// build; then starts the example itself, because `cargo run` takes one package alone.
fn make() -> Result<String> {
    let build = ["build", "--release", "--locked", "--workspace", "--exclude", "xtask"];
    let mut cargo = cargo::command(build);
    cargo.args(["--example", EXAMPLE]);
    ensure!(cargo.status().context("start cargo build")?.success(), "cargo build failed");
    print(&env::current_exe().context("find xtask's binary")?.with_file_name("examples"))
}

fn print(examples: &Path) -> Result<String> {
    let mut example = Command::new(examples.join(EXAMPLE));
    // Its rpath leads to DuckDB's library only while the target folder is the workspace's own.
    let output = example.env("LD_LIBRARY_PATH", layout::cache().join("duckdb")).output();
    let output = output.with_context(|| format!("start the example {EXAMPLE}"))?;
    ensure!(
        output.status.success(),
        "the example {EXAMPLE} ended with {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8(output.stdout).context("read the page")
}

/// The number of the first line in which two texts differ, counted from one.
fn first_difference(a: &str, b: &str) -> Option<usize> {
    if a == b {
        return None;
    }
    let same = a.lines().zip(b.lines()).take_while(|(a, b)| a == b).count();
    Some(same + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_differ_first_where_their_lines_do() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
    }

    #[test]
    fn a_text_that_ends_early_differs_after_its_last_line() {
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
        assert_eq!(first_difference("a", "a\n"), Some(2));
    }
}
