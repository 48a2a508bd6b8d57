//! Measures decoding by schema shape, in one thread: Ducktide's decoder, `arrow-avro`, and
//! `apache-avro` values, from which a decoder without a plan would build columns.
//!
//! `cargo run --release -p ducktide-decoder --example decoding_speed`
//!
//! Times are CPU time (on Linux; elsewhere elapsed time), the median of several rounds. Allocations
//! include those of the finished batches. Ducktide's include the columns for the Kafka topic,
//! partition, offset and timestamp. `arrow-avro` maps some types differently and does not support
//! others: `fails`.
#![expect(clippy::print_stdout, reason = "the measurement is printed")]
#![expect(unsafe_code, reason = "implementing an allocator requires unsafe code")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    error::Error,
    fs,
    hint::black_box,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use apache_avro::{
    Decimal, Schema, reader::datum::GenericDatumReader, types::Value,
    writer::datum::GenericDatumWriter,
};
use arrow_avro::{
    reader::{Decoder, ReaderBuilder},
    schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore},
};
use ducktide_decoder::{RecordDecoder, RowBuffer};
use ducktide_protocol::table::{self, TableShape, UnionAs};

/// Number of different records, decoded in turn.
const ROWS: usize = 4 * BATCH_ROWS;

/// Rows per batch, as in the consumer.
const BATCH_ROWS: usize = 8_192;

const ROUNDS: usize = 9;

/// CPU time of a round, long compared with the tick in which Linux advances the clock.
const ROUND: Duration = Duration::from_millis(400);

/// Header of a record: a zero byte and the schema id.
const HEADER: [u8; 5] = [0, 0, 0, 0, 1];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    println!("{ROWS} records, medians of {ROUNDS} rounds; allocations per row in parentheses\n");
    println!("| shape | bytes per row | Ducktide | arrow-avro | apache-avro values |");
    println!("|---|--:|--:|--:|--:|");
    for (name, schema) in shapes() {
        let parsed = Schema::parse_str(&schema)?;
        let records = records(&parsed)?;
        let bytes = records.iter().map(|record| record.len() - HEADER.len()).sum::<usize>();
        let own = measured(ducktide(&table::AvroSchema::parse(&schema)?, &records)?);
        let arrow = arrow_avro(&schema, &records).map_or_else(|_| "fails".to_owned(), measured);
        let values = measured(apache_avro_values(&parsed, &records)?);
        println!("| {name} | {} | {own} | {arrow} | {values} |", bytes / ROWS);
    }
    Ok(())
}

