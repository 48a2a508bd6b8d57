//! Column builders that can be truncated after a failed record.
//!
//! All columns of a [`super::RowBuffer`] have one entry per row before a record is decoded, so
//! truncating each column to the number of rows undoes a failed record.

use arrow_buffer::{ArrowNativeType, BooleanBufferBuilder, NullBuffer};
use ducktide_protocol::dedupe::EventId;
use ducktide_protocol::table::ColumnType;

use crate::error::Problem;
use crate::text_buffer::TextBuffer;

/// Builder of one column.
#[derive(Debug)]
pub(super) enum ColumnBuilder {
    Boolean(Booleans),
    /// DATE, in days.
    Int32(Primitives<i32>),
    /// BIGINT, TIME and timestamps, in their units.
    Int64(Primitives<i64>),
    Float64(Primitives<f64>),
    /// DECIMAL, and UUID as big-endian bytes.
    Int128(Primitives<i128>),
    /// VARCHAR, BLOB and JSON.
    Bytes(Bytes),
    List(Lists),
    /// MAP, as lists of keys and values.
    Map(Maps),
    Struct(Structs),
}

#[derive(Debug, Default)]
pub(super) struct Booleans {
    pub(super) values: Bits,
    pub(super) validity: Validity,
}

#[derive(Debug)]
pub(super) struct Primitives<T> {
    pub(super) values: Vec<T>,
    pub(super) validity: Validity,
}

/// Concatenated texts or byte strings, with the end of each.
#[derive(Debug)]
pub(super) struct Bytes {
    pub(super) data: TextBuffer,
    pub(super) offsets: Vec<i32>,
    pub(super) validity: Validity,
}

#[derive(Debug)]
pub(super) struct Lists {
    pub(super) offsets: Vec<i32>,
    pub(super) validity: Validity,
    pub(super) items: Box<ColumnBuilder>,
}

#[derive(Debug)]
pub(super) struct Maps {
    pub(super) offsets: Vec<i32>,
    pub(super) validity: Validity,
    pub(super) keys: Bytes,
    pub(super) values: Box<ColumnBuilder>,
}

#[derive(Debug)]
pub(super) struct Structs {
    pub(super) len: usize,
    pub(super) validity: Validity,
    pub(super) fields: Vec<ColumnBuilder>,
}

/// Bitmap of non-NULL values, not allocated before the first NULL.
#[derive(Debug, Default)]
pub(super) struct Validity {
    bits: Option<Bits>,
}

/// Bitmap builder.
#[derive(Debug)]
pub(super) struct Bits(BooleanBufferBuilder);

impl Default for Bits {
    fn default() -> Self {
        Self(BooleanBufferBuilder::new(0))
    }
}

impl Bits {
    pub(super) fn push(&mut self, bit: bool) {
        self.0.append(bit);
    }

    pub(super) fn finish(&mut self) -> arrow_buffer::BooleanBuffer {
        self.0.finish()
    }
}

impl Validity {
    #[inline]
    pub(super) fn push_valid(&mut self) {
        if let Some(bits) = &mut self.bits {
            bits.push(true);
        }
    }

    /// Appends NULL after `len` values.
    pub(super) fn push_null(&mut self, len: usize) {
        let bits = self.bits.get_or_insert_with(|| {
            let mut bits = Bits::default();
            bits.0.append_n(len, true);
            bits
        });
        bits.push(false);
    }

    pub(super) fn is_null(&self, index: usize) -> bool {
        self.bits.as_ref().is_some_and(|bits| !bits.0.get_bit(index))
    }

    fn truncate(&mut self, len: usize) {
        if let Some(bits) = &mut self.bits {
            bits.0.truncate(len);
        }
    }

    pub(super) fn finish(&mut self) -> Option<NullBuffer> {
        self.bits.take().map(|mut bits| NullBuffer::new(bits.finish()))
    }

    fn memory(&self) -> usize {
        self.bits.as_ref().map_or(0, |bits| bits.0.capacity() / 8)
    }
}

