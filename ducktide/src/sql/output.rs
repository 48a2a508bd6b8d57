//! Formats of results: aligned table, CSV and JSON.

use std::io::{self, Write};
use std::time::Duration;

use clap::ValueEnum;
use serde::de::IgnoredAny;

use super::query::{CellFormat, ResultColumn, ResultSink, Row};
use ducktide_service::text_table::{Align, TextTable};
use ducktide_service::units;

/// Maximum number of characters of a cell in a table; csv and json are complete. Wide enough for a URL
/// or a user agent, narrow enough that a JSON document does not hide the other columns.
const CELL_LIMIT: usize = 120;

/// Format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns with NULL as text and long cells cut, number of rows, elapsed time.
    Table,
    /// Header and comma-separated rows; NULL is empty, an empty text is "".
    Csv,
    /// Array with an object for each row.
    Json,
}

impl Format {
    pub(crate) const fn cells(self) -> CellFormat {
        match self {
            Self::Table | Self::Csv => CellFormat::Text,
            Self::Json => CellFormat::Json,
        }
    }
}

/// Returns the printer of one result.
pub(crate) fn printer<'a>(
    format: Format,
    max_rows: usize,
    out: &'a mut dyn Write,
) -> Box<dyn ResultSink + 'a> {
    match format {
        Format::Table => {
            Box::new(TablePrinter { out, max_rows, rows: 0, content: TableContent::None })
        }
        Format::Csv => Box::new(CsvPrinter { out }),
        Format::Json => Box::new(JsonPrinter { out, columns: None, rows: 0 }),
    }
}

struct TablePrinter<'a> {
    out: &'a mut dyn Write,
    max_rows: usize,
    rows: usize,
    content: TableContent,
}

enum TableContent {
    None,
    Rows(TextTable),
    /// Query plan: its cells are drawings of many lines.
    Plan,
}

impl ResultSink for TablePrinter<'_> {
    fn start(&mut self, columns: Vec<ResultColumn>) -> io::Result<()> {
        let is_plan = columns.iter().any(|column| column.name == "explain_value");
        let align = |is_number| if is_number { Align::Right } else { Align::Left };
        let columns = columns.into_iter().map(|column| (column.name, align(column.is_number)));
        self.content =
            if is_plan { TableContent::Plan } else { TableContent::Rows(TextTable::new(columns)) };
        Ok(())
    }

    fn row(&mut self, row: Row) -> io::Result<()> {
        self.rows += 1;
        match &mut self.content {
            TableContent::Rows(table) if table.len() < self.max_rows => {
                table.push(row.into_iter().map(table_cell).collect());
            }
            TableContent::Plan => {
                writeln!(
                    self.out,
                    "{}",
                    row.into_iter().flatten().next_back().unwrap_or_default()
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, elapsed: Duration) -> io::Result<()> {
        let elapsed = units::duration(elapsed);
        let TableContent::Rows(table) = &self.content else {
            return writeln!(self.out, "ok ({elapsed})");
        };
        table.write(self.out)?;
        let rows = units::count(self.rows as i128, "row");
        if table.len() < self.rows {
            let shown = units::number(table.len() as i128);
            return writeln!(self.out, "({rows}, {shown} shown, see --max-rows, {elapsed})");
        }
        writeln!(self.out, "({rows}, {elapsed})")
    }
}

fn table_cell(cell: Option<String>) -> String {
    let Some(text) = cell else { return "NULL".to_owned() };
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    let line: String = text.chars().take(CELL_LIMIT).map(escape).collect();
    if text.chars().nth(CELL_LIMIT).is_some() { format!("{line}…") } else { line }
}

struct CsvPrinter<'a> {
    out: &'a mut dyn Write,
}

impl CsvPrinter<'_> {
    fn line(&mut self, cells: impl Iterator<Item = String>) -> io::Result<()> {
        writeln!(self.out, "{}", cells.collect::<Vec<_>>().join(","))
    }
}