/// Returns the shapes, each with its schema.
fn shapes() -> Vec<(&'static str, String)> {
    let of = |types: &[&str], count: usize| {
        let field = |index: usize| {
            let of = types[index % types.len()].replace('#', &index.to_string());
            format!(r#"{{"name": "f{index}", "type": {of}}}"#)
        };
        let fields = (0..count).map(field).collect::<Vec<_>>().join(", ");
        format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#)
    };
    let numbers = [r#""long""#, r#""int""#, r#""double""#, r#""boolean""#];
    let nullable =
        [r#"["null", "long"]"#, r#"["null", "string"]"#, r#"["null", "double"]"#, r#""long""#];
    let logical = [
        r#"{"type": "long", "logicalType": "timestamp-micros"}"#,
        r#"{"type": "int", "logicalType": "date"}"#,
        r#"{"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}"#,
        r#"{"type": "enum", "name": "E#", "symbols": ["a", "b", "c"]}"#,
    ];
    let nested = [
        r#"{"type": "record", "name": "N#", "fields": [
            {"name": "x", "type": "long"}, {"name": "y", "type": "string"}]}"#,
        r#"{"type": "array", "items": {"type": "record", "name": "N#", "fields": [
            {"name": "x", "type": "long"}, {"name": "y", "type": "string"}]}}"#,
        r#"{"type": "map", "values": "long"}"#,
    ];
    let branches = [r#"["null", "long", "string", {"type": "record", "name": "B#", "fields": [
        {"name": "x", "type": "long"}, {"name": "y", "type": "string"}]}]"#];
    vec![
        ("10 numbers", of(&numbers, 10)),
        ("10 strings", of(&[r#""string""#], 10)),
        ("10 nullable", of(&nullable, 10)),
        ("10 times, decimals, enums", of(&logical, 10)),
        ("3 nested: record, array, map", of(&nested, 3)),
        ("3 unions of 3 branches", of(&branches, 3)),
        ("200 mixed", of(&[numbers[0], r#""string""#, nullable[0], logical[0]], 200)),
    ]
}

/// Formats CPU nanoseconds and allocations per row.
fn measured((nanos, allocations): (f64, f64)) -> String {
    format!("{nanos:.0} ns ({allocations:.2})")
}

fn ducktide(schema: &table::AvroSchema, records: &[Vec<u8>]) -> Result<(f64, f64)> {
    let table = Arc::new(TableShape::from_avro(schema, None)?);
    let decoder = RecordDecoder::compile(schema, UnionAs::Json, &[], Arc::clone(&table))?;
    let mut rows = RowBuffer::new(table, None)?;
    rounds(records, |records| {
        for (offset, record) in (0..).zip(records) {
            decoder.decode(&record[HEADER.len()..], &mut rows)?;
            rows.push_kafka("events", 3, offset, 1_795_536_000_000);
        }
        black_box(rows.finish_batch()?);
        Ok(())
    })
}

fn arrow_avro(schema: &str, records: &[Vec<u8>]) -> Result<(f64, f64)> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(1), AvroSchema::new(schema.to_owned()))?;
    let mut decoder: Decoder = ReaderBuilder::new()
        .with_writer_schema_store(store)
        .with_batch_size(BATCH_ROWS)
        .build_decoder()?;
    rounds(records, |records| {
        for record in records {
            let taken = decoder.decode(record)?;
            assert_eq!(taken, record.len(), "a record is taken whole");
        }
        black_box(decoder.flush()?.ok_or("no batch")?);
        Ok(())
    })
}

fn apache_avro_values(schema: &Schema, records: &[Vec<u8>]) -> Result<(f64, f64)> {
    let reader = GenericDatumReader::builder(schema).build()?;
    rounds(records, |records| {
        for record in records {
            black_box(reader.read_value(&mut &record[HEADER.len()..])?);
        }
        Ok(())
    })
}

/// Decodes all records batch by batch, repeatedly in each round; the first round is a warm-up.
fn rounds(
    records: &[Vec<u8>],
    mut decode: impl FnMut(&[Vec<u8>]) -> Result<()>,
) -> Result<(f64, f64)> {
    let mut results = Vec::new();
    for _ in 0..=ROUNDS {
        let (started, before) = (cpu_time(), ALLOCATIONS.get());
        let (mut elapsed, mut rows) = (Duration::ZERO, 0);
        while elapsed < ROUND {
            records.chunks(BATCH_ROWS).try_for_each(&mut decode)?;
            elapsed = cpu_time().saturating_sub(started);
            rows += records.len();
        }
        let allocations = as_f64(ALLOCATIONS.get() - before) / as_f64(rows);
        results.push((elapsed.as_secs_f64() * 1e9 / as_f64(rows), allocations));
    }
    results.remove(0);
    results.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(results[ROUNDS / 2])
}

#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn as_f64(value: usize) -> f64 {
    value as f64
}

/// Generates records of a schema from a fixed seed, so that every run measures the same bytes.
fn records(schema: &Schema) -> Result<Vec<Vec<u8>>> {
    let mut random = Random(42);
    let writer = GenericDatumWriter::builder(schema).build()?;
    let record = |_| {
        let mut bytes = HEADER.to_vec();
        bytes.extend(writer.write_value_to_vec(random.value(schema))?);
        Ok(bytes)
    };
    (0..ROWS).map(record).collect()
}

struct Random(u64);

impl Random {
    fn value(&mut self, schema: &Schema) -> Value {
        match schema {
            Schema::Boolean => Value::Boolean(self.below(2) == 0),
            Schema::Int => Value::Int(i32::try_from(self.below(1 << 20)).expect("20 bits")),
            Schema::Date => Value::Date(i32::try_from(self.below(20_000)).expect("few days")),
            Schema::Long => Value::Long(self.below(1 << 40)),
            Schema::TimestampMicros => {
                Value::TimestampMicros(1_795_536_000_000_000 + self.below(1 << 30))
            }
            Schema::Double => {
                Value::Double(f64::from(i32::try_from(self.below(1 << 30)).expect("30 bits")) / 8.0)
            }
            Schema::String => Value::String(self.text()),
            Schema::Decimal(_) => Value::Decimal(Decimal::from(self.below(1 << 50).to_be_bytes())),
            Schema::Enum(of) => {
                let index = self.index(of.symbols.len());
                Value::Enum(u32::try_from(index).expect("few symbols"), of.symbols[index].clone())
            }
            Schema::Array(of) => {
                let count = self.index(4);
                Value::Array((0..count).map(|_| self.value(&of.items)).collect())
            }
            Schema::Map(of) => {
                let count = self.index(4);
                let entries = (0..count).map(|n| (format!("key {n}"), self.value(&of.types)));
                Value::Map(entries.collect())
            }
            Schema::Record(of) => {
                let fields = of.fields.iter();
                let fields = fields.map(|field| (field.name.clone(), self.value(&field.schema)));
                Value::Record(fields.collect())
            }
            Schema::Union(of) => {
                let index = self.index(of.variants().len());
                let value = self.value(&of.variants()[index]);
                Value::Union(u32::try_from(index).expect("few branches"), Box::new(value))
            }
            _ => Value::Null,
        }
    }

    /// Returns 4 to 35 letters.
    fn text(&mut self) -> String {
        let length = 4 + self.index(32);
        let letter = || char::from(b'a' + u8::try_from(self.below(26)).expect("a letter"));
        std::iter::repeat_with(letter).take(length).collect()
    }

    fn index(&mut self, bound: usize) -> usize {
        let bound = i64::try_from(bound).expect("small");
        usize::try_from(self.below(bound)).expect("below the bound")
    }

    fn below(&mut self, bound: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        i64::try_from(self.0 >> 1).expect("63 bits") % bound
    }
}

/// Returns the CPU time of this thread.
fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = statistics.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Allocator that counts allocations.
struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

// SAFETY: all calls are forwarded to the system allocator; the counter is a number without a
// destructor.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller upholds the contract, which is that of the system allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}
