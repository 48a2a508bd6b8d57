//! Measures the memory of open Parquet files: the peak of a process that writes a table of many
//! columns and dates, and the estimate of the writer.
//!
//! `cargo run --release -p ducktide-consumer --example staging_memory COLUMNS DATES ROWS \
//! text|long|mixed [MIB]`, where MIB is the budget for encoders
#![expect(clippy::print_stdout, reason = "the output is the result of the measurement")]

use std::{error::Error, fs, sync::Arc};

use arrow_array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use ducktide_consumer::staging::{ColumnHints, EncoderBudget, StagingWriter};

/// Number of rows in a batch.
const BATCH_ROWS: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    let [columns, dates, rows] = [0, 1, 2].map(|i| args.get(i).and_then(|arg| arg.parse().ok()));
    let (columns, dates, rows) =
        (columns.unwrap_or(1_700), dates.unwrap_or(1), rows.unwrap_or(5_000));
    let kind = args.get(3).map_or("mixed", String::as_str);
    let folder = tempfile::tempdir()?;
    let schema = schema(columns, kind);
    let hints = ColumnHints::default();
    let budget = args.get(4).and_then(|arg| arg.parse().ok()).unwrap_or(usize::MAX >> 20);
    let encoders = EncoderBudget::new(budget << 20);
    let (name, columns_of) = ("wide".parse()?, schema.clone());
    let mut writer = StagingWriter::new(name, folder.path(), columns_of, &hints, &encoders)?;
    let before = resident("VmRSS");
    let mut counted = 0;
    for start in (0..rows).step_by(BATCH_ROWS) {
        writer.write(&batch(&schema, dates, start, BATCH_ROWS.min(rows - start))?)?;
        counted = writer.memory().max(counted);
    }
    let filled = resident("VmRSS");
    let files = writer.finish()?;
    let bytes = files.iter().map(|file| file.bytes).sum::<u64>();
    println!(
        "{columns} columns ({kind}), {dates} dates, {rows} rows: counted {} MiB, filled {} MiB, \
         peak {} MiB, {} files of {} MiB in total",
        counted >> 20,
        (filled - before) >> 10,
        (resident("VmHWM") - before) >> 10,
        files.len(),
        bytes >> 20
    );
    Ok(())
}

fn schema(columns: usize, kind: &str) -> SchemaRef {
    let columns = (0..columns).map(|index| {
        let is_text = kind == "text" || (kind == "mixed" && index % 2 == 0);
        let of = if is_text { DataType::Utf8 } else { DataType::Int64 };
        Field::new(format!("column_{index}"), of, true)
    });
    let date = Field::new("event_date", DataType::Date32, true);
    Arc::new(Schema::new(columns.chain([date]).collect::<Vec<_>>()))
}

fn batch(
    schema: &SchemaRef,
    dates: usize,
    start: usize,
    rows: usize,
) -> Result<RecordBatch, Box<dyn Error>> {
    let numbers = || (start..start + rows).map(|row| i64::try_from(row * 7919 % 10_007));
    let dates = (start..start + rows).map(|row| i32::try_from(20_000 + row % dates));
    let dates = Date32Array::from(dates.collect::<Result<Vec<_>, _>>()?);
    let columns = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => {
            let texts = numbers().map(|number| Ok(format!("value {}", number?)));
            Ok(Arc::new(StringArray::from(texts.collect::<Result<Vec<_>, Box<dyn Error>>>()?))
                as ArrayRef)
        }
        DataType::Int64 => {
            Ok(Arc::new(Int64Array::from(numbers().collect::<Result<Vec<_>, _>>()?)) as ArrayRef)
        }
        _ => Ok(Arc::new(dates.clone()) as ArrayRef),
    });
    let columns = columns.collect::<Result<_, Box<dyn Error>>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// Returns a value of this process from Linux, KiB.
fn resident(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
