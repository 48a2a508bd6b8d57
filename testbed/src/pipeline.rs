//! Topic, lake and Ducktide programs of one test, on services that the tests share.

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
    lake_place::LakePlace,
    oracle::{self, Comparison},
    program::{Program, RunningProgram},
    services::{
        BucketStore, Role, free_port, log_folder, shared_kafka, shared_postgres, shared_registry,
        shared_s3,
    },
    wait,
    worker::Worker,
};

/// Maximum time that a test waits for a condition. Much longer than it takes on an idle machine,
/// since tests run concurrently on two cores.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(3);

/// Table that every pipeline fills.
pub const TABLE: &str = "events";

/// Partitions of a pipeline's topic.
pub const PARTITIONS: i32 = 3;

/// Arguments of a producer that publishes until it is stopped.
pub const CONTINUOUS: &[&str] = &["--continuous", "--rate", "1000"];

/// Rebalance protocol of a consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Classic protocol, with cooperative-sticky assignment.
    Classic,
    /// Consumer protocol (KIP-848).
    Consumer,
}

/// Topic and lake, with the settings of the programs between them.
#[derive(Debug)]
pub struct Pipeline {
    /// Topic; no other test uses it.
    pub topic: String,
    /// Consumer group.
    pub group: String,
    /// Rebalance protocol of the group.
    pub protocol: Protocol,
    /// Bootstrap servers of Kafka.
    pub bootstrap_servers: String,
    /// URL of the schema registry.
    pub schema_registry_url: String,
    /// Address of the catalog for readers.
    pub catalog: String,
    /// Address of the catalog for consumers; differs from `catalog` when a proxy injects faults.
    pub consumers_catalog: String,
    place: LakePlace,
    logs: PathBuf,
    folder: TempDir,
}

impl Pipeline {
    /// Returns a pipeline on the shared services. `test` is a short name of letters, digits and
    /// underscores.
    pub fn on_shared_services(test: &str, kind: CatalogKind) -> Result<Self> {
        let name = unique(test);
        let postgres = match kind {
            CatalogKind::Sqlite => None,
            CatalogKind::Postgres => Some(shared_postgres().create_database(&name)?),
        };
        let (kafka, registry) = (shared_kafka(), shared_registry());
        Self::new(&name, &kafka.bootstrap_servers(), &registry.url(), postgres)
    }

