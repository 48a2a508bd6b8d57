//! Text tables: columns two spaces apart, numbers aligned right.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

/// Alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Left.
    Left,
    /// Right.
    Right,
}

/// Table of text with a header.
#[derive(Debug)]
pub struct TextTable {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Creates a table with these columns.
    pub fn new(columns: impl IntoIterator<Item = (String, Align)>) -> Self {
        let (header, aligns) = columns.into_iter().unzip();
        Self { aligns, rows: vec![header] }
    }

    /// Creates a table with constant names of columns.
    #[must_use]
    pub fn with_columns(columns: &[(&str, Align)]) -> Self {
        Self::new(columns.iter().map(|(name, align)| ((*name).to_owned(), *align)))
    }

    /// Adds a row with a cell for each column.
    pub fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.aligns.len());
        self.rows.push(row);
    }

    /// Returns the number of rows without the header.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "the header is always there")]
    pub fn len(&self) -> usize {
        self.rows.len() - 1
    }

    /// Returns the table as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out).expect("memory takes any text");
        String::from_utf8(out).expect("a table is made of texts")
    }

    /// Writes the table.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let widths = self.widths();
        for (index, row) in self.rows.iter().enumerate() {
            self.write_row(row, &widths, out)?;
            if index == 0 {
                let rule: Vec<_> = widths.iter().map(|width| "─".repeat(*width)).collect();
                writeln!(out, "{}", rule.join("  "))?;
            }
        }
        Ok(())
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].width()).max();
        (0..self.aligns.len()).map(|column| width(column).unwrap_or(0)).collect()
    }

    fn write_row(&self, row: &[String], widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
        let cells = row.iter().zip(&self.aligns).zip(widths).map(|((cell, align), width)| {
            let padding = " ".repeat(width - cell.width());
            match align {
                Align::Left => format!("{cell}{padding}"),
                Align::Right => format!("{padding}{cell}"),
            }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_aligned_by_their_display_width() {
        let mut table =
            TextTable::new([("name".to_owned(), Align::Left), ("rows".to_owned(), Align::Right)]);
        table.push(vec!["漢字x".to_owned(), "1,000".to_owned()]);
        table.push(vec!["é".to_owned(), "7".to_owned()]);

        let mut out = Vec::new();
        table.write(&mut out).unwrap();

        let expected = "name    rows\n─────  ─────\n漢字x  1,000\né          7\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(table.len(), 2);
    }
}
