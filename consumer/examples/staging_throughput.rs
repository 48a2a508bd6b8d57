//! Measures decoding and Parquet writing in one thread, with events of the demonstration, in CPU
//! time (on Linux; elapsed time on other systems), so that the load of the machine has little
//! influence.
//!
//! `cargo run --release -p ducktide-consumer --example staging_throughput [ROWS]`
#![expect(clippy::print_stdout, reason = "the output is the result of the measurement")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the real clock")]

use std::{
    error::Error,
    fs,
    hint::black_box,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use apache_avro::{Schema, reader::datum::GenericDatumReader};
use ducktide_consumer::staging::{ColumnHints, EncoderBudget, StagingWriter};
use ducktide_decoder::{RecordDecoder, RowBuffer};
use ducktide_protocol::table::{AvroSchema, TableShape, UnionAs};
use uuid::Uuid;

/// Number of rows in a batch, whose columns fit into the second-level cache.
const BATCH_ROWS: usize = 8_192;

/// Number of rows that are decoded and then written between two readings of the CPU time, which has
/// a coarse resolution on Linux.
const ROUND_ROWS: usize = 16 * BATCH_ROWS;

fn main() -> Result<(), Box<dyn Error>> {
    let rows = std::env::args().nth(1).map_or(Ok(1_000_000), |rows| rows.parse())?;
    let schema = Schema::parse_str(EVENTS)?;
    let (bytes, ends) = Generator { state: 42 }.datums(rows);
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let datums = starts.zip(&ends).map(|(start, end)| &bytes[start..*end]).collect::<Vec<_>>();
    println!("events            {rows} of {} bytes", bytes.len() / rows);
    report("apache-avro Value", apache_avro_values(&schema, &datums)?, rows);
    for _ in 0..2 {
        let (decoded, staged, size) = decode_and_stage(&AvroSchema::parse(EVENTS)?, &datums)?;
        report("decode", decoded, rows);
        report("parquet", staged, rows);
        println!("bytes per row     {:>7.1}", as_f64(size) / as_f64(rows));
    }
    Ok(())
}

fn report(what: &str, elapsed: Duration, rows: usize) {
    println!("{what:<18}{:>7.1} CPU ns per row", elapsed.as_secs_f64() * 1e9 / as_f64(rows));
}

#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn as_f64(value: usize) -> f64 {
    value as f64
}

fn apache_avro_values(schema: &Schema, datums: &[&[u8]]) -> Result<Duration, Box<dyn Error>> {
    let reader = GenericDatumReader::builder(schema).build()?;
    let start = cpu_time();
    for datum in datums {
        black_box(reader.read_value(&mut &**datum)?);
    }
    Ok(cpu_time_since(start))
}

fn decode_and_stage(
    schema: &AvroSchema,
    datums: &[&[u8]],
) -> Result<(Duration, Duration, usize), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let table = Arc::new(TableShape::from_avro(schema, Some("event_timestamp"))?);
    let decoder = RecordDecoder::compile(schema, UnionAs::Json, &[], table.clone())?;
    let mut rows = RowBuffer::new(table, Some("event_timestamp"))?;
    let hints = ColumnHints { enums: decoder.enum_columns().to_vec(), ..ColumnHints::default() };
    let (name, schema) = ("events".parse()?, rows.schema().clone());
    let mut writer =
        StagingWriter::new(name, folder.path(), schema, &hints, &EncoderBudget::of_command())?;
    let (mut decoding, mut staging) = (Duration::ZERO, Duration::ZERO);
    for datums in datums.chunks(ROUND_ROWS) {
        let start = cpu_time();
        let batches = datums.chunks(BATCH_ROWS).map(|datums| {
            for (offset, datum) in (0..).zip(datums) {
                decoder.decode(datum, &mut rows)?;
                rows.push_kafka("events", 3, offset, 1_795_536_000_000);
            }
            Ok(rows.finish_batch()?)
        });
        let batches = batches.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        decoding += cpu_time_since(start);
        let start = cpu_time();
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        staging += cpu_time_since(start);
    }
    let start = cpu_time();
    let files = writer.finish()?;
    staging += cpu_time_since(start);
    let bytes = files.iter().map(|file| file.bytes).sum::<u64>();
    Ok((decoding, staging, usize::try_from(bytes)?))
}