    /// Returns a pipeline on the given services; without a database URL the catalog is a SQLite
    /// file.
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
            place: LakePlace::folder(folder.path().join("data")),
            logs: log_folder()?.join(name),
            folder,
        })
    }

    /// Returns this pipeline with its lake in a bucket of its own in the shared object store.
    pub fn in_object_storage(self) -> Result<Self> {
        self.in_store(shared_s3(), shared_s3().port())
    }

    /// Returns this pipeline with its lake in a bucket of its own. Programs find the store at a port, which
    /// can be that of a proxy; DuckDB's command line uses no proxy.
    pub fn in_store(self, store: &dyn BucketStore, port: u16) -> Result<Self> {
        let place = LakePlace::new_bucket(store, &self.topic.replace('_', "-"), port)?;
        Ok(Self { place, ..self })
    }

    /// Sets an environment variable of all programs that open the lake.
    pub fn set_setting(&mut self, name: &'static str, value: String) {
        self.place.settings.push((name, value));
    }

    /// Returns the environment variables of all programs that open the lake.
    #[must_use]
    pub fn settings(&self) -> &[(&'static str, String)] {
        &self.place.settings
    }

    /// Replaces the settings of the object store.
    pub fn set_settings(&mut self, settings: Vec<(&'static str, String)>) {
        self.place.settings = settings;
    }

    /// Lets programs use the object store in a role, with the permissions of its policy.
    pub fn set_role(&mut self, role: Role) {
        self.set_settings(shared_s3().settings_in_role(role));
    }

    /// Returns the path of the producer's ledger, a CSV file of acknowledged records.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.csv")
    }

    /// Returns the folder of the lake's files, or its URL.
    #[must_use]
    pub fn data_path(&self) -> PathBuf {
        self.place.data_path.clone()
    }

    /// Returns the name of the bucket of a lake in object storage.
    pub fn bucket(&self) -> Result<String> {
        let url = self.place.data_path.display().to_string();
        let bucket = url.split_once("://").and_then(|(_, path)| path.split('/').next());
        bucket.map(str::to_owned).with_context(|| format!("find the bucket in `{url}`"))
    }

    /// Returns the path of a file in the folder of this pipeline.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the folder of the programs' logs.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Returns the lake, for queries with DuckDB's command line.
    pub fn lake(&self) -> Result<Lake> {
        self.place.lake(&self.catalog)
    }

    /// Returns the catalog database.
    pub fn catalog(&self) -> Result<Catalog> {
        Catalog::at(&self.catalog)
    }

    /// Returns a producer of this topic that writes the ledger.
    pub fn producer(&self, arguments: &[&str]) -> Result<Program> {
        let partitions = PARTITIONS.to_string();
        Ok(Program::named("ducktide-producer")?
            .args(["--bootstrap-servers", &self.bootstrap_servers])
            .args(["--schema-registry-url", &self.schema_registry_url])
            .args(["--topic", &self.topic, "--partitions", &partitions, "--ledger"])
            .args([self.ledger()])
            .args(arguments))
    }

    /// Publishes `rows` records, and waits until all are acknowledged.
    pub fn produce(&self, rows: u64, arguments: &[&str]) -> Result<()> {
        let producer = self.producer(&["--rows", &rows.to_string()])?.args(arguments);
        producer.run(&self.logs, "producer", WAIT_TIMEOUT).map(|_| ())
    }

    /// Starts a producer that runs concurrently with consumers.
    pub fn start_producer(&self, arguments: &[&str]) -> Result<RunningProgram> {
        self.producer(arguments)?.start(&self.logs, "producer")
    }

    /// Stops a producer of [`CONTINUOUS`]. Returns the number of records in the ledger.
    pub fn stop_producer(&self, producer: &mut RunningProgram) -> Result<u64> {
        producer.terminate()?;
        producer.succeed(WAIT_TIMEOUT)?;
        let ledger = fs::read_to_string(self.ledger()).context("read the ledger")?;
        u64::try_from(ledger.lines().skip(1).count()).context("count the ledger's lines")
    }

    /// Starts a consumer of this topic and table. `name` is the name of its log.
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

    /// Starts a consumer returned by [`consumer`](Self::consumer).
    pub fn start_worker(&self, name: &str, consumer: Program) -> Result<Worker> {
        let port = free_port()?;
        let listen = ["--listen", &format!("127.0.0.1:{port}")];
        Ok(Worker::new(consumer.args(listen).start(&self.logs, name)?, port))
    }

    /// Runs a consumer up to the current end of the topic; an error unless it exits with 0.
    pub fn drain(&self, arguments: &[&str]) -> Result<()> {
        let arguments = [&["--until-end"], arguments].concat();
        self.start_consumer("drain", &arguments)?.succeed().map(|_| ())
    }

    /// Returns the operator's tool `ducktide`, with the settings of this lake.
    pub fn ducktide(&self, arguments: &[&str]) -> Result<Program> {
        Ok(Program::named("ducktide")?
            .env("DUCKLAKE_CATALOG", &self.catalog)
            .env("DUCKLAKE_DATA_PATH", self.data_path())
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.bootstrap_servers)
            .env("SCHEMA_REGISTRY_URL", &self.schema_registry_url)
            .envs(&self.place.settings)
            .args(arguments))
    }

    /// Returns a compactor of this lake; for arguments see [`compactor`](crate::compactor).
    pub fn compactor(&self, arguments: &[&str]) -> Result<Program> {
        Ok(Program::named("ducktide-compactor")?
            .args(arguments)
            .args(["--catalog", &self.catalog, "--data-path"])
            .args([self.data_path()])
            .envs(&self.place.settings)
            .env("DUCKTIDE_LOG_FORMAT", "json"))
    }

    /// Runs the operator's tool and returns its standard output; an error unless it exits with 0.
    pub fn run_ducktide(&self, arguments: &[&str]) -> Result<String> {
        self.ducktide(arguments)?.run(&self.logs, "ducktide", WAIT_TIMEOUT)
    }

    /// Returns an error unless `ducktide verify --deep` finds no violation. Compares with the
    /// producer's ledger if there is one.
    pub fn verify(&self) -> Result<()> {
        let ledger = self.ledger();
        let mut tool = self.ducktide(&["verify", "--deep"])?;
        if ledger.exists() {
            tool = tool.args(["--against-ledger"]).args([ledger]);
        }
        tool.run(&self.logs, "verify", WAIT_TIMEOUT).map(|_| ())
    }

    /// Returns a consumer of this topic and table, with this address of the catalog.
    pub fn consumer(&self, catalog: &str) -> Result<Program> {
        Ok(self.consumer_of(&self.topic, catalog)?.args(["--table", TABLE]))
    }

    /// Returns a consumer of any topics in this group; each topic fills the table of its name.
    pub fn consumer_of(&self, topics: &str, catalog: &str) -> Result<Program> {
        Ok(self.consumer_without_group(topics, catalog)?.args(["--group-id", &self.group]))
    }

    /// Returns a consumer in the default group of the lake.
    pub fn consumer_without_group(&self, topics: &str, catalog: &str) -> Result<Program> {
        let program = Program::named("ducktide-consumer")?
            .args(["--bootstrap-servers", &self.bootstrap_servers])
            .args(["--schema-registry-url", &self.schema_registry_url])
            .args(["--topics", topics])
            .args(["--catalog", catalog, "--data-path"])
            .args([self.data_path()])
            .envs(&self.place.settings)
            .env("DUCKTIDE_LOG_FORMAT", "json");
        Ok(match self.protocol {
            // The partitions of a killed member are free after three seconds instead of 45. Long
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

    /// Waits until the lake has committed at least `offsets` offsets.
    pub fn await_committed(&self, offsets: u64) -> Result<()> {
        let mut catalog = self.catalog()?;
        let offsets = i64::try_from(offsets).context("more offsets than Kafka has")?;
        wait::until(&format!("{offsets} offsets are committed"), WAIT_TIMEOUT, || {
            let committed = catalog.committed_offsets()?;
            ensure!(committed >= offsets, "committed so far: {committed}");
            Ok(true)
        })
    }

    /// Compares the producer's ledger with the lake.
    pub fn compare(&self) -> Result<Comparison> {
        oracle::compare(&self.ledger(), &self.lake()?, TABLE)
    }

    /// Returns an error unless the lake holds exactly the acknowledged records, and these are
    /// `events` events.
    pub fn check_exact(&self, events: u64) -> Result<()> {
        let comparison = self.compare()?;
        ensure!(comparison.is_exact(), "{comparison}");
        ensure!(comparison.acknowledged == events, "expected {events}: {comparison}");
        Ok(())
    }
}

/// Returns a unique name: the same test can run twice concurrently.
#[must_use]
pub fn unique(test: &str) -> String {
    let suffix = Uuid::new_v4().simple().to_string();
    format!("{test}_{}", &suffix[..8])
}

/// Generates two tests of each named function, one for each catalog. The functions take a
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

/// Generates a test on PostgreSQL of each named function. For decisions of workers, which do not depend on
/// the catalog, and which the simulation of the consumer covers.
#[macro_export]
macro_rules! on_one_catalog {
    ($($test:ident),+ $(,)?) => {
        mod on_one_catalog {
            $(#[test]
            #[ignore = "needs Kafka, the schema registry and PostgreSQL"]
            fn $test() {
                super::$test($crate::catalog::CatalogKind::Postgres);
            })+
        }
    };
}