impl ResultSink for CsvPrinter<'_> {
    fn start(&mut self, columns: Vec<ResultColumn>) -> io::Result<()> {
        self.line(columns.into_iter().map(|column| csv_cell(column.name)))
    }

    fn row(&mut self, row: Row) -> io::Result<()> {
        self.line(row.into_iter().map(|cell| cell.map_or_else(String::new, csv_cell)))
    }

    fn finish(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

fn csv_cell(text: String) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

struct JsonPrinter<'a> {
    out: &'a mut dyn Write,
    columns: Option<Vec<ResultColumn>>,
    rows: usize,
}

impl ResultSink for JsonPrinter<'_> {
    fn start(&mut self, columns: Vec<ResultColumn>) -> io::Result<()> {
        self.columns = Some(columns);
        write!(self.out, "[")
    }

    fn row(&mut self, row: Row) -> io::Result<()> {
        let columns = self.columns.as_deref().unwrap_or_default();
        let field = |(column, cell): (&ResultColumn, Option<String>)| {
            format!("{}:{}", json_text(&column.name), json_cell(cell))
        };
        let fields: Vec<_> = columns.iter().zip(row).map(field).collect();
        let separator = if self.rows == 0 { "\n" } else { ",\n" };
        self.rows += 1;
        write!(self.out, "{separator}{{{}}}", fields.join(","))
    }

    fn finish(&mut self, _: Duration) -> io::Result<()> {
        match self.columns {
            Some(_) if self.rows > 0 => writeln!(self.out, "\n]"),
            Some(_) => writeln!(self.out, "]"),
            None => Ok(()),
        }
    }
}

/// Returns a cell that DuckDB converted to JSON. NaN and Infinity are not JSON, and become text.
fn json_cell(cell: Option<String>) -> String {
    match cell {
        None => "null".to_owned(),
        Some(json) if serde_json::from_str::<IgnoredAny>(&json).is_ok() => json,
        Some(other) => json_text(&other),
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, rows: Vec<Row>) -> String {
        let mut out = Vec::new();
        let mut printer = printer(format, 2, &mut out);
        let column = |name: &str, is_number| ResultColumn { name: name.to_owned(), is_number };
        printer.start(vec![column("name", false), column("rows", true)]).unwrap();
        rows.into_iter().try_for_each(|row| printer.row(row)).unwrap();
        printer.finish(Duration::from_millis(7)).unwrap();
        drop(printer);
        String::from_utf8(out).unwrap()
    }

    fn row(name: &str, rows: Option<&str>) -> Row {
        vec![Some(name.to_owned()), rows.map(str::to_owned)]
    }

    #[test]
    fn a_table_shows_null_as_text_and_counts_its_rows() {
        let rows = vec![row("a\nb", Some("12")), row("c", None), row("d", Some("1"))];

        let expected = "name  rows\n────  ────\na\\nb    12\nc     NULL\n\
                        (3 rows, 2 shown, see --max-rows, 7ms)\n";
        assert_eq!(printed(Format::Table, rows), expected);
    }

    #[test]
    fn a_result_without_rows_has_its_header() {
        assert_eq!(printed(Format::Table, Vec::new()), "name  rows\n────  ────\n(0 rows, 7ms)\n");
        assert_eq!(printed(Format::Csv, Vec::new()), "name,rows\n");
        assert_eq!(printed(Format::Json, Vec::new()), "[]\n");
    }

    #[test]
    fn csv_distinguishes_null_from_the_empty_text() {
        let rows = vec![row("", None), row("say \"a,b\"", Some("1"))];

        assert_eq!(printed(Format::Csv, rows), "name,rows\n\"\",\n\"say \"\"a,b\"\"\",1\n");
    }

    #[test]
    fn json_is_valid_for_all_cells() {
        let rows = vec![row("\"x\"", Some("1")), row("\"y\"", Some("NaN")), row("\"z\"", None)];
        let text = printed(Format::Json, rows);

        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed[0]["rows"], 1);
        assert_eq!(parsed[1]["rows"], "NaN");
        assert_eq!(parsed[2]["rows"], serde_json::Value::Null);
    }

    #[test]
    fn a_long_cell_of_a_table_is_cut() {
        let cell = table_cell(Some("é".repeat(CELL_LIMIT + 1)));

        assert_eq!(cell.chars().count(), CELL_LIMIT + 1);
        assert!(cell.ends_with('…'));
    }
}
