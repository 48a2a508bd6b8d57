//! What the consumer is told, by flags and environment: [`Args`] is what was typed, [`Config`] what
//! is meant.

mod error;
pub(crate) mod topics;

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args as ClapArgs, Parser, ValueEnum};
use ducktide_lake::config::{LakeArgs, LakeConfig};
use ducktide_protocol::dead_letter::headers_type;
use ducktide_protocol::table::{AvroField, Column, KAFKA_HEADERS, ShapeError};
use ducktide_service::units::{parse_bytes, parse_duration, parse_ratio};
use jiff::Timestamp;

use crate::batch::dedupe::DedupeRule;
use crate::config::topics::Topics;
use crate::decode::error_class::ErrorClass;
use crate::decode::record_format::{KeyArgs, ValueArgs};
use crate::decode::schema_registry::RegistryArgs;
use crate::source::kafka_config::{GroupProtocol, KafkaArgs};

pub use error::ConfigError;

const EXAMPLES: &str = "\
Examples:
  # one topic into a lake on this machine, for ever
  ducktide-consumer --topics events --catalog sqlite:lake.sqlite

  # everything that is in the topic now, then exit (for cron)
  ducktide-consumer --topics events --until-end

  # many machines: catalog in PostgreSQL, a folder for each day
  DUCKLAKE_CATALOG=postgres://lake@db/lake DUCKLAKE_DATA_PATH=/shared/lake \\
    ducktide-consumer --topics events --partition-by event_timestamp

Scale by starting more of them: workers of one lake that fill the same tables share a group.

Exit codes:
  0  stopped as asked, everything that was read is committed
  1  failed; nothing is lost, what is not in the lake is read again
  2  the command line or a setting is wrong
  3  a record cannot be decoded, or too many cannot (see --on-bad-record); the log names it
  4  the lake refuses: it is missing, does not fit the topic, or its triggers are gone
  5  the topic is not the one that the lake knows, or its offsets are gone
  6  --shutdown-timeout was over before the last batch was committed; it is read again
  7  another process has this worker's --group-instance-id, or it slept so long that it lost it
  8  with --until-end: Kafka refuses the topic or the group, and the log names the remedy";

/// Moves Avro records from Kafka into a DuckLake table, exactly once.
///
/// Rows and the offsets they came from enter the lake in one transaction, so an event is in the lake
/// once, or not yet, whatever crashes. Where to start reading is always asked of the lake.
#[derive(Clone, Debug, Parser)]
#[command(name = "ducktide-consumer", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// What to read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How values are written.
    #[command(flatten)]
    pub values: ValueArgs,
    /// Where schemas are.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Which table.
    #[command(flatten)]
    pub table: TableArgs,
    /// What repeats are known by.
    #[command(flatten)]
    pub dedupe: DedupeArgs,
    /// When a batch is committed.
    #[command(flatten)]
    pub batch: BatchArgs,
    /// What becomes of records that cannot be decoded.
    #[command(flatten)]
    pub bad_records: BadRecordArgs,
    /// How the process runs.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// What to read.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Source")]
pub struct SourceArgs {
    /// Topics to read, comma separated. One that begins with `^` is a regular expression for whole
    /// names: topics that appear later are picked up, and read from their beginning.
    #[arg(
        long,
        env = "KAFKA_TOPICS",
        value_name = "TOPIC,...",
        value_delimiter = ',',
        required = true
    )]
    pub topics: Vec<String>,

    /// Consumer group: workers of one group share the partitions. The lake records it, and the next
    /// worker without this setting joins the same. [default: a group of the lake's own, such as
    /// ducktide-0123456789ab; `ducktide status` shows it]
    #[arg(long, env = "KAFKA_GROUP_ID", value_name = "GROUP",
          value_parser = NonEmptyStringValueParser::new())]
    pub group_id: Option<String>,

    /// Static group membership ID, unique per worker. A worker that is stopped and restarts within the
    /// session timeout (45 s by default) keeps its partitions. After a crash the same holds for
    /// --group-protocol classic; with `consumer` it waits until its old session ends.
    #[arg(long, env = "KAFKA_GROUP_INSTANCE_ID", value_name = "NAME")]
    pub group_instance_id: Option<String>,

    /// How the group shares partitions.
    #[arg(long, env = "KAFKA_GROUP_PROTOCOL", value_enum, default_value_t)]
    pub group_protocol: GroupProtocol,

    /// Where a topic that the lake does not know yet begins: `earliest`, `latest`, or a time such as
    /// 2026-11-01T00:00:00Z. Partitions and topics that appear later begin at their beginning.
    #[arg(long, env = "DUCKTIDE_START_FROM", value_name = "WHERE", default_value = "earliest",
          value_parser = parse_start)]
    pub start_from: StartFrom,

    /// Reads up to where the topics end when the worker starts, commits, and exits with 0.
    #[arg(long, env = "DUCKTIDE_UNTIL_END")]
    pub until_end: bool,

    /// Reads this many rows at most, commits, and exits with 0.
    #[arg(long, env = "DUCKTIDE_MAX_ROWS", value_name = "N",
          value_parser = clap::value_parser!(i64).range(1..))]
    pub max_rows: Option<i64>,
}

