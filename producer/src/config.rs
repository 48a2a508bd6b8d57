//! Settings from flags and environment variables: [`Args`] as parsed, [`Config`] as validated.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ducktide_kafka::{Connection, KafkaArgs, KafkaSettingsError, OwnedProperty};
use ducktide_registry::{RegistryArgs, RegistrySettingsError};
use ducktide_service::units::{parse_duration, parse_ratio};
use jiff::Timestamp;
use thiserror::Error;

use crate::clock::Clock;
use crate::event::TimestampMicros;
use crate::traffic::TrafficMix;

const EXAMPLES: &str = "\
Examples:
  # 100,000 events as fast as possible, into a new topic of 6 partitions
  ducktide-producer --rows 100000 --partitions 6

  # 1,000 events every 5 seconds, until Ctrl-C
  ducktide-producer --continuous --rows 1000 --delay 5

  # 2,000 events per second, with a ledger to compare the lake with
  ducktide-producer --continuous --rate 2000 --ledger acknowledged.csv

  # with duplicates, late events and undecodable records
  ducktide-producer --rows 100000 --duplicates 0.01 --late 0.02 --poison 0.001

  # the same bytes in every run
  ducktide-producer --rows 1000 --seed 42 --start-time 2026-01-01T00:00:00Z

  # print some events without Kafka
  ducktide-producer --rows 5 --dry-run

Exit codes:
  0  every record was acknowledged (also after Ctrl-C or SIGTERM)
  1  other failure: ledger not written, topic missing, schema rejected, ...
  2  invalid command line or setting
  3  Kafka or the schema registry unreachable
  4  at least one record was not acknowledged";

/// Publishes the demonstration events to Kafka as Avro.
///
/// Generates five types of events (logins, API requests, payments, errors, feature usage) with one
/// schema, registered as `<topic>-value`, in Confluent's wire format. The record key is the user,
/// customer, API key or service, so the events of one user stay in order. Publishing is idempotent
/// with acks=all: each event is in the topic once, unless --duplicates is set.
#[derive(Clone, Debug, Parser)]
#[command(name = "ducktide-producer", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Kafka settings.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Topic settings.
    #[command(flatten)]
    pub topic: TopicArgs,
    /// Registry settings.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Number of records and rate.
    #[command(flatten)]
    pub volume: VolumeArgs,
    /// Content of the records.
    #[command(flatten)]
    pub data: DataArgs,
    /// Output files.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Topic, and how records are sent to it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Topic")]
pub struct TopicArgs {
    /// Topic to publish to.
    #[arg(long, env = "KAFKA_TOPIC", default_value = "events")]
    pub topic: String,

    /// Create the topic with this number of partitions unless it exists. Without this flag the
    /// topic must exist, or the brokers must create topics automatically.
    #[arg(long, env = "DUCKTIDE_PARTITIONS", value_name = "N",
          value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,

    /// Replication factor of a topic that --partitions creates; defaults to the setting of the
    /// brokers.
    #[arg(long, env = "DUCKTIDE_REPLICATION_FACTOR", value_name = "N",
          value_parser = clap::value_parser!(i32).range(1..))]
    pub replication_factor: Option<i32>,

    /// Compression of batches. lz4 needs the least CPU time for its ratio; zstd makes smaller
    /// topics.
    #[arg(long, env = "DUCKTIDE_COMPRESSION", value_enum, default_value_t = Compression::Lz4)]
    pub compression: Compression,

    /// Maximum time to reach Kafka and the registry at startup, seconds.
    #[arg(long, env = "DUCKTIDE_CONNECT_TIMEOUT", value_name = "SECONDS", default_value = "15", value_parser = parse_duration)]
    pub connect_timeout: Duration,

    /// Maximum time to wait for outstanding acknowledgements after a stop, seconds. Later ones
    /// count as not acknowledged.
    #[arg(long, env = "DUCKTIDE_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value = "20", value_parser = parse_duration)]
    pub shutdown_timeout: Duration,
}

/// Number of records and rate.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Volume")]
pub struct VolumeArgs {
    /// Records per loop, including duplicates and poison.
    #[arg(long, env = "DUCKTIDE_ROWS", value_name = "N", default_value = "1000")]
    pub rows: u64,

    /// Number of loops.
    #[arg(long, env = "DUCKTIDE_LOOPS", value_name = "N", default_value = "1")]
    pub loops: u64,

    /// Repeat the loop until Ctrl-C or SIGTERM.
    #[arg(long, env = "DUCKTIDE_CONTINUOUS", conflicts_with = "loops")]
    pub continuous: bool,

    /// Pause between two loops: seconds, or with a unit such as `500ms` or `2m`. Default: 0 with
    /// --rate, 1 without.
    #[arg(long, env = "DUCKTIDE_DELAY", value_name = "SECONDS", value_parser = parse_duration)]
    pub delay: Option<Duration>,

    /// Events per second; unlimited by default.
    #[arg(long, env = "DUCKTIDE_RATE", value_name = "PER_SECOND", value_parser = parse_rate)]
    pub rate: Option<f64>,
}

