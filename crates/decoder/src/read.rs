//! Decodes a datum according to its plan and appends the values to the columns.

use uuid::Uuid;

use ducktide_protocol::table::BytesEncoding;

use crate::builder::{Bytes, ColumnBuilder, Lists, Maps, Primitives, Structs};
use crate::cursor::Cursor;
use crate::error::Problem;
use crate::plan::{ReadPlan, RecordPlan};
use crate::{calendar, decimal, json};

impl RecordPlan {
    /// Decodes a nested record. (The decoder itself decodes the top-level record.)
    fn read(&self, cursor: &mut Cursor<'_>, column: &mut Structs) -> Result<(), Problem> {
        for (index, plan) in &self.fields {
            plan.read(cursor, &mut column.fields[*index])
                .map_err(|problem| cursor.within(*index, problem))?;
        }
        for index in &self.absent {
            column.fields[*index].push_null();
        }
        column.close();
        Ok(())
    }
}

impl ReadPlan {
    #[inline]
    pub(super) fn read(
        &self,
        cursor: &mut Cursor<'_>,
        column: &mut ColumnBuilder,
    ) -> Result<(), Problem> {
        match column {
            ColumnBuilder::Int64(column) if !self.is_optional() => self.read_i64(cursor, column),
            ColumnBuilder::Bytes(column) if !self.is_optional() => self.read_bytes(cursor, column),
            column => self.read_other(cursor, column),
        }
    }

    fn is_optional(&self) -> bool {
        matches!(self, Self::Optional { .. })
    }

    fn read_i64(
        &self,
        cursor: &mut Cursor<'_>,
        column: &mut Primitives<i64>,
    ) -> Result<(), Problem> {
        column.push(match self {
            Self::Int => i64::from(cursor.int()?),
            Self::Long => cursor.long()?,
            Self::TimeMillis => calendar::time_of_day(i64::from(cursor.int()?) * 1_000)?,
            Self::TimeMicros => calendar::time_of_day(cursor.long()?)?,
            Self::Timestamp(unit) => calendar::timestamp_micros(cursor.long()?, *unit)?,
            Self::TimestampNanos => calendar::timestamp_nanos(cursor.long()?)?,
            _ => mismatch(),
        });
        Ok(())
    }

    fn read_bytes(&self, cursor: &mut Cursor<'_>, column: &mut Bytes) -> Result<(), Problem> {
        match self {
            Self::Text => push_text(cursor, column),
            Self::Bytes(encoding) => column.push(bytes(cursor, *encoding)?),
            Self::BytesAsText(encoding) => {
                let bytes = bytes(cursor, *encoding)?;
                column.push(str::from_utf8(bytes).map_err(|_| Problem::NotUtf8)?.as_bytes())
            }
            Self::Enum(symbols) => {
                let symbol = symbols.get(cursor.index()?).ok_or(Problem::NoSuchSymbol)?;
                column.push(symbol.as_bytes())
            }
            Self::DecimalText { encoding, precision, scale } => {
                let bytes = bytes(cursor, *encoding)?;
                decimal::push_decimal(&mut column.data, bytes, *precision, *scale)?;
                column.close()
            }
            Self::BigDecimalText => {
                decimal::push_big_decimal(&mut column.data, cursor.length_prefixed()?)?;
                column.close()
            }
            Self::Json { null_branch, value } => {
                if json::write_or_null(value, *null_branch, cursor, &mut column.data)? {
                    column.close()
                } else {
                    column.push_null();
                    Ok(())
                }
            }
            _ => mismatch(),
        }
    }

    fn read_other(
        &self,
        cursor: &mut Cursor<'_>,
        column: &mut ColumnBuilder,
    ) -> Result<(), Problem> {
        match (self, column) {
            (Self::Optional { null_branches, value }, column) => {
                match null_branches.get(cursor.index()?) {
                    Some(true) => column.push_null(),
                    Some(false) => value.read(cursor, column)?,
                    None => return Err(Problem::NoSuchBranch),
                }
            }
            (Self::Boolean, ColumnBuilder::Boolean(column)) => {
                column.values.push(cursor.boolean()?);
                column.validity.push_valid();
            }
            (Self::Date, ColumnBuilder::Int32(column)) => {
                column.push(calendar::day(cursor.int()?)?);
            }
            (Self::Float, ColumnBuilder::Float64(column)) => {
                column.push(f64::from(f32::from_le_bytes(cursor.array()?)));
            }
            (Self::Int, ColumnBuilder::Float64(column)) => column.push(f64::from(cursor.int()?)),
            #[expect(clippy::cast_precision_loss, reason = "Avro promotes long to double")]
            (Self::Long, ColumnBuilder::Float64(column)) => column.push(cursor.long()? as f64),
            (Self::Double, ColumnBuilder::Float64(column)) => {
                column.push(f64::from_le_bytes(cursor.array()?));
            }
            (_, ColumnBuilder::Int128(column)) => column.push(self.read_i128(cursor)?),
            (Self::Array { items, widthless }, ColumnBuilder::List(column)) => {
                read_array(items, *widthless, cursor, column)?;
            }
            (Self::Map { values }, ColumnBuilder::Map(column)) => read_map(values, cursor, column)?,
            (Self::Record(record), ColumnBuilder::Struct(column)) => record.read(cursor, column)?,
            (Self::Duration, ColumnBuilder::Struct(column)) => read_duration(cursor, column)?,
            (Self::Variants(branches), column) => read_variant(branches, cursor, column)?,
            _ => mismatch(),
        }
        Ok(())
    }

