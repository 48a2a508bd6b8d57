//! Apache Kafka: one node as broker and controller.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _},
    metadata::MetadataPartition,
    types::RDKafkaErrorCode,
};
use rustix::process::Signal;
use uuid::Uuid;

use super::{
    backend::{Backend, BackendKind, External, Service},
    container::{Container, Image},
    port,
    process::{Process, data_folder, prepare},
};
use crate::{blocking, guarded_child::Launch, workspace};

/// Started broker.
#[derive(Debug)]
pub struct Kafka {
    port: u16,
    backend: Box<dyn Backend>,
}

/// Differences from Kafka's defaults, in addition to the listeners: no replicas, no initial
/// rebalance delay, short sessions in both group protocols, no automatic creation of topics, and
/// compaction within seconds.
const PROPERTIES: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("auto.create.topics.enable", "false"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("log.cleaner.backoff.ms", "500"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "3000"),
    ("group.consumer.max.session.timeout.ms", "4000"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];

/// Enough for millions of small records, which are in the page cache and not in the heap.
const HEAP: &str = "-Xmx512m";

const LOG4J: &str = "\
status=warn
rootLogger.level=info
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %m (%c)%n
";

impl Kafka {
    /// Returns the broker that another process started on this port of 127.0.0.1.
    pub(super) fn at(port: u16) -> Self {
        Self { port, backend: Box::new(External) }
    }

    /// Starts a broker without topics and waits until a topic can be created. Its log is
    /// `kafka.log` in the folder.
    pub fn start(logs: &Path) -> Result<Self> {
        let port = port::free()?;
        let log = logs.join("kafka.log");
        let backend: Box<dyn Backend> = match BackendKind::from_env()? {
            BackendKind::Process => {
                let settings =
                    BrokerSettings { port, listeners: &[], properties: &[], format: &[] };
                Box::new(start_process(&settings, log)?)
            }
            BackendKind::Container => Box::new(start_container(port, log)?),
        };
        let mut kafka = Self { port, backend };
        kafka.await_ready().context("start Kafka")?;
        Ok(kafka)
    }

    /// Starts a broker as a process with further listeners and properties. `format` are arguments
    /// of the tool that formats its data folder.
    pub(super) fn start_with(
        logs: &Path,
        listeners: &[Listener],
        properties: &[(String, String)],
        format: &[String],
    ) -> Result<Self> {
        let port = port::free()?;
        let settings = BrokerSettings { port, listeners, properties, format };
        let process = start_process(&settings, logs.join("kafka.log"))?;
        let mut kafka = Self { port, backend: Box::new(process) };
        kafka.await_ready().context("start Kafka")?;
        Ok(kafka)
    }

    /// Returns the value of `KAFKA_BOOTSTRAP_SERVERS`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Creates a topic, with settings such as `("cleanup.policy", "compact")`.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let created = async {
            let results = self.admin()?.create_topics([&topic], &admin_options()).await;
            single_result(results.context("request a topic")?)
        };
        blocking::block_on(created).with_context(|| format!("create topic `{name}`"))
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let deleted = async {
            let results = self.admin()?.delete_topics(&[name], &admin_options()).await;
            single_result(results.context("request deletion")?)
        };
        blocking::block_on(deleted).with_context(|| format!("delete topic `{name}`"))
    }

    /// Returns the end offset of each partition of a topic, ordered by partition.
    pub fn end_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        let consumer: BaseConsumer = self.client().create().context("create a client")?;
        let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).context("read metadata")?;
        let found = metadata.topics().first().context("read metadata: no such topic")?;
        let mut partitions: Vec<_> = found.partitions().iter().map(MetadataPartition::id).collect();
        partitions.sort_unstable();
        let end = |partition| consumer.fetch_watermarks(topic, partition, TIMEOUT);
        let ends = partitions.into_iter().map(|partition| Ok(end(partition)?.1));
        ends.collect::<Result<_>>().with_context(|| format!("read end offsets of `{topic}`"))
    }

    /// Returns the port on this machine.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Lets the broker outlive this process. Returns the shell command that ends it.
    #[must_use]
    pub fn leave_running(self) -> String {
        self.backend.leave_running()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap_servers());
        // Refused connections are expected while waiting for a broker.
        config.set_log_level(RDKafkaLogLevel::Critical);
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.client().create().context("create an admin client")
    }
}

impl Service for Kafka {
    fn backend(&mut self) -> &mut dyn Backend {
        &mut *self.backend
    }

    /// Creates and deletes a topic: a broker returns metadata before its controller accepts
    /// requests.
    fn check_ready(&self) -> Result<()> {
        let name = format!("ducktide-readiness-{}", Uuid::new_v4());
        self.create_topic(&name, 1, &[])?;
        self.delete_topic(&name)
    }
}

/// Maximum time of one request; a caller that waits for the broker retries.
const TIMEOUT: Duration = Duration::from_secs(5);

fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

