//! Key and headers of a record, for tables with columns for them.

use arrow_array::ArrayRef;
use arrow_schema::{ArrowError, DataType};
use ducktide_protocol::dead_letter::{Header, headers_type};
use ducktide_protocol::table::{ColumnType, KAFKA_HEADERS, KAFKA_KEY, TableShape};

use super::arrow;
use super::builder::ColumnBuilder;
use super::{DecodeError, Key, Problem};

/// Builders of the two columns; None if the table does not have the column. A column of an
/// unexpected type belongs to another client and stays NULL.
#[derive(Debug)]
pub(super) struct KeyAndHeaders {
    key: Option<ColumnBuilder>,
    /// Raw keys must be valid UTF-8.
    key_is_text: bool,
    headers: Option<ColumnBuilder>,
    wants_headers: bool,
}

impl KeyAndHeaders {
    pub(super) fn new(table: &TableShape) -> Self {
        let builder =
            |name| table.column(name).map(|column| ColumnBuilder::new(&column.column_type, 0, 0));
        let has_type = |name, of: &ColumnType| {
            table.column(name).is_some_and(|column| column.column_type == *of)
        };
        Self {
            key: builder(KAFKA_KEY),
            key_is_text: has_type(KAFKA_KEY, &ColumnType::Varchar),
            headers: builder(KAFKA_HEADERS),
            wants_headers: has_type(KAFKA_HEADERS, &headers_type()),
        }
    }

    /// Reports that headers are stored; reading them has a cost.
    pub(super) const fn wants_headers(&self) -> bool {
        self.wants_headers
    }

    pub(super) fn push(&mut self, key: Key<'_>, headers: &[Header]) -> Result<(), DecodeError> {
        let failed = |field: &str, problem| DecodeError { field: field.to_owned(), problem };
        self.push_key(key).map_err(|problem| failed(KAFKA_KEY, problem))?;
        if let (true, Some(column)) = (self.wants_headers, &mut self.headers) {
            push_headers(column, headers).map_err(|problem| failed(KAFKA_HEADERS, problem))?;
        }
        Ok(())
    }

    fn push_key(&mut self, key: Key<'_>) -> Result<(), Problem> {
        match (&mut self.key, key) {
            (Some(ColumnBuilder::Bytes(column)), Key::Raw(Some(key))) => {
                if self.key_is_text && std::str::from_utf8(key).is_err() {
                    return Err(Problem::NotUtf8);
                }
                column.push(key)
            }
            (Some(column), Key::Avro(decoder, datum)) => decoder.read(datum, column),
            _ => Ok(()),
        }
    }

    /// Extends the columns to this number of rows, with NULL where no value was pushed.
    pub(super) fn complete(&mut self, rows: usize) {
        for column in self.key.iter_mut().chain(&mut self.headers) {
            while column.len() < rows {
                column.push_null();
            }
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.key.iter_mut().chain(&mut self.headers).for_each(|column| column.truncate(rows));
    }

    pub(super) fn memory(&self) -> usize {
        self.key.iter().chain(&self.headers).map(ColumnBuilder::memory).sum()
    }

    pub(super) fn finish_key(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        finish(&mut self.key, data_type)
    }

    pub(super) fn finish_headers(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        finish(&mut self.headers, data_type)
    }
}

fn finish(
    column: &mut Option<ColumnBuilder>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    arrow::finish(column.as_mut().expect("the table has the column"), data_type)
}

fn push_headers(column: &mut ColumnBuilder, headers: &[Header]) -> Result<(), Problem> {
    let ColumnBuilder::List(list) = column else { unreachable!("the type was compared") };
    let ColumnBuilder::Struct(pairs) = list.items.as_mut() else { unreachable!("as above") };
    for header in headers {
        let [ColumnBuilder::Bytes(key), ColumnBuilder::Bytes(value)] = &mut pairs.fields[..] else {
            unreachable!("as above")
        };
        key.push(header.key.as_bytes())?;
        match &header.value {
            Some(bytes) => value.push(bytes)?,
            None => value.push_null(),
        }
        pairs.close();
    }
    list.close()
}