    fn read_i128(&self, cursor: &mut Cursor<'_>) -> Result<i128, Problem> {
        match self {
            Self::UuidText => Ok(i128::from_ne_bytes(*uuid_text(cursor)?.as_bytes())),
            Self::Uuid(encoding) => Ok(i128::from_ne_bytes(*uuid(cursor, *encoding)?.as_bytes())),
            Self::Decimal { encoding, precision } => {
                decimal::unscaled(bytes(cursor, *encoding)?, *precision)
            }
            _ => mismatch(),
        }
    }
}

/// Reads bytes with a length prefix, or of the fixed size in the schema.
pub(super) fn bytes<'a>(
    cursor: &mut Cursor<'a>,
    encoding: BytesEncoding,
) -> Result<&'a [u8], Problem> {
    match encoding {
        BytesEncoding::Length => cursor.length_prefixed(),
        BytesEncoding::Fixed(size) => cursor.take(size),
    }
}

/// Appends text. Nearly all text is ASCII, which is checked during the copy.
#[inline]
fn push_text(cursor: &mut Cursor<'_>, column: &mut Bytes) -> Result<(), Problem> {
    let (window, length) = cursor.text_window()?;
    if column.data.push_ascii(window, length) {
        return column.close();
    }
    let text = str::from_utf8(&window[..length]).map_err(|_| Problem::NotUtf8)?;
    column.push(text.as_bytes())
}

pub(super) fn uuid_text(cursor: &mut Cursor<'_>) -> Result<Uuid, Problem> {
    Uuid::try_parse_ascii(cursor.length_prefixed()?).map_err(|_| Problem::NotAUuid)
}

pub(super) fn uuid(cursor: &mut Cursor<'_>, encoding: BytesEncoding) -> Result<Uuid, Problem> {
    Uuid::from_slice(bytes(cursor, encoding)?).map_err(|_| Problem::NotAUuid)
}

/// Reads months, days and milliseconds.
pub(super) fn duration(cursor: &mut Cursor<'_>) -> Result<[u32; 3], Problem> {
    let mut number = || cursor.array().map(u32::from_le_bytes);
    Ok([number()?, number()?, number()?])
}

fn read_duration(cursor: &mut Cursor<'_>, column: &mut Structs) -> Result<(), Problem> {
    for (number, field) in duration(cursor)?.into_iter().zip(&mut column.fields) {
        let ColumnBuilder::Int64(field) = field else { mismatch() };
        field.push(i64::from(number));
    }
    column.close();
    Ok(())
}

/// Fills the field of the branch present in the datum; the fields of the others are NULL.
fn read_variant(
    branches: &[Option<(usize, ReadPlan)>],
    cursor: &mut Cursor<'_>,
    column: &mut ColumnBuilder,
) -> Result<(), Problem> {
    let Some((index, plan)) = branches.get(cursor.index()?).ok_or(Problem::NoSuchBranch)? else {
        column.push_null();
        return Ok(());
    };
    let ColumnBuilder::Struct(column) = column else { mismatch() };
    for (other, field) in column.fields.iter_mut().enumerate() {
        if other == *index {
            plan.read(cursor, field).map_err(|problem| cursor.within(other, problem))?;
        } else {
            field.push_null();
        }
    }
    column.close();
    Ok(())
}

fn read_array(
    items: &ReadPlan,
    widthless: bool,
    cursor: &mut Cursor<'_>,
    column: &mut Lists,
) -> Result<(), Problem> {
    loop {
        let count = cursor.block()?;
        if count == 0 {
            return column.close();
        }
        if widthless {
            cursor.widthless_items(count)?;
        }
        for _ in 0..count {
            items.read(cursor, &mut column.items)?;
        }
    }
}

fn read_map(values: &ReadPlan, cursor: &mut Cursor<'_>, column: &mut Maps) -> Result<(), Problem> {
    let first = column.keys.len();
    loop {
        let count = cursor.block()?;
        if count == 0 {
            check_keys(&column.keys, first)?;
            return column.close();
        }
        for _ in 0..count {
            push_text(cursor, &mut column.keys)?;
            values.read(cursor, &mut column.values)?;
        }
    }
}

/// Largest number of keys that are compared pairwise; more are sorted, which needs memory.
const FEW_KEYS: usize = 8;

/// Rejects duplicate keys, because DuckDB guarantees unique keys in a MAP.
pub(super) fn check_keys(keys: &Bytes, first: usize) -> Result<(), Problem> {
    let keys = keys.values(first);
    let is_twice = if keys.len() <= FEW_KEYS {
        let mut numbered = keys.clone().enumerate();
        numbered.any(|(number, key)| keys.clone().take(number).any(|earlier| earlier == key))
    } else {
        let mut sorted: Vec<_> = keys.collect();
        sorted.sort_unstable();
        sorted.windows(2).any(|pair| pair[0] == pair[1])
    };
    if is_twice { Err(Problem::DuplicateKey) } else { Ok(()) }
}

fn mismatch() -> ! {
    unreachable!("rows and decoder belong to one table, whose types the plan was compiled for")
}
