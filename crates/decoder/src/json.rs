//! Transcodes Avro to JSON text directly into the buffer of a column.

use std::io::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use ducktide_protocol::table::TimeUnit;

use crate::cursor::Cursor;
use crate::error::Problem;
use crate::json_plan::{JsonPlan, JsonRecord};
use crate::json_text::{push_escaped, push_float, push_integer};
use crate::text_buffer::TextBuffer;
use crate::{calendar, decimal, read};

/// Writes the value of a column. Returns `false` and writes nothing for the null branch of a union.
#[inline]
pub(super) fn write_or_null(
    plan: &JsonPlan,
    null_branch: Option<usize>,
    cursor: &mut Cursor<'_>,
    out: &mut TextBuffer,
) -> Result<bool, Problem> {
    if let JsonPlan::Union(branches) = plan {
        let branch = cursor.index()?;
        if null_branch == Some(branch) {
            return Ok(false);
        }
        write_quoted(branches.get(branch).ok_or(Problem::NoSuchBranch)?, cursor, out)?;
    } else {
        write_quoted(plan, cursor, out)?;
    }
    Ok(true)
}

/// Writes a value that is an array item or the whole column.
fn write_quoted(
    plan: &JsonPlan,
    cursor: &mut Cursor<'_>,
    out: &mut TextBuffer,
) -> Result<(), Problem> {
    if let JsonPlan::Text = plan {
        quoted(out, |out| write(plan, cursor, out))
    } else {
        write(plan, cursor, out)
    }
}

