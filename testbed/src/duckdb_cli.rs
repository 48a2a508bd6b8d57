//! DuckDB's command line: a reader of the lake that shares no code with Ducktide.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{program::Program, workspace};

/// Lake, as seen by DuckDB's command line.
#[derive(Debug, Clone)]
pub struct Lake {
    /// Statements before the lake is attached.
    setup: String,
    attach: String,
    attach_to_write: String,
}

impl Lake {
    /// Returns the lake with this catalog (`sqlite:PATH` or `postgres://…`) and data path.
    pub fn at(catalog: &str, data_path: &str) -> Result<Self> {
        let address = match catalog.split_once(':') {
            Some(("sqlite", _)) => catalog.to_owned(),
            Some(("postgres" | "postgresql", _)) => format!("postgres:{catalog}"),
            _ => bail!("a catalog is `sqlite:PATH` or `postgres://…`, not `{catalog}`"),
        };
        let (address, data_path) = (quoted(&format!("ducklake:{address}")), quoted(data_path));
        let attach = |options: &str| {
            format!("ATTACH {address} AS lake (DATA_PATH {data_path}{options}); USE lake;")
        };
        Ok(Self {
            setup: String::new(),
            attach: attach(", READ_ONLY"),
            attach_to_write: attach(""),
        })
    }

    /// Returns the lake with statements that run before it is attached.
    #[must_use]
    pub fn with_setup(self, setup: String) -> Self {
        Self { setup, ..self }
    }

    /// Returns the rows of a query, each as an object of its columns. The lake is the default
    /// database.
    pub fn query(&self, sql: &str) -> Result<Vec<Value>> {
        run(&[&load_extensions()?, &self.setup, &self.attach, sql])
    }

    /// Begins a transaction that stays open, in a process of its own.
    pub fn begin(&self) -> Result<Transaction> {
        let mut child = Command::new(workspace::downloaded("duckdb-cli/duckdb")?)
            .args(OPTIONS)
            .args(["-csv", "-noheader"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the DuckDB command line")?;
        let input = child.stdin.take().context("its input is piped")?;
        let output = child.stdout.take().context("its output is piped")?;
        let mut begun = Transaction { child, input, output: BufReader::new(output) };
        begun.query(&format!("{} {} {} BEGIN;", load_extensions()?, self.setup, self.attach))?;
        Ok(begun)
    }

    /// Runs statements one by one, up to the first that fails. Each is a transaction of its own,
    /// unless the statements begin one.
    pub fn write(&self, statements: &[String]) -> Result<()> {
        let load = load_extensions()?;
        let before = [load.as_str(), self.setup.as_str(), self.attach_to_write.as_str()];
        run(&[before.as_slice(), &statements.iter().map(String::as_str).collect::<Vec<_>>()]
            .concat())
        .map(|_| ())
    }

    /// Returns the value of a query with one row and one column.
    pub fn scalar(&self, sql: &str) -> Result<Value> {
        let rows = self.query(sql)?;
        let [Value::Object(row)] = &rows[..] else {
            bail!("expected one row rows=`{}` sql=`{sql}`", rows.len());
        };
        ensure!(row.len() == 1, "expected one column columns=`{}` sql=`{sql}`", row.len());
        Ok(row.values().next().cloned().unwrap_or_default())
    }
}

/// Open transaction of DuckDB's command line. Dropping it ends the process.
#[derive(Debug)]
pub struct Transaction {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Line that the command line prints after each result.
const END_OF_RESULT: &str = "-- end of result";

impl Transaction {
    /// Returns the lines of a query's result, with values separated by commas. On an error the
    /// command line prints it to standard error and ends.
    pub fn query(&mut self, sql: &str) -> Result<Vec<String>> {
        writeln!(self.input, "{sql}\n.print {END_OF_RESULT}")
            .context("write to the command line")?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).context("read a result")?;
            ensure!(read > 0, "the DuckDB command line ended sql=`{sql}`");
            match line.trim_end() {
                END_OF_RESULT => return Ok(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a string as an SQL literal.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns a path as an SQL literal.
#[must_use]
pub fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// Options of every call: no settings of the user, stop at the first error, and no signature check,
/// which takes half a second for extensions that `cargo xtask setup` has verified.
const OPTIONS: [&str; 3] = ["-no-init", "-bail", "-unsigned"];

/// Returns the statements that load the extension files.
pub fn load_extensions() -> Result<String> {
    let names = ["ducklake", "sqlite_scanner", "postgres_scanner"];
    let load = |name| Ok(format!("LOAD {};", quoted_path(&workspace::extension(name)?)));
    names.into_iter().map(load).collect()
}

/// Returns the command line with a script; it stops at the first error.
pub fn program(script: &Path) -> Result<Program> {
    let program = Program::at(workspace::downloaded("duckdb-cli/duckdb")?);
    Ok(program.args(OPTIONS).args(["-f"]).args([script]))
}

/// Runs statements in one new in-memory database. Returns the rows of the last statement that has
/// any.
pub(crate) fn run(statements: &[&str]) -> Result<Vec<Value>> {
    let output = Command::new(workspace::downloaded("duckdb-cli/duckdb")?)
        .args(OPTIONS)
        .args(["-json"])
        .args(statements.iter().flat_map(|statement| ["-c", statement]))
        .stdin(Stdio::null())
        .output()
        .context("start the DuckDB command line")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the DuckDB command line failed: {}", errors.trim());
    let results = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Vec<Value>>();
    let results: Vec<_> = results.collect::<Result<_, _>>().context("parse query results")?;
    Ok(results.into_iter().last().unwrap_or_default())
}