fn cpu_time_since(start: Duration) -> Duration {
    cpu_time().saturating_sub(start)
}

/// Returns the CPU time of this thread.
fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = statistics.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// Generator of events in Avro's binary encoding. Seeded, so that every run measures the same
/// bytes.
struct Generator {
    state: u64,
}

impl Generator {
    /// Returns consecutive events, as in a fetched batch, and the end of each one.
    fn datums(&mut self, rows: usize) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let ends = (0..).take(rows).map(|row| {
            self.event(&mut bytes, row);
            bytes.len()
        });
        let ends = ends.collect();
        (bytes, ends)
    }

    fn event(&mut self, out: &mut Vec<u8>, row: i64) {
        self.uuid(out);
        let kind = match self.below(100) {
            0..35 => 0,
            35..60 => 1,
            60..75 => 2,
            75..85 => 3,
            _ => 4,
        };
        long(out, kind);
        let now = 1_795_536_000_000_000 + row * 50 + self.below(50);
        long(out, now);
        long(out, kind);
        match kind {
            0 => self.user_login(out),
            1 => self.api_request(out),
            2 => self.payment_processed(out),
            3 => self.error_occurred(out),
            _ => self.feature_usage(out),
        }
        long(out, now + 1_000 + self.below(1_000));
    }

    fn user_login(&mut self, out: &mut Vec<u8>) {
        text(out, &format!("user_{}", 1_000 + self.below(9_000)));
        let mut byte = || self.below(256);
        text(out, &format!("{}.{}.{}.{}", byte(), byte(), byte(), byte()));
        self.pick(
            out,
            &[
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/120.0",
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/17.0",
                "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Firefox/120.0",
            ],
        );
        self.uuid(out);
        self.pick(out, &["password", "oauth_google", "oauth_github", "sso"]);
    }

    fn api_request(&mut self, out: &mut Vec<u8>) {
        self.pick(out, &["/api/v1/users", "/api/v1/products", "/api/v1/orders", "/api/v1/reports"]);
        self.pick(out, &["GET", "POST", "PUT", "DELETE"]);
        let statuses = [200, 200, 200, 201, 204, 400, 401, 404, 500];
        long(out, statuses[usize::try_from(self.below(9)).expect("an index")]);
        long(out, 10 + self.below(1_991));
        self.uuid(out);
        text(out, &format!("key_{}", 1_000 + self.below(9_000)));
    }

    fn payment_processed(&mut self, out: &mut Vec<u8>) {
        self.uuid(out);
        let cents = u32::try_from(1_000 + self.below(499_000)).expect("few cents");
        out.extend_from_slice(&(f64::from(cents) / 100.0).to_le_bytes());
        self.pick(out, &["USD", "EUR", "GBP", "JPY"]);
        self.pick(out, &["credit_card", "paypal", "stripe", "bank_transfer"]);
        self.pick(out, &["success", "success", "success", "failed", "pending"]);
        text(out, &format!("cust_{}", 10_000 + self.below(90_000)));
        text(out, &format!("merch_{}", 100 + self.below(900)));
    }

    fn error_occurred(&mut self, out: &mut Vec<u8>) {
        self.pick(out, &["E1001", "E2002", "E3003", "E4004"]);
        self.pick(out, &["Connection timed out", "Invalid input", "Out of memory"]);
        self.pick(out, &["at main.rs:42\n  at handler.rs:17", "at db.rs:128\n  at pool.rs:55"]);
        self.pick(out, &["low", "medium", "high", "critical"]);
        long(out, self.below(1_001));
        self.pick(out, &["auth", "billing", "search", "gateway"]);
    }

    fn feature_usage(&mut self, out: &mut Vec<u8>) {
        self.pick(out, &["dashboard", "export", "search", "sharing", "reports"]);
        text(out, &format!("user_{}", 1_000 + self.below(9_000)));
        long(out, 1 + self.below(3_600));
        long(out, 1 + self.below(50));
        self.pick(out, &["free", "basic", "pro", "enterprise"]);
        text(out, &format!("v{}.{}.{}", self.below(5), self.below(10), self.below(10)));
    }

    fn uuid(&mut self, out: &mut Vec<u8>) {
        let uuid = Uuid::from_u64_pair(self.next(), self.next());
        text(out, &uuid.to_string());
    }

    fn pick(&mut self, out: &mut Vec<u8>, texts: &[&str]) {
        let count = i64::try_from(texts.len()).expect("few texts");
        text(out, texts[usize::try_from(self.below(count)).expect("an index")]);
    }

    fn below(&mut self, bound: i64) -> i64 {
        i64::try_from(self.next() >> 1).expect("63 bits") % bound
    }

    /// Returns the next number of a xorshift generator, which is uniform enough for a measurement.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = (value << 1 ^ value >> 63).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(u8::try_from(zigzag & 0x7f).expect("7 bits") | 0x80);
        zigzag >>= 7;
    }
    out.push(u8::try_from(zigzag).expect("7 bits"));
}

