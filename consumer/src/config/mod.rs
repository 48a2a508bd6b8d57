//! Settings from flags and environment variables: [`Args`] as they were given, [`Config`]
//! validated.

mod error;
pub(crate) mod topics;

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args as ClapArgs, Parser, ValueEnum};
use ducktide_kafka::KafkaArgs;
use ducktide_lake::config::{LakeArgs, LakeConfig};
use ducktide_protocol::dead_letter::headers_type;
use ducktide_protocol::table::{AvroField, Column, KAFKA_HEADERS, ShapeError};
use ducktide_registry::RegistryArgs;
use ducktide_service::endpoints::EndpointArgs;
use ducktide_service::units::{parse_bytes, parse_duration, parse_ratio};
use jiff::Timestamp;

use crate::batch::dedupe::DedupeRule;
use crate::config::topics::Topics;
use crate::decode::error_class::ErrorClass;
use crate::decode::record_format::{KeyArgs, ValueArgs};
use crate::source::kafka_config::{GroupProtocol, client_config};

pub use error::ConfigError;

const EXAMPLES: &str = "\
Examples:
  # one topic into a lake on this machine
  ducktide-consumer --topics events --catalog sqlite:lake.sqlite

  # all records of the topic until now, then exit (for cron)
  ducktide-consumer --topics events --until-end

  # several machines: catalog in PostgreSQL, files partitioned by day
  DUCKLAKE_CATALOG=postgres://lake@db/lake DUCKLAKE_DATA_PATH=/shared/lake \\
    ducktide-consumer --topics events --partition-by event_timestamp

To scale, start more consumers: those of one lake that fill the same tables share a consumer group.

Exit codes:
  0  stopped as requested, all records that were read are committed
  1  failed; no record is lost, uncommitted records are read again
  2  invalid command line or setting
  3  a record cannot be decoded, or too many records (see --on-bad-record); the log names the record
  4  the lake cannot be used: it is missing, does not fit the topic, or its triggers are missing
  5  the topic is not the one that the lake has registered, or Kafka no longer has the offsets
  6  --shutdown-timeout was exceeded before the last batch was committed; it is read again
  7  another process has the --group-instance-id of this worker, or its session expired
  8  with --until-end: Kafka rejects access to the topic or the group; the log names the remedy";

/// Moves Avro records from Kafka into a DuckLake table, exactly once.
///
/// Rows and their Kafka offsets are committed to the lake in one transaction. Crashes cause delay,
/// never loss or duplicates. The position to read from is always that of the lake.
#[derive(Clone, Debug, Parser)]
#[command(name = "ducktide-consumer", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Kafka settings.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Source settings.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Format of values.
    #[command(flatten)]
    pub values: ValueArgs,
    /// Schema registry settings.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Lake settings.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Table settings.
    #[command(flatten)]
    pub table: TableArgs,
    /// Duplicate settings.
    #[command(flatten)]
    pub dedupe: DedupeArgs,
    /// Batch settings.
    #[command(flatten)]
    pub batch: BatchArgs,
    /// Settings for undecodable records.
    #[command(flatten)]
    pub bad_records: BadRecordArgs,
    /// Process settings.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// Source: topics, consumer group, start and end.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Source")]