/// Content of the records.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// Seed of the random data: the same seed gives the same ids, users and amounts. For the same
    /// bytes also set --start-time.
    #[arg(long, env = "DUCKTIDE_SEED", value_name = "N")]
    pub seed: Option<u64>,

    /// Time of the first event, such as `2026-01-01T00:00:00Z`; later events follow at
    /// --event-interval. By default events have the time at which they are created.
    #[arg(long, env = "DUCKTIDE_START_TIME", value_name = "TIMESTAMP")]
    pub start_time: Option<Timestamp>,

    /// Time between two events with --start-time: seconds, or with a unit such as `250ms`.
    /// 1,000,000 events at 250ms cover three days.
    #[arg(long, env = "DUCKTIDE_EVENT_INTERVAL", value_name = "SECONDS", default_value = "1ms", requires = "start_time",
          value_parser = parse_duration)]
    pub event_interval: Duration,

    /// Ratio of records that repeat a recent event with the same `event_id`, from 0 to 1.
    #[arg(long, env = "DUCKTIDE_DUPLICATES", value_name = "RATIO", default_value = "0", value_parser = parse_ratio)]
    pub duplicates: f64,

    /// Ratio of records that cannot be decoded (wrong magic byte, unknown schema id, truncated),
    /// from 0 to 1.
    #[arg(long, env = "DUCKTIDE_POISON", value_name = "RATIO", default_value = "0", value_parser = parse_ratio)]
    pub poison: f64,

    /// Ratio of events whose `event_timestamp` is an hour to a week earlier, from 0 to 1.
    #[arg(long, env = "DUCKTIDE_LATE", value_name = "RATIO", default_value = "0", value_parser = parse_ratio)]
    pub late: f64,
}

/// Output files.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// CSV file for the acknowledged records: `topic,partition,offset,event_id`; the event id is
    /// empty for poison. An existing ledger is appended to. Lines are written at most a second
    /// late; a producer that is killed loses the lines of that second.
    #[arg(long, env = "DUCKTIDE_LEDGER", value_name = "FILE")]
    pub ledger: Option<PathBuf>,

    /// Print the events as JSON lines instead of publishing them; needs neither Kafka nor a
    /// registry.
    #[arg(long)]
    pub dry_run: bool,
}

/// Compression of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// Returns the librdkafka name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Validated settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Kafka settings.
    pub kafka: KafkaArgs,
    /// Topic settings.
    pub topic: TopicArgs,
    /// Registry settings.
    pub registry: RegistryArgs,
    /// Records per loop.
    pub rows: u64,
    /// Number of loops; `None` means endless.
    pub loops: Option<u64>,
    /// Pause between two loops.
    pub delay: Duration,
    /// Events per second, on average since the last pause.
    pub rate: Option<f64>,
    /// Seed of the random data. Random unless given, and logged, so that any run can be reproduced.
    pub seed: u64,
    /// Source of the time of the events.
    pub clock: Clock,
    /// Ratios of unusual records.
    pub mix: TrafficMix,
    /// Path of the ledger.
    pub ledger: Option<PathBuf>,
    /// Print the events instead of publishing them.
    pub dry_run: bool,
}

/// Invalid combination of settings.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ConfigError {
    #[error(transparent)]
    Kafka(#[from] KafkaSettingsError),
    #[error(transparent)]
    Registry(#[from] RegistrySettingsError),
    #[error("check ratios: --duplicates and --poison add up to more than 1; lower one of them")]
    RatiosAboveOne,
}

/// librdkafka properties that users cannot set, with the remedy.
const OWNED_PROPERTIES: [OwnedProperty; 7] = [
    ("bootstrap.servers", "use --bootstrap-servers"),
    ("test.mock.num.brokers", "use --bootstrap-servers"),
    ("compression.type", "use --compression"),
    ("enable.idempotence", "it is always true: without it a retry duplicates records"),
    ("acks", "it is always all: the ledger must list only records that cannot be lost"),
    ("transactional.id", "the producer uses no transactions"),
    ("log.queue", "librdkafka's log lines go to the log of the producer"),
];

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        client_config(&args.kafka, args.topic.compression)?;
        args.registry.check()?;
        let data = &args.data;
        if data.duplicates + data.poison > 1.0 {
            return Err(ConfigError::RatiosAboveOne);
        }
        Ok(Self {
            rows: args.volume.rows,
            loops: (!args.volume.continuous).then_some(args.volume.loops),
            delay: args.volume.delay.unwrap_or(default_delay(args.volume.rate)),
            rate: args.volume.rate,
            seed: data.seed.unwrap_or_else(rand::random),
            clock: clock(data),
            mix: TrafficMix { duplicates: data.duplicates, poison: data.poison, late: data.late },
            ledger: args.output.ledger,
            dry_run: args.output.dry_run,
            kafka: args.kafka,
            topic: args.topic,
            registry: args.registry,
        })
    }
}

