//! Runs the commands and queries in the code blocks of README.md and docs/ on a small lake.
//!
//! A block that cannot run has a reason: the comment `<!-- not run: reason -->` before it, or one of
//! the rules in [`reason_not_to_run`].

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use ducktide_testbed::{
    catalog::Catalog,
    http,
    markdown::{CodeBlock, code_blocks, shell_commands},
    program::Program,
    raw_records::{publish, register_fields},
    services::{Kafka, Registry, free_port, log_folder},
    wait, workspace,
};
use serde_json::json;

/// Time limit of a command.
const TIMEOUT: Duration = Duration::from_mins(3);

/// Topic of the documented commands of the producer.
const PUBLISHED: &str = "published";

/// Commands that need more than services and programs, with the reason why they are not run.
const EXCLUDED_PROGRAMS: [(&str, &str); 3] = [
    ("cargo", "builds or tests the workspace"),
    ("docker", "needs Docker"),
    ("git", "reads the history of the repository"),
];

/// Texts in commands that cannot be run as they are, with the reason.
const EXCLUDED_TEXTS: [(&str, &str); 6] = [
    ("@db/", "names another machine"),
    ("/shared/", "names another machine"),
    ("...", "has a placeholder"),
    ("…", "has a placeholder"),
    ("WORKER", "has a placeholder"),
    ("--watch", "runs until Ctrl-C"),
];

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn commands_and_queries_of_the_documents_run() {
    let environment = Environment::start().unwrap();
    let (mut known, mut run) = (HashSet::new(), 0);
    let (mut not_run, mut failures) = (Vec::new(), Vec::new());
    for page in pages().unwrap() {
        let text = fs::read_to_string(workspace::root().join(&page)).unwrap();
        for block in code_blocks(&text) {
            let commands = commands(&block);
            if commands.is_empty() || !known.insert(block.text.clone()) {
                continue;
            }
            environment.restore_lake().unwrap();
            for command in commands {
                let location = format!("{}:{}", page.display(), block.line);
                if let Some(reason) = reason_not_to_run(&block, &command) {
                    let start = command.lines().next().unwrap_or_default();
                    not_run.push(format!("{location}: {reason}: {start}"));
                } else if let Err(error) = environment.run(&location.replace('/', "-"), &command) {
                    failures.push(format!("{location}: {command}\n{error:#}"));
                } else {
                    run += 1;
                }
            }
        }
    }
    println!("not run:\n{}", not_run.join("\n"));
    println!("{run} commands run, {} not run, {} failed", not_run.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(run > 50, "the documents have more commands");
}

/// Returns README.md and all pages below docs/.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![PathBuf::from("README.md")];
    for folder in ["docs", "docs/architecture"] {
        for entry in fs::read_dir(workspace::root().join(folder))? {
            let path = Path::new(folder).join(entry?.file_name());
            pages.extend(path.extension().is_some_and(|name| name == "md").then_some(path));
        }
    }
    pages.sort();
    Ok(pages)
}

/// Returns the commands of a shell block, and the query of an SQL block as a command.
fn commands(block: &CodeBlock) -> Vec<String> {
    match &*block.language {
        "sh" => shell_commands(&block.text),
        "sql" => vec![format!("ducktide sql <<'END'\n{}\nEND", block.text)],
        _ => Vec::new(),
    }
}

fn reason_not_to_run(block: &CodeBlock, command: &str) -> Option<String> {
    let words = || command.split_whitespace();
    let program = words().find(|word| !word.contains('=')).unwrap_or_default();
    let by_program = EXCLUDED_PROGRAMS.iter().find(|(name, _)| program == *name);
    let by_text = || EXCLUDED_TEXTS.iter().find(|(text, _)| command.contains(text));
    let needs_jq = || words().any(|word| word == "jq") && !is_installed("jq");
    let rule = by_program.or_else(by_text).map(|(_, reason)| (*reason).to_owned());
    let missing = || needs_jq().then(|| "jq is not installed".to_owned());
    block.not_run.clone().or(rule).or_else(missing)
}