/// Which table, and how it is laid out.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Table")]
pub struct TableArgs {
    /// The table to fill, `table` or `schema.table`; made from the topic's newest schema if it does
    /// not exist. `{topic}` in it stands for the topic's name, so that each topic has a table of its
    /// own: in `raw.{topic}`, the topic `shop.orders` fills `raw.shop_orders`. [default: {topic}]
    #[arg(long, env = "DUCKLAKE_TABLE", value_name = "TABLE", visible_alias = "table-template")]
    pub table: Option<String>,

    /// A label for people: which pipeline fills the tables. [default: the table's name, or the
    /// group's if there are several]
    #[arg(long, env = "DUCKTIDE_PIPELINE", value_name = "NAME")]
    pub pipeline: Option<String>,

    /// What it has beside the fields of records.
    #[command(flatten)]
    pub layout: TableLayout,

    /// Text columns that get Parquet statistics, comma separated. Their smallest and largest values
    /// then stand in the catalog, and in PostgreSQL's log when a commit fails.
    #[arg(long, env = "DUCKTIDE_STATISTICS", value_name = "COLUMN,...", value_delimiter = ',')]
    pub statistics: Vec<String>,

    /// Sorts the rows of each file by these columns, comma separated, so that queries for a value read
    /// less of it. Rows then wait in memory until their file is written: a batch ends when half of
    /// --memory-limit is used up.
    #[arg(long, env = "DUCKTIDE_SORT_BY", value_name = "COLUMN,...", value_delimiter = ',')]
    pub sort_by: Vec<String>,

    /// Refuses to make the lake or Ducktide's own tables; `ducktide init` must have done so.
    #[arg(long, env = "DUCKTIDE_NO_INIT")]
    pub no_init: bool,
}

/// What repeats are known by: producers that retry outside of Kafka's idempotence publish an event
/// twice, under two offsets.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Repeats")]
pub struct DedupeArgs {
    /// Drops a record that has the same value in this column as a recent row of its own partition. It
    /// holds text, bytes, UUIDs or whole numbers; a record without a value in it is never dropped.
    #[arg(id = "dedupe-by", long, env = "DUCKTIDE_DEDUPE_BY", value_name = "COLUMN")]
    pub by: Option<String>,

    /// How far back rows are recent: from the partition's newest row, by Kafka's timestamps, so that
    /// reading a topic later or again drops the same records.
    #[arg(id = "dedupe-window", long, env = "DUCKTIDE_DEDUPE_WINDOW", value_name = "DURATION",
          default_value = "1h", value_parser = parse_duration)]
    pub window: Duration,

    /// What the ids of recent rows may take in memory, beside --memory-limit: 96 MB for each million
    /// of numbers and UUIDs, and the texts' own lengths. When it is used up, the oldest ids go.
    #[arg(id = "dedupe-memory-limit", long, env = "DUCKTIDE_DEDUPE_MEMORY_LIMIT", value_name = "BYTES",
          default_value = "512MiB", value_parser = parse_bytes)]
    pub memory_limit: u64,
}

impl DedupeArgs {
    /// The rule, if repeats are dropped.
    pub(crate) fn rule(&self) -> Option<DedupeRule> {
        let column = self.by.clone()?;
        let span_micros = i64::try_from(self.window.as_micros()).unwrap_or(i64::MAX);
        Some(DedupeRule { column, span_micros })
    }

    /// Bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        usize::try_from(self.memory_limit).unwrap_or(usize::MAX)
    }
}