/// Returns the single result of a request about one topic or group.
fn single_result(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<()> {
    let result = results.into_iter().next().context("no result")?;
    result.map(|_| ()).map_err(|(_, code)| anyhow!("{code}"))
}

/// Listener in addition to the one without encryption.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listener {
    pub(super) name: &'static str,
    /// Protocol, such as `SASL_SSL`.
    pub(super) protocol: &'static str,
    pub(super) port: u16,
}

/// Settings of a broker that runs as a process.
struct BrokerSettings<'a> {
    /// Port of the listener without encryption.
    port: u16,
    listeners: &'a [Listener],
    properties: &'a [(String, String)],
    format: &'a [String],
}

fn start_process(broker: &BrokerSettings<'_>, log: PathBuf) -> Result<Process> {
    let data = data_folder("kafka")?;
    let settings = data.path().join("server.properties");
    let log4j = data.path().join("log4j2.properties");
    let text = properties(broker, port::free()?, data.path());
    fs::write(&settings, text).context("write server.properties")?;
    fs::write(&log4j, LOG4J).context("write log4j2.properties")?;
    let cluster = cluster_id();
    let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", &cluster, "-c"];
    let tool = java(&log4j, &["-XX:TieredStopAtLevel=1"])?.args(format).args([&settings]);
    let tool = tool.args(broker.format);
    prepare(tool, &data, &log)?;
    let broker = java(&log4j, &[HEAP])?.args(["kafka.Kafka"]).args([&settings]);
    Process::start(broker, Signal::TERM, log, data)
}

/// Returns the class path of the broker and of its tools.
pub(super) fn classes() -> Result<PathBuf> {
    Ok(workspace::downloaded("kafka")?.join("*"))
}

fn java(log4j: &Path, options: &[&str]) -> Result<Launch> {
    let classes = classes()?;
    let log4j = format!("-Dlog4j2.configurationFile={}", log4j.display());
    let launch = Launch::new(workspace::downloaded("java/bin/java")?);
    Ok(launch.args(options).args([&log4j, "-cp"]).args([classes]))
}

fn properties(broker: &BrokerSettings<'_>, controller_port: u16, data: &Path) -> String {
    let BrokerSettings { port, listeners, properties, .. } = broker;
    let fixed = PROPERTIES.iter().map(|(key, value)| format!("{key}={value}\n"));
    let addresses = listeners.iter().map(|of| format!(",{}://127.0.0.1:{}", of.name, of.port));
    let addresses = addresses.collect::<String>();
    let protocols = listeners.iter().map(|of| format!(",{}:{}", of.name, of.protocol));
    let protocols = protocols.collect::<String>();
    let listeners = format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{addresses}\n\
         listener.security.protocol.map={PROTOCOLS}{protocols}\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}\n\
         log.dir={}\n",
        data.join("log").display()
    );
    // A backslash in a file of properties starts an escape.
    let given = properties.iter().map(|(key, value)| (key, value.replace('\\', "\\\\")));
    let given = given.map(|(key, value)| format!("{key}={value}\n"));
    fixed.chain([listeners]).chain(given).collect()
}

/// Protocols of the listeners that every broker has.
const PROTOCOLS: &str = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT";

/// Kafka writes a cluster's UUID, 16 bytes, as 22 digits of URL-safe base64. The last digit has
/// only two bits of information. The highest bit of the first is clear, so that it is a letter: the
/// tool takes a `-` for the start of an option.
fn cluster_id() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = Uuid::new_v4().as_u128() >> 3;
    let digit = |index: u32| DIGITS[usize::try_from(bits >> (6 * index) & 63).expect("six bits")];
    let digits = (0..21).rev().map(digit).chain([b'A']);
    digits.map(char::from).collect()
}

/// Starts the official image, which converts variables `KAFKA_*` to properties.
fn start_container(port: u16, log: PathBuf) -> Result<Container> {
    let mut environment: Vec<_> =
        PROPERTIES.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect();
    for (key, value) in [
        ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093".to_owned()),
        ("listener.security.protocol.map", PROTOCOLS.to_owned()),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
        ("controller.quorum.voters", "1@localhost:9093".to_owned()),
        ("heap.opts", HEAP.to_owned()),
    ] {
        environment.push((variable(key), value));
    }
    let image = Image { name: "apache/kafka", tag: "4.3.1", port: 9092, environment, command: &[] };
    Container::start("kafka", image, port, log)
}

fn variable(property: &str) -> String {
    format!("KAFKA_{}", property.replace('.', "_").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_22_digits_and_does_not_start_with_a_hyphen() {
        for _ in 0..1000 {
            let id = cluster_id();
            assert_eq!(id.len(), 22);
            assert!(!id.starts_with('-'), "{id}");
        }
    }

    #[test]
    fn a_property_is_converted_to_a_variable_of_the_official_image() {
        assert_eq!(variable("process.roles"), "KAFKA_PROCESS_ROLES");
    }
}
