//! A client that died, or froze, inside its write to a catalog.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{duckdb_cli::quoted, workspace};

/// A process of its own that has written to a catalog and neither commits nor goes away. Dropping
/// it rolls back.
#[derive(Debug)]
pub struct HeldCatalog {
    process: Child,
    input: Option<ChildStdin>,
}

/// What the client says once it holds the catalog.
const HOLDING: &str = "holding";

impl HeldCatalog {
    /// Inserts the next snapshot's number, where every commit has to pass, and stays there.
    pub fn hold(catalog: &str) -> Result<Self> {
        let (kind, address) = match catalog.split_once(':') {
            Some(("sqlite", path)) => ("sqlite", path),
            _ => ("postgres", catalog),
        };
        let extension = workspace::extension(&format!("{kind}_scanner"))?;
        let statements = format!(
            "LOAD {};\nATTACH {} AS catalog (TYPE {kind});\nBEGIN;\n\
             INSERT INTO catalog.ducklake_snapshot(snapshot_id) \
             SELECT max(snapshot_id) + 1 FROM catalog.ducklake_snapshot;\nSELECT '{HOLDING}';\n",
            quoted(&extension.display().to_string()),
            quoted(address),
        );
        let mut process = Command::new(workspace::downloaded("duckdb-cli/duckdb")?)
            .args(["-no-init", "-bail", "-noheader", "-list"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A catalog that somebody else writes to refuses; the caller is told.
            .stderr(Stdio::null())
            .spawn()
            .context("start the DuckDB command line")?;
        let mut input = process.stdin.take().context("standard input is piped")?;
        input.write_all(statements.as_bytes()).context("write to the DuckDB command line")?;
        input.flush().context("write to the DuckDB command line")?;
        let output = process.stdout.take().context("standard output is piped")?;
        let held = Self { process, input: Some(input) };
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        ensure!(lines.any(|line| line == HOLDING), "the catalog could not be held");
        Ok(held)
    }

    /// The client goes away; the catalog rolls its transaction back.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for HeldCatalog {
    fn drop(&mut self) {
        drop(self.input.take());
        // An error means that it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