/// What a table has beside the fields of records, and where they came from.
#[derive(ClapArgs, Clone, Debug, PartialEq, Eq)]
pub struct TableLayout {
    /// A timestamp column whose UTC date becomes the partition key `event_date`. The lake records the
    /// column when the table is created: afterwards the setting may be omitted, and another column is
    /// refused.
    #[arg(long, env = "DUCKTIDE_PARTITION_BY", value_name = "COLUMN")]
    pub partition_by: Option<String>,

    /// Whether keys are kept.
    #[command(flatten)]
    pub keys: KeyArgs,

    /// Keeps each record's headers in the column `_kafka_headers`, a list of key and value. A table that
    /// has the column gets it filled from then on, whatever this says.
    #[arg(long, env = "DUCKTIDE_HEADERS")]
    pub headers: bool,
}

impl TableLayout {
    /// The columns of what Kafka has of a record beside its value, as far as that is to be kept.
    /// `key` is the newest schema of keys, where they are Avro.
    pub(crate) fn envelope(&self, key: Option<&AvroField>) -> Result<Vec<Column>, ShapeError> {
        let headers = self.headers.then(|| Column::new(KAFKA_HEADERS, headers_type()));
        Ok(self.keys.column(key)?.into_iter().chain(headers).collect())
    }
}

/// When a batch is committed. Each commit is a snapshot and at least one file.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Batches")]
pub struct BatchArgs {
    /// The longest time from a record's arrival to its commit. Longer makes fewer, larger files.
    #[arg(long, env = "DUCKTIDE_FLUSH_INTERVAL", value_name = "SECONDS", default_value = "1",
          value_parser = parse_duration)]
    pub flush_interval: Duration,

    /// Parquet bytes that end a batch earlier.
    #[arg(long, env = "DUCKTIDE_FLUSH_BYTES", value_name = "BYTES", default_value = "64MiB",
          value_parser = parse_bytes)]
    pub flush_bytes: u64,

    /// Rows that end a batch earlier.
    #[arg(long, env = "DUCKTIDE_FLUSH_ROWS", value_name = "ROWS", default_value = "1000000",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub flush_rows: u64,

    /// Memory for records, from librdkafka's queue to open Parquet files and their encoders. When it is
    /// used up, the batch ends and reading pauses. A table needs at least 8 KB for each column and
    /// batcher.
    #[arg(long, env = "DUCKTIDE_MEMORY_LIMIT", value_name = "BYTES", default_value = "192MiB",
          value_parser = parse_bytes)]
    pub memory_limit: u64,

    /// Threads that decode and write Parquet. [default: the number of cores, at most 4]
    #[arg(long, env = "DUCKTIDE_BATCHERS", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub batchers: Option<u16>,
}

/// What becomes of records that can never be decoded, or whose values no column can hold. An outage,
/// of the schema registry for example, never makes a record one of them: the worker waits.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Bad records")]
pub struct BadRecordArgs {
    /// What to do with a record that can never be decoded: keep it whole in `<table>_dead_letters`, in
    /// the commit of its batch, and go on; or stop, with exit code 3.
    #[arg(long, env = "DUCKTIDE_ON_BAD_RECORD", value_enum, default_value_t)]
    pub on_bad_record: OnBadRecord,

    /// What to do with a record whose schema the table cannot hold, as a field has another type there:
    /// stop, with exit code 3, so that somebody decides; or keep such records whole in
    /// `<table>_dead_letters` and go on. Fields that the table lacks become columns by themselves.
    #[arg(long, env = "DUCKTIDE_ON_INCOMPATIBLE_SCHEMA", value_enum, default_value_t)]
    pub on_incompatible_schema: OnIncompatibleSchema,

    /// Stops the worker, with exit code 3, when a larger part of the newest records than this would
    /// become dead letters; what was read and not committed is then read again. Counts from the
    /// thousandth record on; 1 never stops.
    #[arg(long, env = "DUCKTIDE_MAX_DEAD_LETTER_RATIO", value_name = "RATIO", default_value = "0.1",
          value_parser = parse_ratio)]
    pub max_dead_letter_ratio: f64,
}

impl BadRecordArgs {
    /// Whether a record like this ends the worker.
    pub(crate) fn stops_at(&self, class: ErrorClass) -> bool {
        match class {
            ErrorClass::SchemaDoesNotFit => {
                self.on_incompatible_schema == OnIncompatibleSchema::Stop
            }
            _ => self.on_bad_record == OnBadRecord::Stop,
        }
    }

