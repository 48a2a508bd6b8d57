//! Client that holds a write transaction on a catalog open, as after a crash or a freeze.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{duckdb_cli::quoted, workspace};

/// Process with an open write transaction on a catalog. Dropping it rolls back.
#[derive(Debug)]
pub struct HeldCatalog {
    process: Child,
    input: Option<ChildStdin>,
}

/// Text that the client prints once it has written to the catalog.
const HOLDING: &str = "holding";

impl HeldCatalog {
    /// Inserts the next snapshot ID, which every commit needs, and leaves the transaction open.
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
            // The only expected error is a locked catalog; the caller gets an error of its own.
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

    /// Ends the client; the catalog rolls back its transaction.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for HeldCatalog {
    fn drop(&mut self) {
        drop(self.input.take());
        // An error means that it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
