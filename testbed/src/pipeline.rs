//! A topic, a lake, and Ducktide's programs between them: all of one test's own, on services that
//! tests share.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    catalog::{Catalog, CatalogKind},
    duckdb_cli::Lake,
    oracle::{self, Comparison},
    program::{Program, RunningProgram},
    services::{free_port, log_folder, shared_kafka, shared_postgres, shared_registry},
    wait,
    worker::Worker,
};

/// How long anything that a test waits for may take. Far above what it takes on a quiet machine,
/// since tests run beside each other on two cores.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(2);

/// The table that every pipeline fills.
pub const TABLE: &str = "events";

/// Partitions of a pipeline's topic.
pub const PARTITIONS: i32 = 3;

/// A producer's arguments: events for as long as a test needs them.
pub const CONTINUOUS: &[&str] = &["--continuous", "--rate", "3000"];

/// How a group shares its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The classic one, with cooperative-sticky assignment.
    Classic,
    /// KIP-848.
    Consumer,
}

/// A topic, a lake, and what is needed to fill the one and read the other.
#[derive(Debug)]
pub struct Pipeline {
    /// The topic; nobody else's.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The group's protocol.
    pub protocol: Protocol,
    /// Where programs find Kafka.
    pub bootstrap_servers: String,
    /// Where programs find the schema registry.
    pub schema_registry_url: String,
    /// The catalog as a reader finds it.
    pub catalog: String,
    /// The catalog as consumers find it: another address where a fault stands in between.
    pub consumers_catalog: String,
    logs: PathBuf,
    folder: TempDir,
}

impl Pipeline {
    /// A pipeline on the services that this process' tests share. `test` is a short name of letters,
    /// digits and underscores.
    pub fn on_shared_services(test: &str, kind: CatalogKind) -> Result<Self> {
        let name = unique(test);
        let postgres = match kind {
            CatalogKind::Sqlite => None,
            CatalogKind::Postgres => Some(shared_postgres().create_database(&name)?),
        };
        let (kafka, registry) = (shared_kafka(), shared_registry());
        Self::new(&name, &kafka.bootstrap_servers(), &registry.url(), postgres)
    }

    /// A pipeline on services of the test's own; without a database's URL the catalog is a file.
    pub fn new(
        name: &str,
        bootstrap_servers: &str,
        schema_registry_url: &str,
        postgres: Option<String>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ducktide-pipeline-").tempdir();
        let folder = folder.context("create a folder for a pipeline")?;
        let file = || format!("sqlite:{}", folder.path().join("lake.sqlite").display());
        let catalog = postgres.unwrap_or_else(file);
        Ok(Self {
            topic: name.to_owned(),
            group: name.to_owned(),
            protocol: Protocol::Classic,
            bootstrap_servers: bootstrap_servers.to_owned(),
            schema_registry_url: schema_registry_url.to_owned(),
            consumers_catalog: catalog.clone(),
            catalog,
            logs: log_folder()?.join(name),
            folder,
        })
    }