impl<T: ArrowNativeType> Primitives<T> {
    pub(super) fn new(rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows), validity: Validity::default() }
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        self.values.push(value);
        self.validity.push_valid();
    }

    pub(super) fn push_null(&mut self) {
        self.validity.push_null(self.values.len());
        self.values.push(T::default());
    }

    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.validity.truncate(len);
    }

    pub(super) fn memory(&self) -> usize {
        self.values.capacity() * size_of::<T>() + self.validity.memory()
    }
}

impl Bytes {
    fn new(rows: usize, bytes: usize) -> Self {
        let validity = Validity::default();
        Self { data: TextBuffer::with_capacity(bytes), offsets: offsets(rows), validity }
    }

    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) -> Result<(), Problem> {
        self.data.extend_from_slice(value);
        self.close()
    }

    /// Ends a value whose bytes were appended to `data`.
    #[inline]
    pub(super) fn close(&mut self) -> Result<(), Problem> {
        self.offsets.push(offset(self.data.len())?);
        self.validity.push_valid();
        Ok(())
    }

    pub(super) fn push_null(&mut self) {
        self.validity.push_null(self.len());
        self.offsets.push(last(&self.offsets));
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Returns the values from index `first`.
    pub(super) fn values(&self, first: usize) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        let ends = self.offsets[first..].windows(2);
        ends.map(|ends| &self.data.as_slice()[index(ends[0])..index(ends[1])])
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.validity.truncate(len);
        self.data.truncate(index(last(&self.offsets)));
    }

    fn memory(&self) -> usize {
        self.data.allocated() + self.offsets.capacity() * size_of::<i32>() + self.validity.memory()
    }
}

impl Lists {
    /// Ends a list whose items were appended.
    pub(super) fn close(&mut self) -> Result<(), Problem> {
        self.offsets.push(offset(self.items.len())?);
        self.validity.push_valid();
        Ok(())
    }
}

impl Maps {
    /// Ends a map whose keys and values were appended.
    pub(super) fn close(&mut self) -> Result<(), Problem> {
        self.offsets.push(offset(self.keys.len())?);
        self.validity.push_valid();
        Ok(())
    }
}

impl Structs {
    pub(super) fn close(&mut self) {
        self.len += 1;
        self.validity.push_valid();
    }
}

impl ColumnBuilder {
    /// Creates a builder with room for this number of rows and bytes of text.
    pub(super) fn new(column_type: &ColumnType, rows: usize, bytes: usize) -> Self {
        let nested = |inner| Box::new(Self::new(inner, 0, 0));
        let validity = Validity::default();
        match column_type {
            ColumnType::Boolean => Self::Boolean(Booleans::default()),
            ColumnType::Integer | ColumnType::Date => Self::Int32(Primitives::new(rows)),
            ColumnType::BigInt
            | ColumnType::Time
            | ColumnType::Timestamp
            | ColumnType::TimestampNs
            | ColumnType::TimestampTz => Self::Int64(Primitives::new(rows)),
            ColumnType::Double => Self::Float64(Primitives::new(rows)),
            ColumnType::Uuid | ColumnType::Decimal { .. } => Self::Int128(Primitives::new(rows)),
            ColumnType::Varchar | ColumnType::Blob | ColumnType::Json => {
                Self::Bytes(Bytes::new(rows, bytes))
            }
            ColumnType::List(items) => {
                Self::List(Lists { offsets: offsets(rows), validity, items: nested(items) })
            }
            ColumnType::Map(values) => {
                let (keys, values) = (Bytes::new(0, 0), nested(values));
                Self::Map(Maps { offsets: offsets(rows), validity, keys, values })
            }
            ColumnType::Struct(fields) => {
                let fields = fields.iter().map(|field| Self::new(&field.column_type, rows, 0));
                Self::Struct(Structs { len: 0, validity, fields: fields.collect() })
            }
        }
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Boolean(column) => {
                column.validity.push_null(column.values.0.len());
                column.values.push(false);
            }
            Self::Int32(column) => column.push_null(),
            Self::Int64(column) => column.push_null(),
            Self::Float64(column) => column.push_null(),
            Self::Int128(column) => column.push_null(),
            Self::Bytes(column) => column.push_null(),
            Self::List(Lists { offsets, validity, .. })
            | Self::Map(Maps { offsets, validity, .. }) => {
                validity.push_null(offsets.len() - 1);
                offsets.push(last(offsets));
            }
            Self::Struct(column) => {
                column.fields.iter_mut().for_each(Self::push_null);
                column.validity.push_null(column.len);
                column.len += 1;
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Boolean(column) => column.values.0.len(),
            Self::Int32(column) => column.values.len(),
            Self::Int64(column) => column.values.len(),
            Self::Float64(column) => column.values.len(),
            Self::Int128(column) => column.values.len(),
            Self::Bytes(column) => column.len(),
            Self::List(Lists { offsets, .. }) | Self::Map(Maps { offsets, .. }) => {
                offsets.len() - 1
            }
            Self::Struct(column) => column.len,
        }
    }