fn runs_until_stopped(command: &str) -> bool {
    let has = |text| command.contains(text);
    has("ducktide-consumer") && !has("--until-end")
        || has("ducktide-compactor run")
        || has("--continuous")
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Services, and a lake with some records of the topic `events`.
struct Environment {
    kafka: Kafka,
    registry: Registry,
    folder: tempfile::TempDir,
    logs: PathBuf,
}

impl Environment {
    fn start() -> Result<Self> {
        let logs = log_folder()?.join("documents");
        let (kafka, registry) = thread::scope(|scope| {
            let kafka = scope.spawn(|| Kafka::start(&logs));
            let registry = Registry::start(&logs);
            (kafka.join().expect("starting Kafka does not panic"), registry)
        });
        let folder = tempfile::tempdir()?;
        let environment = Self { kafka: kafka?, registry: registry?, folder, logs };
        environment.create_topics()?;
        environment.create_files()?;
        environment.fill_lake()?;
        Ok(environment)
    }

    fn create_topics(&self) -> Result<()> {
        for (topic, partitions) in [("events", 4), ("orders", 1), ("readings", 1), ("clicks", 1)] {
            self.kafka.create_topic(topic, partitions, &[])?;
        }
        let time = json!({"type": "long", "logicalType": "timestamp-micros"});
        let fields = [
            json!({"name": "customer_id", "type": "string"}),
            json!({"name": "ordered_at", "type": time}),
        ];
        register_fields(&self.registry.url(), "orders", "shop", &fields)?;
        Ok(())
    }

    /// Creates the files that the documents refer to.
    fn create_files(&self) -> Result<()> {
        fs::create_dir(self.lake())?;
        fs::write(self.lake().join("report.sql"), "SELECT count(*) FROM events;\n")?;
        let fields = json!([{"name": "number", "type": "long"}]);
        let schema = json!({"type": "record", "name": "Reading", "fields": fields});
        fs::write(self.lake().join("reading.avsc"), schema.to_string())?;
        Ok(())
    }

    /// Fills the lake with events and undecodable records, keeps a copy of it, and publishes more
    /// events.
    fn fill_lake(&self) -> Result<()> {
        let produce = "ducktide-producer --topic events --partitions 4 --rows 4000";
        let undecodable = (0..10).map(|number: u8| vec![number; 3]);
        publish(&self.kafka.bootstrap_servers(), "events", 2, undecodable)?;
        self.run("setup", &format!("{produce} --ledger acknowledged.csv"))?;
        let consume = "ducktide-consumer --until-end --max-dead-letter-ratio 1";
        self.run("setup", consume)?;
        // For queries of an earlier state.
        let catalog = format!("sqlite:{}", self.lake().join("lake.sqlite").display());
        Catalog::at(&catalog)?.execute(
            "UPDATE ducklake_snapshot \
                SET snapshot_time = strftime('%Y-%m-%d %H:%M:%S+00', 'now', '-2 days', \
                                             snapshot_id || ' seconds')",
        )?;
        copy(&self.lake(), &self.copy())?;
        self.run("setup", produce)
    }

    /// Folder of the lake, in which the commands run.
    fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    /// Folder of the copy of the lake.
    fn copy(&self) -> PathBuf {
        self.folder.path().join("copy")
    }

    /// Replaces the lake by its copy.
    fn restore_lake(&self) -> Result<()> {
        fs::remove_dir_all(self.lake())?;
        copy(&self.copy(), &self.lake())
    }

    /// Runs a command, with a log of this name. One that runs until it is stopped is stopped as soon
    /// as it works.
    fn run(&self, log: &str, command: &str) -> Result<()> {
        let command = command.trim_end_matches('&');
        if runs_until_stopped(command) {
            return self.run_until_it_works(log, command);
        }
        self.program(command)?.run(&self.logs, log, TIMEOUT).map(drop)
    }

    fn run_until_it_works(&self, log: &str, command: &str) -> Result<()> {
        let port = free_port()?;
        let program = self.program(&format!("exec env {command}"))?;
        let published = self.published();
        let mut running =
            program.env("DUCKTIDE_LISTEN", format!("127.0.0.1:{port}")).start(&self.logs, log)?;
        let works = || {
            if command.contains("ducktide-producer") {
                self.published() > published
            } else {
                http::get(port, "/readyz").is_ok()
            }
        };
        wait::until("the program works", TIMEOUT, || Ok(works() || !running.is_running()?))?;
        let is_running = running.is_running()?;
        if is_running {
            running.terminate()?;
        }
        running.succeed(TIMEOUT)?;
        ensure!(is_running, "the program ended before it was stopped");
        Ok(())
    }

    /// Returns the shell that runs a command with the documented settings.
    fn program(&self, command: &str) -> Result<Program> {
        let programs = workspace::program("ducktide")?;
        let duckdb = workspace::downloaded("duckdb-cli/duckdb")?;
        let mut path: Vec<_> = [programs, duckdb]
            .iter()
            .filter_map(|file| file.parent().map(Path::to_owned))
            .collect();
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let script = format!("exec < /dev/null\ncd '{}'\n{command}", self.lake().display());
        Ok(Program::shell(&script)
            .env("PATH", env::join_paths(path)?)
            .env("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers())
            .env("KAFKA_TOPIC", PUBLISHED)
            .env("KAFKA_TOPICS", "events")
            .env("SCHEMA_REGISTRY_URL", self.registry.url())
            .env("DUCKLAKE_CATALOG", "sqlite:lake.sqlite")
            .env("DUCKTIDE_EXTENSION_DIR", workspace::downloaded("extensions")?))
    }

    /// Returns the number of records that documented commands have published.
    fn published(&self) -> i64 {
        self.kafka.end_offsets(PUBLISHED).unwrap_or_default().iter().sum()
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-r").args([from, to]).status()?;
    ensure!(status.success(), "copy {}: {status}", from.display());
    Ok(())
}