    /// The CSV of what was acknowledged.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.csv")
    }

    /// The folder of the lake's files.
    #[must_use]
    pub fn data_path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A file of the test's own, beside the lake.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where programs' logs go.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The lake as the DuckDB command line sees it.
    pub fn lake(&self) -> Result<Lake> {
        Lake::at(&self.catalog, &self.data_path().display().to_string())
    }

    /// The catalog database.
    pub fn catalog(&self) -> Result<Catalog> {
        Catalog::at(&self.catalog)
    }

    /// A producer of this topic that writes the ledger.
    pub fn producer(&self, arguments: &[&str]) -> Result<Program> {
        let partitions = PARTITIONS.to_string();
        Ok(Program::named("ducktide-producer")?
            .args(["--bootstrap-servers", &self.bootstrap_servers])
            .args(["--schema-registry-url", &self.schema_registry_url])
            .args(["--topic", &self.topic, "--partitions", &partitions, "--ledger"])
            .args([self.ledger()])
            .args(arguments))
    }

    /// Publishes so many records, and waits until all are acknowledged.
    pub fn produce(&self, rows: u64, arguments: &[&str]) -> Result<()> {
        let producer = self.producer(&["--rows", &rows.to_string()])?.args(arguments);
        producer.run(&self.logs, "producer", WAIT_TIMEOUT).map(|_| ())
    }

    /// Starts a producer, for tests in which it runs beside consumers.
    pub fn start_producer(&self, arguments: &[&str]) -> Result<RunningProgram> {
        self.producer(arguments)?.start(&self.logs, "producer")
    }

    /// Stops a producer of [`CONTINUOUS`]; says how many records the ledger has then.
    pub fn stop_producer(&self, producer: &mut RunningProgram) -> Result<u64> {
        producer.terminate()?;
        producer.succeed(WAIT_TIMEOUT)?;
        let ledger = fs::read_to_string(self.ledger()).context("read the ledger")?;
        u64::try_from(ledger.lines().skip(1).count()).context("count the ledger's lines")
    }

    /// Starts a consumer of this topic and table; its log goes by `name`.
    pub fn start_consumer(&self, name: &str, arguments: &[&str]) -> Result<Worker> {
        self.start_with_failpoints(name, "", arguments)
    }

    /// Starts a consumer with armed failpoints, such as `commit_answered=crash@2`.
    pub fn start_with_failpoints(
        &self,
        name: &str,
        failpoints: &str,
        arguments: &[&str],
    ) -> Result<Worker> {
        let consumer = self.consumer(&self.consumers_catalog)?.args(arguments);
        let consumer = consumer.env("DUCKTIDE_FAILPOINTS", failpoints);
        self.start_worker(name, consumer)
    }

    /// Starts a consumer that was made by [`consumer`](Self::consumer).
    pub fn start_worker(&self, name: &str, consumer: Program) -> Result<Worker> {
        let port = free_port()?;
        let listen = ["--listen", &format!("127.0.0.1:{port}")];
        Ok(Worker::new(consumer.args(listen).start(&self.logs, name)?, port))
    }

    /// Has a consumer read everything that is in the topic now; errors unless it exits with 0.
    pub fn drain(&self, arguments: &[&str]) -> Result<()> {
        let arguments = [&["--until-end"], arguments].concat();
        self.start_consumer("drain", &arguments)?.succeed().map(|_| ())
    }

    /// The operator's tool on this lake.
    pub fn ducktide(&self, arguments: &[&str]) -> Result<Program> {
        Ok(Program::named("ducktide")?
            .env("DUCKLAKE_CATALOG", &self.catalog)
            .env("DUCKLAKE_DATA_PATH", self.data_path())
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.bootstrap_servers)
            .env("SCHEMA_REGISTRY_URL", &self.schema_registry_url)
            .args(arguments))
    }

    /// The compactor of this lake, told as in [`compactor`](crate::compactor).
    pub fn compactor(&self, arguments: &[&str]) -> Result<Program> {
        Ok(Program::named("ducktide-compactor")?
            .args(arguments)
            .args(["--catalog", &self.catalog, "--data-path"])
            .args([self.data_path()])
            .env("DUCKTIDE_LOG_FORMAT", "json"))
    }

    /// Runs the operator's tool; what it printed. Errors unless it exits with 0.
    pub fn run_ducktide(&self, arguments: &[&str]) -> Result<String> {
        self.ducktide(arguments)?.run(&self.logs, "ducktide", WAIT_TIMEOUT)
    }

    /// Errors unless `ducktide verify --deep` finds nothing, compared with what the producer saw
    /// acknowledged where there is a ledger.
    pub fn verify(&self) -> Result<()> {
        let ledger = self.ledger();
        let mut tool = self.ducktide(&["verify", "--deep"])?;
        if ledger.exists() {
            tool = tool.args(["--against-ledger"]).args([ledger]);
        }
        tool.run(&self.logs, "verify", WAIT_TIMEOUT).map(|_| ())
    }

    /// A consumer of this topic and table, which finds the catalog at this address.
    pub fn consumer(&self, catalog: &str) -> Result<Program> {
        Ok(self.consumer_of(&self.topic, catalog)?.args(["--table", TABLE]))
    }

    /// A consumer in this group of any topics, which fill tables of their own names.
    pub fn consumer_of(&self, topics: &str, catalog: &str) -> Result<Program> {
        Ok(self.consumer_without_group(topics, catalog)?.args(["--group-id", &self.group]))
    }

    /// A consumer in the group that the lake chooses.
    pub fn consumer_without_group(&self, topics: &str, catalog: &str) -> Result<Program> {
        let program = Program::named("ducktide-consumer")?
            .args(["--bootstrap-servers", &self.bootstrap_servers])
            .args(["--schema-registry-url", &self.schema_registry_url])
            .args(["--topics", topics])
            .args(["--catalog", catalog, "--data-path"])
            .args([self.data_path()])
            .env("DUCKTIDE_LOG_FORMAT", "json");
        Ok(match self.protocol {
            // The partitions of a killed member are free after three seconds instead of 45: long
            // enough for members that wait for a processor.
            Protocol::Classic => program.args([
                "--kafka-property",
                "session.timeout.ms=3000",
                "--kafka-property",
                "heartbeat.interval.ms=500",
            ]),
            Protocol::Consumer => program.args(["--group-protocol", "consumer"]),
        })
    }

    /// Waits until the lake has committed so many offsets.
    pub fn await_committed(&self, offsets: u64) -> Result<()> {
        let mut catalog = self.catalog()?;
        let offsets = i64::try_from(offsets).context("more offsets than Kafka has")?;
        wait::until(&format!("{offsets} offsets are committed"), WAIT_TIMEOUT, || {
            let committed = catalog.committed_offsets()?;
            ensure!(committed >= offsets, "committed so far: {committed}");
            Ok(true)
        })
    }

    /// Compares the ledger with the lake.
    pub fn compare(&self) -> Result<Comparison> {
        oracle::compare(&self.ledger(), &self.lake()?, TABLE)
    }

    /// Errors unless the lake holds exactly what was acknowledged, and that is so many events.
    pub fn check_exact(&self, events: u64) -> Result<()> {
        let comparison = self.compare()?;
        ensure!(comparison.is_exact(), "{comparison}");
        ensure!(comparison.acknowledged == events, "expected {events}: {comparison}");
        Ok(())
    }
}

/// The same test may run twice against one service.
fn unique(test: &str) -> String {
    let suffix = Uuid::new_v4().simple().to_string();
    format!("{test}_{}", &suffix[..8])
}

/// Makes two tests of each named function, one for each catalog. The functions take a
/// [`CatalogKind`].
#[macro_export]
macro_rules! on_both_catalogs {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[test]
            #[ignore = "needs Kafka and the schema registry"]
            fn $test() {
                super::$test($crate::catalog::CatalogKind::Sqlite);
            })+
        }

        mod on_postgres {
            $(#[test]
            #[ignore = "needs Kafka, the schema registry and PostgreSQL"]
            fn $test() {
                super::$test($crate::catalog::CatalogKind::Postgres);
            })+
        }
    };
}