pub struct SourceArgs {
    /// Topics to read, separated by commas. An entry that begins with `^` is a regular expression
    /// for complete names; matching topics that are created later are read from their first record.
    #[arg(
        long,
        env = "KAFKA_TOPICS",
        value_name = "TOPIC,...",
        value_delimiter = ',',
        required = true
    )]
    pub topics: Vec<String>,

    /// Consumer group, whose workers share the partitions. The lake records it; later workers
    /// without this setting join the recorded group. [default: a group derived from the lake, such
    /// as ducktide-0123456789ab; `ducktide status` shows it]
    #[arg(long, env = "KAFKA_GROUP_ID", value_name = "GROUP",
          value_parser = NonEmptyStringValueParser::new())]
    pub group_id: Option<String>,

    /// Static group membership ID, unique per worker. A worker that restarts within the session
    /// timeout (45 s by default) keeps its partitions. After a crash this holds for
    /// --group-protocol classic; with `consumer`, the worker waits until its old session expires.
    #[arg(long, env = "KAFKA_GROUP_INSTANCE_ID", value_name = "NAME")]
    pub group_instance_id: Option<String>,

    /// Protocol by which the group assigns partitions.
    #[arg(long, env = "KAFKA_GROUP_PROTOCOL", value_enum, default_value_t)]
    pub group_protocol: GroupProtocol,

    /// Start of a topic that the lake has not registered: `earliest`, `latest`, or a time such as
    /// 2026-11-01T00:00:00Z. Partitions and topics that are created later start at their first
    /// record.
    #[arg(long, env = "DUCKTIDE_START_FROM", value_name = "WHERE", default_value = "earliest",
          value_parser = parse_start)]
    pub start_from: StartFrom,

    /// Read until the ends that the topics have when the worker starts, commit, and exit with 0.
    #[arg(long, env = "DUCKTIDE_UNTIL_END")]
    pub until_end: bool,

    /// Maximum number of rows to read; then commit and exit with 0. [default: no limit]
    #[arg(long, env = "DUCKTIDE_MAX_ROWS", value_name = "N",
          value_parser = clap::value_parser!(i64).range(1..))]
    pub max_rows: Option<i64>,
}

/// Tables: names, columns and files.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Table")]
pub struct TableArgs {
    /// Table to fill, as `table` or `schema.table`. It is created from the newest schema of the
    /// topic if it does not exist. `{topic}` is replaced by the name of the topic, for one table
    /// per topic: with `raw.{topic}`, the topic `shop.orders` fills `raw.shop_orders`. [default:
    /// {topic}]
    #[arg(long, env = "DUCKLAKE_TABLE", value_name = "TABLE", visible_alias = "table-template")]
    pub table: Option<String>,

    /// Label for the sources of the tables, shown by `ducktide status`. [default: the name of the
    /// table, or of the consumer group with several tables]
    #[arg(long, env = "DUCKTIDE_PIPELINE", value_name = "NAME")]
    pub pipeline: Option<String>,

    /// Columns in addition to the fields of records.
    #[command(flatten)]
    pub layout: TableLayout,

    /// Text columns with Parquet statistics, separated by commas. Their minimum and maximum are
    /// stored in the catalog, and appear in the log of PostgreSQL when a commit fails. [default:
    /// none]
    #[arg(long, env = "DUCKTIDE_STATISTICS", value_name = "COLUMN,...", value_delimiter = ',')]
    pub statistics: Vec<String>,

    /// Columns by which the rows of each file are sorted, separated by commas, so that selective
    /// queries read less. The rows are held in memory until their file is written: a batch ends
    /// when half of --memory-limit is used. [default: the order of Kafka]
    #[arg(long, env = "DUCKTIDE_SORT_BY", value_name = "COLUMN,...", value_delimiter = ',')]
    pub sort_by: Vec<String>,

    /// Do not create the lake or the tables of Ducktide in it; run `ducktide init` before.
    #[arg(long, env = "DUCKTIDE_NO_INIT")]
    pub no_init: bool,
}

/// Duplicates: events that a producer published at several offsets, for example by retries without
/// idempotence.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Duplicates")]
pub struct DedupeArgs {
    /// Drop a record if a recent row of its partition has the same value in this column, which
    /// contains text, bytes, UUIDs or integers. Records without a value are never dropped.
    /// [default: no record is dropped]
    #[arg(id = "dedupe-by", long, env = "DUCKTIDE_DEDUPE_BY", value_name = "COLUMN")]
    pub by: Option<String>,

    /// Maximum age of a recent row, relative to the newest row of the partition, by Kafka
    /// timestamps. Reading a topic again therefore drops the same records.
    #[arg(id = "dedupe-window", long, env = "DUCKTIDE_DEDUPE_WINDOW", value_name = "DURATION",
          default_value = "1h", value_parser = parse_duration)]
    pub window: Duration,

    /// Memory limit for the ids of recent rows, in addition to --memory-limit: 96 MB per million
    /// ids, plus the length of text ids. When it is reached, the oldest ids are dropped and their
    /// duplicates are not found.
    #[arg(id = "dedupe-memory-limit", long, env = "DUCKTIDE_DEDUPE_MEMORY_LIMIT", value_name = "BYTES",
          default_value = "512MiB", value_parser = parse_bytes)]
    pub memory_limit: u64,
}