fn text(out: &mut Vec<u8>, text: &str) {
    long(out, i64::try_from(text.len()).expect("short texts"));
    out.extend_from_slice(text.as_bytes());
}

const EVENTS: &str = r#"{
    "type": "record", "name": "Event", "fields": [
        {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "event_type", "type": {"type": "enum", "name": "EventType", "symbols": [
            "user_login", "api_request", "payment_processed", "error_occurred", "feature_usage"]}},
        {"name": "event_timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "details", "type": [
            {"type": "record", "name": "UserLogin", "fields": [
                {"name": "user_id", "type": "string"}, {"name": "ip_address", "type": "string"},
                {"name": "user_agent", "type": "string"}, {"name": "session_id", "type": "string"},
                {"name": "login_method", "type": "string"}]},
            {"type": "record", "name": "ApiRequest", "fields": [
                {"name": "endpoint", "type": "string"}, {"name": "method", "type": "string"},
                {"name": "status_code", "type": "int"}, {"name": "response_time_ms", "type": "int"},
                {"name": "request_id", "type": "string"}, {"name": "api_key", "type": "string"}]},
            {"type": "record", "name": "PaymentProcessed", "fields": [
                {"name": "transaction_id", "type": "string"}, {"name": "amount", "type": "double"},
                {"name": "currency", "type": "string"}, {"name": "payment_method", "type": "string"},
                {"name": "status", "type": "string"}, {"name": "customer_id", "type": "string"},
                {"name": "merchant_id", "type": "string"}]},
            {"type": "record", "name": "ErrorOccurred", "fields": [
                {"name": "error_code", "type": "string"}, {"name": "error_message", "type": "string"},
                {"name": "stack_trace", "type": "string"}, {"name": "severity", "type": "string"},
                {"name": "affected_users", "type": "int"}, {"name": "service", "type": "string"}]},
            {"type": "record", "name": "FeatureUsage", "fields": [
                {"name": "feature_name", "type": "string"}, {"name": "user_id", "type": "string"},
                {"name": "duration_seconds", "type": "int"}, {"name": "clicks", "type": "int"},
                {"name": "subscription_tier", "type": "string"},
                {"name": "feature_version", "type": "string"}]}]},
        {"name": "created_at", "type": {"type": "long", "logicalType": "timestamp-micros"}}
    ]}"#;