    /// Whether any record becomes a dead letter.
    pub(crate) fn keeps_dead_letters(&self) -> bool {
        ErrorClass::ALL.into_iter().any(|class| !self.stops_at(class))
    }
}

/// What to do with a record that can never be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnBadRecord {
    /// Keep it in the dead-letter table and go on.
    #[default]
    DeadLetter,
    /// Stop; everything before it is committed.
    Stop,
}

/// What to do with a record whose schema the table cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnIncompatibleSchema {
    /// Stop; everything before it is committed.
    #[default]
    Stop,
    /// Keep it in the dead-letter table and go on.
    DeadLetter,
}

/// How the process runs.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Process")]
pub struct ProcessArgs {
    /// Where /metrics, /healthz and /readyz are served; port 0 takes a free one, which is logged.
    #[arg(long, env = "DUCKTIDE_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// After SIGTERM or Ctrl-C: how long the last commit may take. Keep it below the group's session
    /// timeout.
    #[arg(long, env = "DUCKTIDE_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value = "20",
          value_parser = parse_duration)]
    pub shutdown_timeout: Duration,

    /// When partitions are taken away: how long their last commit may take. Afterwards the rows are
    /// dropped, and read again by the next owner.
    #[arg(long, env = "DUCKTIDE_REVOCATION_TIMEOUT", value_name = "SECONDS", default_value = "10",
          value_parser = parse_duration)]
    pub revocation_timeout: Duration,
}

/// Where a source that the lake does not know begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// The first record that Kafka has.
    Earliest,
    /// The next record that is produced.
    Latest,
    /// The first record at or after this time.
    Time(Timestamp),
}

/// What the consumer does, checked once.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) kafka: KafkaArgs,
    pub(crate) source: SourceArgs,
    pub(crate) values: ValueArgs,
    pub(crate) registry: RegistryArgs,
    pub(crate) lake: LakeConfig,
    pub(crate) topics: Topics,
    /// None where it is named after the group, and the lake chooses that.
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

/// Below this, a single 4 MiB fetch for each partition and a Parquet page for each column fill it.
const LEAST_MEMORY: u64 = 64 << 20;

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        args.kafka.client_config()?;
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

/// How `--memory-limit` is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryShares {
    /// librdkafka's queue of records that were fetched but not polled.
    pub(crate) queue: usize,
    /// Records on their way to the batchers.
    pub(crate) in_flight: usize,
    /// Column builders and open Parquet files, of all batchers together.
    pub(crate) batches: usize,
}

impl BatchArgs {
    /// A third for the queue, a sixth in flight, half for what is being written: a batch that fills
    /// while the one before it commits needs only the files' open row groups.
    pub(crate) fn memory_shares(&self) -> MemoryShares {
        let limit = usize::try_from(self.memory_limit).unwrap_or(usize::MAX);
        MemoryShares { queue: limit / 3, in_flight: limit / 6, batches: limit / 2 }
    }
}

impl Config {
    /// The share of `--memory-limit` that each batcher has for what it writes, bytes.
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
            // Kafka's timestamps are milliseconds since 1970, and negative ones mean something else.
            if time < Timestamp::UNIX_EPOCH {
                return Err("Kafka has no times before 1970; use `earliest`".to_owned());
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
    fn a_pipeline_is_named_after_its_table_or_its_group() {
        let pipeline = |args: &[&str]| config(args).unwrap().pipeline;

        assert_eq!(pipeline(&["--topics", "events"]).as_deref(), Some("events"));
        assert_eq!(pipeline(&["--topics", "a,b", "--group-id", "g"]).as_deref(), Some("g"));
        assert_eq!(pipeline(&["--topics", "a,b"]), None);
    }

    #[test]
    fn a_setting_of_the_client_that_cannot_work_is_refused() {
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
    fn a_start_that_kafka_cannot_find_is_refused() {
        for wrong in ["1969-12-31T23:59:59.999Z", "-000001-01-01T00:00:00Z", "soon", ""] {
            assert!(parse_start(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_start("earliest"), Ok(StartFrom::Earliest));
        assert_eq!(parse_start("1970-01-01T00:00:00Z"), Ok(StartFrom::Time(Timestamp::UNIX_EPOCH)));
        assert!(parse_start("9999-12-30T00:00:00Z").is_ok());
    }

    #[test]
    fn settings_that_kafka_never_takes_are_refused() {
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