impl DedupeArgs {
    /// Returns the rule, if duplicates are dropped.
    pub(crate) fn rule(&self) -> Option<DedupeRule> {
        let column = self.by.clone()?;
        let span_micros = i64::try_from(self.window.as_micros()).unwrap_or(i64::MAX);
        Some(DedupeRule { column, span_micros })
    }

    /// Returns the memory limit for ids, bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        usize::try_from(self.memory_limit).unwrap_or(usize::MAX)
    }
}

/// Columns of a table in addition to the fields of records and their offsets.
#[derive(ClapArgs, Clone, Debug, PartialEq, Eq)]
pub struct TableLayout {
    /// Timestamp column whose UTC date becomes the partition key `event_date`. The lake records the
    /// column when the table is created; afterwards the setting may be omitted, and another column
    /// is rejected. [default: no partition key]
    #[arg(long, env = "DUCKTIDE_PARTITION_BY", value_name = "COLUMN")]
    pub partition_by: Option<String>,

    /// Key settings.
    #[command(flatten)]
    pub keys: KeyArgs,

    /// Write the headers of each record to the column `_kafka_headers`, a list of key and value. If
    /// the table has the column, it is filled even without this setting.
    #[arg(long, env = "DUCKTIDE_HEADERS")]
    pub headers: bool,
}

impl TableLayout {
    /// Returns the columns of the key and the headers, if they are written. `key` is the newest
    /// schema of keys, if they are Avro.
    pub(crate) fn envelope(&self, key: Option<&AvroField>) -> Result<Vec<Column>, ShapeError> {
        let headers = self.headers.then(|| Column::new(KAFKA_HEADERS, headers_type()));
        Ok(self.keys.column(key)?.into_iter().chain(headers).collect())
    }
}

/// Batches. Each commit adds a snapshot and at least one file.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Batches")]
pub struct BatchArgs {
    /// Time between two commits. Longer intervals create fewer, larger files and increase the delay
    /// of rows. The first records after a pause are committed after a tenth of it.
    #[arg(long, env = "DUCKTIDE_FLUSH_INTERVAL", value_name = "SECONDS", default_value = "1",
          value_parser = parse_duration)]
    pub flush_interval: Duration,

    /// Size of Parquet files that ends a batch before --flush-interval.
    #[arg(long, env = "DUCKTIDE_FLUSH_BYTES", value_name = "BYTES", default_value = "64MiB",
          value_parser = parse_bytes)]
    pub flush_bytes: u64,

    /// Number of rows that ends a batch before --flush-interval.
    #[arg(long, env = "DUCKTIDE_FLUSH_ROWS", value_name = "ROWS", default_value = "1000000",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub flush_rows: u64,

    /// Memory limit for records, from the queue of librdkafka to open Parquet files and their
    /// encoders. When it is reached, the batch ends and reading pauses. A table needs at least 8 KB
    /// per column and batcher.
    #[arg(long, env = "DUCKTIDE_MEMORY_LIMIT", value_name = "BYTES", default_value = "192MiB",
          value_parser = parse_bytes)]
    pub memory_limit: u64,

    /// Maximum number of threads that decode records and write Parquet files. As many are used as
    /// the rate needs, because each adds a file to each commit. [default: number of cores, at most 4]
    #[arg(long, env = "DUCKTIDE_BATCHERS", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub batchers: Option<u16>,
}

/// Undecodable records: records that can never be decoded, or whose values the columns cannot
/// store. An outage, for example of the schema registry, never makes a record undecodable: the
/// worker waits.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Undecodable records")]
pub struct BadRecordArgs {
    /// Handling of a record that can never be decoded: write it complete to `<table>_dead_letters`,
    /// in the commit of its batch, and continue; or stop with exit code 3.
    #[arg(long, env = "DUCKTIDE_ON_BAD_RECORD", value_enum, default_value_t)]
    pub on_bad_record: OnBadRecord,

    /// Handling of a record with a field whose type the column of the table cannot store: stop with
    /// exit code 3, for a decision by the operator; or write such records complete to
    /// `<table>_dead_letters` and continue. Columns for new fields are added automatically.
    #[arg(long, env = "DUCKTIDE_ON_INCOMPATIBLE_SCHEMA", value_enum, default_value_t)]
    pub on_incompatible_schema: OnIncompatibleSchema,