/// Default properties; `--kafka-property` can override them.
const DEFAULT_PROPERTIES: [(&str, &str); 7] = [
    ("client.id", "ducktide-producer"),
    // Same partitioner as the Java client, so that a user's records from other producers go to the
    // same partition.
    ("partitioner", "murmur2_random"),
    // Long enough for batches of hundreds of records at high rates, negligible otherwise.
    ("linger.ms", "20"),
    // Limits the memory of queued records, together with the next property.
    ("queue.buffering.max.messages", "300000"),
    ("queue.buffering.max.kbytes", "131072"),
    // Shorter outages delay records; in longer ones they count as not acknowledged.
    ("message.timeout.ms", "120000"),
    // With the default of ten seconds, a broker that is available again would wait for its records.
    ("reconnect.backoff.max.ms", "1000"),
];

/// Returns the configuration of the client.
pub(crate) fn client_config(
    kafka: &KafkaArgs,
    compression: Compression,
) -> Result<Connection, KafkaSettingsError> {
    let mut connection = kafka.client_config(&OWNED_PROPERTIES, &DEFAULT_PROPERTIES)?;
    connection
        .config
        .set("compression.type", compression.as_str())
        .set("enable.idempotence", "true")
        .set("acks", "all");
    Ok(connection)
}

impl Config {
    /// Returns the number of records of the whole run; `None` if the run is endless.
    #[must_use]
    pub fn total_rows(&self) -> Option<u64> {
        self.loops.map(|loops| self.rows.saturating_mul(loops))
    }
}

fn clock(data: &DataArgs) -> Clock {
    data.start_time.map_or(Clock::System, |start| Clock::Simulated {
        next: TimestampMicros(start.as_microsecond()),
        step_micros: i64::try_from(data.event_interval.as_micros()).unwrap_or(i64::MAX),
    })
}

/// Returns the pause between two loops if none is set. A rate is held from loop to loop.
const fn default_delay(rate: Option<f64>) -> Duration {
    if rate.is_some() { Duration::ZERO } else { Duration::from_secs(1) }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        _ => Err("expected a number of events per second above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once(&"ducktide-producer").chain(flags))
    }

    fn config(flags: &[&str]) -> Config {
        Config::try_from(parse(flags).expect("valid flags")).expect("a valid configuration")
    }

    #[test]
    fn the_command_definition_is_valid() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn a_duration_without_a_unit_is_in_seconds() {
        assert_eq!(config(&[]).delay, Duration::from_secs(1));
        assert_eq!(config(&["--rate", "2000"]).delay, Duration::ZERO);
        assert_eq!(config(&["--rate", "2000", "--delay", "5"]).delay, Duration::from_secs(5));
        assert_eq!(config(&["--delay", "5"]).delay, Duration::from_secs(5));
        assert_eq!(config(&["--delay", "0.25"]).delay, Duration::from_millis(250));
        assert_eq!(config(&["--delay", "250ms"]).delay, Duration::from_millis(250));
        assert_eq!(config(&["--delay", "2m"]).delay, Duration::from_mins(2));
        for wrong in ["-1", "-1s", "soon", "nan"] {
            assert!(parse(&[&format!("--delay={wrong}")]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_continuous_run_is_endless() {
        assert_eq!(config(&["--rows", "10", "--loops", "3"]).total_rows(), Some(30));
        assert_eq!(config(&["--rows", "10", "--continuous"]).total_rows(), None);
        assert!(parse(&["--continuous", "--loops", "3"]).is_err());
    }

    #[test]
    fn owned_properties_are_rejected_by_name() {
        let aliases =
            ["metadata.broker.list", "topic.compression.codec", "topic.request.required.acks"];
        for property in OWNED_PROPERTIES.map(|(property, _)| property).into_iter().chain(aliases) {
            let args = parse(&["--kafka-property", &format!("{property}=x")]).expect("parses");
            let error = Config::try_from(args).expect_err("rejected").to_string();
            assert!(error.contains(&format!("`{property}` cannot be set")), "{error}");
        }
        let other =
            config(&["--kafka-property", "linger.ms=9", "--kafka-property", "client.id=a=b"]);
        let client = client_config(&other.kafka, Compression::Zstd).expect("valid").config;
        assert_eq!(client.get("linger.ms"), Some("9"));
        assert_eq!(client.get("client.id"), Some("a=b"));
        assert_eq!(client.get("compression.type"), Some("zstd"));
    }

    #[test]
    fn ratios_are_at_most_one() {
        assert!(parse(&["--poison", "1.1"]).is_err());
        assert!(parse(&["--late=-0.1"]).is_err());
        let args = parse(&["--poison", "0.6", "--duplicates", "0.5"]).expect("parses");
        let error = Config::try_from(args).expect_err("too many");
        assert!(matches!(error, ConfigError::RatiosAboveOne), "{error}");
    }

    #[test]
    fn a_start_time_selects_the_simulated_clock() {
        let config = config(&["--start-time", "2026-01-01T00:00:00Z", "--event-interval", "2ms"]);
        let next = TimestampMicros(1_767_225_600_000_000);
        assert_eq!(config.clock, Clock::Simulated { next, step_micros: 2_000 });
    }

    #[test]
    fn without_a_seed_each_run_is_different() {
        assert_ne!(config(&[]).seed, config(&[]).seed);
        assert_eq!(config(&["--seed", "7"]).seed, 7);
    }
}