    /// Removes all values after the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(column) => {
                column.values.0.truncate(len);
                column.validity.truncate(len);
            }
            Self::Int32(column) => column.truncate(len),
            Self::Int64(column) => column.truncate(len),
            Self::Float64(column) => column.truncate(len),
            Self::Int128(column) => column.truncate(len),
            Self::Bytes(column) => column.truncate(len),
            Self::List(Lists { offsets, validity, items }) => {
                offsets.truncate(len + 1);
                validity.truncate(len);
                items.truncate(index(last(offsets)));
            }
            Self::Map(Maps { offsets, validity, keys, values }) => {
                offsets.truncate(len + 1);
                validity.truncate(len);
                keys.truncate(index(last(offsets)));
                values.truncate(index(last(offsets)));
            }
            Self::Struct(column) => {
                column.fields.iter_mut().for_each(|field| field.truncate(len));
                column.validity.truncate(len);
                column.len = column.len.min(len);
            }
        }
    }

    /// Returns the last value as an id; None for NULL and for a type that is not supported as an
    /// id.
    #[inline]
    pub(super) fn last_id(&self) -> Option<EventId> {
        let last = self.len().checked_sub(1)?;
        let (validity, id) = match self {
            Self::Int32(column) => (&column.validity, EventId::Number(column.values[last].into())),
            Self::Int64(column) => (&column.validity, EventId::Number(column.values[last])),
            Self::Int128(column) => {
                (&column.validity, EventId::Uuid(column.values[last].to_ne_bytes()))
            }
            Self::Bytes(column) => {
                let start = index(column.offsets[last]);
                (&column.validity, EventId::of_bytes(&column.data.as_slice()[start..]))
            }
            _ => return None,
        };
        (!validity.is_null(last)).then_some(id)
    }

    /// Returns the allocated memory, bytes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Boolean(column) => column.values.0.capacity() / 8 + column.validity.memory(),
            Self::Int32(column) => column.memory(),
            Self::Int64(column) => column.memory(),
            Self::Float64(column) => column.memory(),
            Self::Int128(column) => column.memory(),
            Self::Bytes(column) => column.memory(),
            Self::List(Lists { offsets, validity, items }) => {
                offsets.capacity() * size_of::<i32>() + validity.memory() + items.memory()
            }
            Self::Map(Maps { offsets, validity, keys, values }) => {
                let entries = keys.memory() + values.memory();
                offsets.capacity() * size_of::<i32>() + validity.memory() + entries
            }
            Self::Struct(column) => {
                column.fields.iter().map(Self::memory).sum::<usize>() + column.validity.memory()
            }
        }
    }
}

/// Creates Arrow offsets: one more than values, starting with 0.
fn offsets(rows: usize) -> Vec<i32> {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    offsets
}

#[inline]
fn offset(len: usize) -> Result<i32, Problem> {
    i32::try_from(len).map_err(|_| Problem::BatchFull)
}

fn last(offsets: &[i32]) -> i32 {
    *offsets.last().expect("offsets start with a 0 that is never removed")
}

fn index(offset: i32) -> usize {
    usize::try_from(offset).expect("offsets are lengths")
}