    /// Maximum ratio of dead letters among the newest 10,000 to 20,000 records, from the thousandth
    /// record on. A higher ratio stops the worker with exit code 3 and without a commit of the
    /// current batch. 1 disables the limit.
    #[arg(long, env = "DUCKTIDE_MAX_DEAD_LETTER_RATIO", value_name = "RATIO", default_value = "0.1",
          value_parser = parse_ratio)]
    pub max_dead_letter_ratio: f64,
}

impl BadRecordArgs {
    /// Returns whether a record with a failure of this class stops the worker.
    pub(crate) fn stops_at(&self, class: ErrorClass) -> bool {
        match class {
            ErrorClass::SchemaDoesNotFit => {
                self.on_incompatible_schema == OnIncompatibleSchema::Stop
            }
            _ => self.on_bad_record == OnBadRecord::Stop,
        }
    }

    /// Returns whether any failure becomes a dead letter.
    pub(crate) fn keeps_dead_letters(&self) -> bool {
        ErrorClass::ALL.into_iter().any(|class| !self.stops_at(class))
    }
}

/// Handling of a record that can never be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnBadRecord {
    /// Write it to the dead-letter table and continue.
    #[default]
    DeadLetter,
    /// Stop after committing the records before it.
    Stop,
}

/// Handling of a record whose schema the table cannot store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnIncompatibleSchema {
    /// Stop after committing the records before it.
    #[default]
    Stop,
    /// Write it to the dead-letter table and continue.
    DeadLetter,
}

/// Process: endpoints and timeouts.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Process")]
pub struct ProcessArgs {
    /// Endpoints.
    #[command(flatten)]
    pub endpoints: EndpointArgs,

    /// Timeout of the last commit after SIGTERM or Ctrl-C; then exit with 6. Must be shorter than
    /// the session timeout of the group.
    #[arg(long, env = "DUCKTIDE_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value = "20",
          value_parser = parse_duration)]
    pub shutdown_timeout: Duration,

    /// Timeout of the last commit of partitions that are revoked. Afterwards their uncommitted rows
    /// are dropped, and read again by the next owner. A longer timeout delays the rebalance.
    #[arg(long, env = "DUCKTIDE_REVOCATION_TIMEOUT", value_name = "SECONDS", default_value = "10",
          value_parser = parse_duration)]
    pub revocation_timeout: Duration,
}

/// Start of a source that the lake has not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// First record that Kafka has.
    Earliest,
    /// Next record that is produced.
    Latest,
    /// First record at or after this time.
    Time(Timestamp),
}

/// Validated settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) kafka: KafkaArgs,
    pub(crate) source: SourceArgs,
    pub(crate) values: ValueArgs,
    pub(crate) registry: RegistryArgs,
    pub(crate) lake: LakeConfig,
    pub(crate) topics: Topics,
    /// Label of the sources; None if it is the name of the group that the lake chooses.
    pub(crate) pipeline: Option<String>,
    pub(crate) layout: TableLayout,
    pub(crate) statistics: Vec<String>,
    pub(crate) sort_by: Vec<String>,
    pub(crate) may_init: bool,
    pub(crate) dedupe: DedupeArgs,
    pub(crate) batch: BatchArgs,
    pub(crate) batchers: usize,
    pub(crate) bad_records: BadRecordArgs,
    pub(crate) process: ProcessArgs,
}

/// Minimum of --memory-limit, bytes. Less is used by a 4 MiB fetch per partition and a Parquet page
/// per column.
const LEAST_MEMORY: u64 = 64 << 20;

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        client_config(&args.kafka)?;
        args.registry.check()?;
        args.process.endpoints.token()?;
        let topics = Topics::new(&args.source.topics, args.table.table.as_deref())?;
        let label = topics.only_table().map(|table| table.table);
        let label = label.or_else(|| args.source.group_id.clone());
        if args.batch.memory_limit < LEAST_MEMORY {
            return Err(ConfigError::Memory(args.batch.memory_limit));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            lake: args.lake.resolve()?,
            pipeline: args.table.pipeline.or(label),
            topics,
            layout: args.table.layout,
            statistics: args.table.statistics,
            sort_by: args.table.sort_by,
            may_init: !args.table.no_init,
            batchers: args.batch.batchers.map_or(cores.min(4), usize::from),
            kafka: args.kafka,
            source: args.source,
            values: args.values,
            registry: args.registry,
            dedupe: args.dedupe,
            batch: args.batch,
            bad_records: args.bad_records,
            process: args.process,
        })
    }
}

