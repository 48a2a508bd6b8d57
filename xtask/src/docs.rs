//! `cargo xtask docs`: writes the pages generated from the code, or checks them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cargo, layout, setup};

/// A page that an example of the package `ducktide` prints.
struct Page {
    /// Path below the root of the workspace.
    path: &'static str,
    example: &'static str,
}

const PAGES: [Page; 2] = [
    Page { path: "docs/configuration.md", example: "configuration" },
    Page { path: "docs/metrics.md", example: "metrics" },
];

/// `cargo xtask docs [--check]`.
#[expect(clippy::print_stdout, reason = "the result is printed")]
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let check_only = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("unknown argument; docs only takes --check arguments=`{}`", arguments.join(" ")),
    };
    setup::for_build()?;
    build()?;
    for page in &PAGES {
        let path = page.path;
        if check_only {
            page.check()?;
            println!("docs: {path} is up to date");
        } else {
            fs::write(page.file(), page.render()?).with_context(|| format!("write {path}"))?;
            println!("docs: wrote {path}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails if a page is out of date.
pub(crate) fn check() -> Result<()> {
    build()?;
    PAGES.iter().try_for_each(Page::check)
}

/// Builds with the features of `cargo test --workspace`, so that nothing has to be built after the
/// tests. The examples are started directly, because `cargo run` would use the features of a single
/// package.
fn build() -> Result<()> {
    let build = ["build", "--release", "--locked", "--workspace", "--exclude", "xtask"];
    let mut cargo = cargo::command(build);
    for page in &PAGES {
        cargo.args(["--example", page.example]);
    }
    ensure!(cargo.status().context("start cargo build")?.success(), "cargo build failed");
    Ok(())
}

impl Page {
    fn file(&self) -> PathBuf {
        layout::root().join(self.path)
    }

    fn check(&self) -> Result<()> {
        let path = self.path;
        let made = self.render()?;
        let found = fs::read_to_string(self.file()).with_context(|| format!("read {path}"))?;
        let Some(line) = first_difference(&found, &made) else { return Ok(()) };
        bail!("{path} is out of date: run `cargo xtask docs` and commit it first_line=`{line}`")
    }

    fn render(&self) -> Result<String> {
        let name = self.example;
        let mut example = Command::new(layout::binary()?.with_file_name("examples").join(name));
        // The rpath to the DuckDB library works only with the default target folder.
        let output = example.env("LD_LIBRARY_PATH", layout::cache().join("duckdb")).output();
        let output = output.with_context(|| format!("start the example {name}"))?;
        ensure!(
            output.status.success(),
            "the example {name} ended with {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
        String::from_utf8(output.stdout).context("read the page")
    }
}

/// Returns the number of the first line in which two texts differ, counted from one.
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
    fn the_first_different_line_is_found() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
    }

    #[test]
    fn a_shorter_text_differs_after_its_last_line() {
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
        assert_eq!(first_difference("a", "a\n"), Some(2));
    }
}