/// Writes a value, but strings without their quotes, which [`JsonRecord`] writes together with the
/// keys.
fn write(plan: &JsonPlan, cursor: &mut Cursor<'_>, out: &mut TextBuffer) -> Result<(), Problem> {
    match plan {
        JsonPlan::Text => return push_text(out, cursor),
        JsonPlan::Record(record) => return write_record(record, cursor, out),
        JsonPlan::Enum(symbols) => {
            let symbol = symbols.get(cursor.index()?).ok_or(Problem::NoSuchSymbol)?;
            out.push_constant(symbol);
        }
        JsonPlan::Int => push_integer(out, i64::from(cursor.int()?)),
        JsonPlan::Long => push_integer(out, cursor.long()?),
        JsonPlan::Float => push_float(out, f32::from_le_bytes(cursor.array()?)),
        JsonPlan::Double => push_float(out, f64::from_le_bytes(cursor.array()?)),
        JsonPlan::Boolean if cursor.boolean()? => out.extend_from_slice(b"true"),
        JsonPlan::Boolean => out.extend_from_slice(b"false"),
        JsonPlan::Null => out.extend_from_slice(b"null"),
        JsonPlan::Union(branches) => {
            let branch = branches.get(cursor.index()?).ok_or(Problem::NoSuchBranch)?;
            return write_quoted(branch, cursor, out);
        }
        JsonPlan::Array { items, widthless } => {
            return write_array(items, *widthless, cursor, out);
        }
        JsonPlan::Map(values) => return write_map(values, cursor, out),
        JsonPlan::Decimal { encoding, precision, scale, quoted } => {
            let bytes = read::bytes(cursor, *encoding)?;
            out.extend_from_slice(if *quoted { b"\"" } else { b"" });
            decimal::push_decimal(out, bytes, *precision, *scale)?;
            out.extend_from_slice(if *quoted { b"\"" } else { b"" });
        }
        JsonPlan::Duration => {
            let [months, days, millis] = read::duration(cursor)?;
            write!(out, r#"{{"months":{months},"days":{days},"millis":{millis}}}"#)
                .expect("writing to a buffer cannot fail");
        }
        other => return quoted(out, |out| write_string(other, cursor, out)),
    }
    Ok(())
}

/// Writes the types that are strings in JSON; the caller writes the quotes.
fn write_string(
    plan: &JsonPlan,
    cursor: &mut Cursor<'_>,
    out: &mut TextBuffer,
) -> Result<(), Problem> {
    match plan {
        JsonPlan::Bytes(encoding) => push_base64(out, read::bytes(cursor, *encoding)?),
        JsonPlan::UuidText => push_uuid(out, read::uuid_text(cursor)?),
        JsonPlan::Uuid(encoding) => push_uuid(out, read::uuid(cursor, *encoding)?),
        JsonPlan::BigDecimal => decimal::push_big_decimal(out, cursor.length_prefixed()?)?,
        JsonPlan::Date => calendar::push_date(out, i64::from(calendar::day(cursor.int()?)?)),
        JsonPlan::TimeMillis => {
            let micros = calendar::time_of_day(i64::from(cursor.int()?) * 1_000)?;
            calendar::push_time(out, micros / 1_000, TimeUnit::Millis);
        }
        JsonPlan::TimeMicros => {
            calendar::push_time(out, calendar::time_of_day(cursor.long()?)?, TimeUnit::Micros);
        }
        JsonPlan::Timestamp(unit) => {
            write_timestamp(*unit, cursor, out)?;
            out.push(b'Z');
        }
        JsonPlan::LocalTimestamp(unit) => write_timestamp(*unit, cursor, out)?,
        _ => unreachable!("the caller writes all types that are not strings"),
    }
    Ok(())
}

fn write_timestamp(
    unit: TimeUnit,
    cursor: &mut Cursor<'_>,
    out: &mut TextBuffer,
) -> Result<(), Problem> {
    let value = cursor.long()?;
    calendar::timestamp_micros(value, unit)?;
    calendar::push_timestamp(out, value, unit);
    Ok(())
}

fn write_record(
    record: &JsonRecord,
    cursor: &mut Cursor<'_>,
    out: &mut TextBuffer,
) -> Result<(), Problem> {
    for (prefix, plan) in &record.fields {
        out.push_constant(prefix);
        write(plan, cursor, out)?;
    }
    out.push_constant(&record.end);
    Ok(())
}

fn write_array(
    items: &JsonPlan,
    widthless: bool,
    cursor: &mut Cursor<'_>,
    out: &mut TextBuffer,
) -> Result<(), Problem> {
    let mut separator = b'[';
    loop {
        let count = cursor.block()?;
        if count == 0 {
            break;
        }
        if widthless {
            cursor.widthless_items(count)?;
        }
        for _ in 0..count {
            out.push(separator);
            separator = b',';
            write_quoted(items, cursor, out)?;
        }
    }
    out.extend_from_slice(if separator == b'[' { b"[]" } else { b"]" });
    Ok(())
}

/// Writes a map. Duplicate keys are written twice: JSON allows that, and readers use one of them.
fn write_map(
    values: &JsonPlan,
    cursor: &mut Cursor<'_>,
    out: &mut TextBuffer,
) -> Result<(), Problem> {
    let mut separator = b'{';
    loop {
        let count = cursor.block()?;
        if count == 0 {
            break;
        }
        for _ in 0..count {
            out.push(separator);
            separator = b',';
            quoted(out, |out| push_text(out, cursor))?;
            out.push(b':');
            write_quoted(values, cursor, out)?;
        }
    }
    out.extend_from_slice(if separator == b'{' { b"{}" } else { b"}" });
    Ok(())
}

fn quoted(
    out: &mut TextBuffer,
    content: impl FnOnce(&mut TextBuffer) -> Result<(), Problem>,
) -> Result<(), Problem> {
    out.push(b'"');
    content(out)?;
    out.push(b'"');
    Ok(())
}

#[inline]
fn push_text(out: &mut TextBuffer, cursor: &mut Cursor<'_>) -> Result<(), Problem> {
    let (window, len) = cursor.text_window()?;
    push_escaped(out, window, len)
}

fn push_uuid(out: &mut TextBuffer, uuid: uuid::Uuid) {
    let mut text = uuid::Uuid::encode_buffer();
    out.extend_from_slice(uuid.hyphenated().encode_lower(&mut text).as_bytes());
}

fn push_base64(out: &mut TextBuffer, bytes: &[u8]) {
    out.extend_with(bytes.len().div_ceil(3) * 4, |room| {
        BASE64_STANDARD.encode_slice(bytes, room).expect("four characters for three bytes");
    });
}
