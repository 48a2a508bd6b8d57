//! Folder of the demonstration, and the settings of its programs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ducktide_testbed::{
    duckdb_cli::Lake,
    lake_place::LakePlace,
    program::{Program, RunningProgram},
    workspace,
};

use crate::verbs::{streaming_services::StreamingServices, terminal::Terminal};

/// Name of the table and of the topic.
pub(super) const TABLE: &str = "events";

/// Maximum time of a query, on a busy machine.
const QUERY_TIMEOUT: Duration = Duration::from_mins(2);

/// Folder and settings of the demonstration.
#[derive(Debug)]
pub(super) struct DemoContext {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    place: LakePlace,
}

/// Creates an empty folder for the demonstration, and returns its absolute path.
pub(super) fn create_folder(wanted: Option<PathBuf>) -> Result<PathBuf> {
    let folder = wanted.map_or_else(next_folder, Ok)?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut entries =
        fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    ensure!(entries.next().is_none(), "the folder is not empty folder=`{}`", folder.display());
    folder.canonicalize().with_context(|| format!("find {}", folder.display()))
}

/// Returns the next unused folder: `.ducktide/demo/1`, `2`, ...
fn next_folder() -> Result<PathBuf> {
    let all = workspace::root().join(".ducktide/demo");
    fs::create_dir_all(&all).with_context(|| format!("create {}", all.display()))?;
    let entries = fs::read_dir(&all).with_context(|| format!("read {}", all.display()))?;
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(all.join((numbers.max().unwrap_or(0_u64) + 1).to_string()))
}

/// Returns the folder of the logs.
pub(super) fn logs(folder: &Path) -> PathBuf {
    folder.join("logs")
}

impl DemoContext {
    pub(super) fn new(
        folder: PathBuf,
        streaming: &StreamingServices,
        place: LakePlace,
    ) -> Result<Self> {
        let mut context = Self { environment: streaming.environment().into(), place, folder };
        let own = [
            ("KAFKA_TOPIC", TABLE.to_owned()),
            ("KAFKA_TOPICS", TABLE.to_owned()),
            ("KAFKA_GROUP_ID", "demo".to_owned()),
            ("DUCKLAKE_CATALOG", context.catalog()),
            ("DUCKLAKE_DATA_PATH", context.data_path()),
            ("DUCKLAKE_TABLE", TABLE.to_owned()),
        ];
        context.environment.extend(own);
        context.environment.extend(context.place.settings.clone());
        fs::write(context.settings(), context.exports()?).context("write settings")?;
        Ok(context)
    }

    /// Returns the folder of all files.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of the catalog's SQLite file.
    pub(super) fn catalog_file(&self) -> PathBuf {
        self.folder.join("lake.sqlite")
    }

    /// Returns the value of `DUCKLAKE_CATALOG`.
    pub(super) fn catalog(&self) -> String {
        format!("sqlite:{}", self.catalog_file().display())
    }

    /// Returns the value of `DUCKLAKE_DATA_PATH`.
    pub(super) fn data_path(&self) -> String {
        self.place.data_path.display().to_string()
    }

    /// Returns the lake, for queries with DuckDB's command line.
    pub(super) fn lake(&self) -> Result<Lake> {
        self.place.lake(&self.catalog())
    }

    /// Returns the path of the producer's ledger.
    pub(super) fn ledger(&self) -> PathBuf {
        self.folder.join("ledger.csv")
    }

    pub(super) fn logs(&self) -> PathBuf {
        logs(&self.folder)
    }

    /// Returns the path of a shell script that sets the environment variables of the programs.
    pub(super) fn settings(&self) -> PathBuf {
        self.folder.join("env.sh")
    }

    fn exports(&self) -> Result<String> {
        let programs = workspace::program("ducktide")?;
        let programs = programs.parent().context("find the programs' folder")?.display();
        let exports =
            self.environment.iter().map(|(name, value)| format!("export {name}='{value}'\n"));
        Ok(exports.chain([format!("export PATH='{programs}':\"$PATH\"\n")]).collect())
    }

    /// Prints a command and starts it. `label` is the name of its log.
    pub(super) fn start(
        &self,
        terminal: &mut Terminal,
        program: &str,
        arguments: &[&str],
        label: &str,
    ) -> Result<RunningProgram> {
        terminal.command(&format!("$ {}", shown(program, arguments)));
        self.program(program, arguments)?.start(&self.logs(), label)
    }

    /// Prints a command and runs it to completion. Returns its standard output.
    pub(super) fn run(
        &self,
        terminal: &mut Terminal,
        program: &str,
        arguments: &[&str],
        label: &str,
    ) -> Result<String> {
        terminal.command(&format!("$ {}", shown(program, arguments)));
        self.program(program, arguments)?.run(&self.logs(), label, QUERY_TIMEOUT)
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Result<Program> {
        let program = Program::named(name)?.args(arguments);
        // The demonstration reads these logs.
        let program = program.env("DUCKTIDE_LOG_FORMAT", "json").env("RUST_LOG", "info");
        let set = |program: Program, (name, value): &(&str, String)| program.env(*name, value);
        Ok(self.environment.iter().fold(program, set))
    }
}

/// Maximum width of a line of a printed command.
const LINE_WIDTH: usize = 96;

/// Formats a command for a shell; a long one on several lines.
fn shown(program: &str, arguments: &[&str]) -> String {
    let mut text = program.to_owned();
    let mut width = text.len();
    for argument in arguments {
        let word = quoted(argument);
        let first_line = word.lines().next().unwrap_or_default().len();
        if argument.starts_with("--") && width + first_line > LINE_WIDTH {
            text += " \\\n    ";
            width = 4;
        } else {
            text.push(' ');
        }
        text += &word;
        width += 1 + first_line;
    }
    text
}

/// Quotes an argument for a shell; no argument contains characters that are expanded in double
/// quotes.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+".contains(c);
    if argument.chars().all(is_plain) { argument.to_owned() } else { format!("\"{argument}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_can_be_typed() {
        assert_eq!(shown("ducktide", &["sql", "FROM events"]), "ducktide sql \"FROM events\"");
        assert_eq!(shown("ducktide", &["status", "--json"]), "ducktide status --json");
    }

    #[test]
    fn a_long_command_is_broken_before_an_option() {
        let long = "x".repeat(90);
        let text = shown("producer", &["--rows", "1", "--ledger", &long]);
        assert_eq!(text, format!("producer --rows 1 --ledger {long}"));
        let text = shown("producer", &["--ledger", &long, "--rows", "1"]);
        assert_eq!(text, format!("producer --ledger {long} \\\n    --rows 1"));
    }
}