/// Shares of `--memory-limit`, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryShares {
    /// Queue of librdkafka: records that were fetched but not polled.
    pub(crate) queue: usize,
    /// Records in flight from the poll thread to the batchers.
    pub(crate) in_flight: usize,
    /// Column builders and open Parquet files of all batchers.
    pub(crate) batches: usize,
}

impl BatchArgs {
    /// Returns a third for the queue, a sixth for records in flight, and half for the batches:
    /// while a batch is committed, only the open row groups of the next one need memory.
    pub(crate) fn memory_shares(&self) -> MemoryShares {
        let limit = usize::try_from(self.memory_limit).unwrap_or(usize::MAX);
        MemoryShares { queue: limit / 3, in_flight: limit / 6, batches: limit / 2 }
    }
}

impl Config {
    /// Returns the share of `--memory-limit` of each batcher for its batch, bytes.
    pub(crate) fn batcher_memory(&self) -> usize {
        self.batch.memory_shares().batches / self.batchers
    }
}

fn parse_start(text: &str) -> Result<StartFrom, String> {
    match text {
        "earliest" => Ok(StartFrom::Earliest),
        "latest" => Ok(StartFrom::Latest),
        time => {
            let wrong = |error| format!("expected earliest, latest or an RFC 3339 time: {error}");
            let time: Timestamp = time.parse().map_err(wrong)?;
            // Kafka timestamps are milliseconds since 1970; negative ones have a special meaning.
            if time < Timestamp::UNIX_EPOCH {
                return Err("Kafka has no timestamps before 1970; use `earliest`".to_owned());
            }
            Ok(StartFrom::Time(time))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        let args = ["ducktide-consumer"].iter().chain(args);
        Config::try_from(Args::try_parse_from(args).expect("the flags exist"))
    }

    #[test]
    fn the_default_pipeline_is_the_table_or_the_group() {
        let pipeline = |args: &[&str]| config(args).unwrap().pipeline;

        assert_eq!(pipeline(&["--topics", "events"]).as_deref(), Some("events"));
        assert_eq!(pipeline(&["--topics", "a,b", "--group-id", "g"]).as_deref(), Some("g"));
        assert_eq!(pipeline(&["--topics", "a,b"]), None);
    }

    #[test]
    fn an_invalid_kafka_property_is_rejected() {
        let error = config(&["--topics=t", "--kafka-property=topic.auto.offset.reset=latest"]);
        assert!(error.unwrap_err().to_string().contains("topic.auto.offset.reset"));
        assert!(config(&["--topics=t", "--kafka-property="]).is_ok());
    }

    #[test]
    fn memory_shares_add_up_to_the_limit() {
        let shares = config(&["--topics", "events"]).unwrap().batch.memory_shares();

        assert!(shares.queue + shares.in_flight + shares.batches <= 192 << 20);
    }

    #[test]
    fn an_invalid_start_is_rejected() {
        for wrong in ["1969-12-31T23:59:59.999Z", "-000001-01-01T00:00:00Z", "soon", ""] {
            assert!(parse_start(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_start("earliest"), Ok(StartFrom::Earliest));
        assert_eq!(parse_start("1970-01-01T00:00:00Z"), Ok(StartFrom::Time(Timestamp::UNIX_EPOCH)));
        assert!(parse_start("9999-12-30T00:00:00Z").is_ok());
    }

    #[test]
    fn names_that_kafka_never_accepts_are_rejected() {
        let long = "x".repeat(250);
        for topics in ["a b", "..", "ä", &long] {
            let refused = config(&["--topics", topics]);
            assert!(matches!(refused, Err(ConfigError::TopicName(_))), "{topics}");
        }
        assert!(config(&["--topics", &long[1..]]).is_ok());
        assert!(config(&["--topics", "^a b", "--table", "t"]).is_ok());
        let no_group = ["ducktide-consumer", "--topics", "events", "--group-id", ""];
        assert!(Args::try_parse_from(no_group).is_err());
    }
}
