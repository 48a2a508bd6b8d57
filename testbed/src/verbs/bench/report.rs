//! Report of a benchmark: as a Markdown table, and as JSON.

use std::{fmt::Write as _, fs, path::Path, thread};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::measurement::Measurement;
use crate::verbs::terminal::grouped;

/// Results of a benchmark.
#[derive(Debug, Serialize)]
pub(super) struct BenchReport {
    title: String,
    machine: Machine,
    series: Vec<Series>,
    /// Text after the table.
    #[serde(skip)]
    note: String,
}

/// Runs of one program, and their median.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    name: &'static str,
    runs: Vec<Measurement>,
    median: Option<Measurement>,
}

/// Machine of the measurement.
#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    processor: String,
}

impl Series {
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, runs: Vec::new(), median: None }
    }

    pub(super) fn add(&mut self, run: Measurement) {
        self.runs.push(run);
        self.median = Measurement::median(&self.runs);
    }
}

impl BenchReport {
    pub(super) fn new(title: String, series: Vec<Series>) -> Self {
        Self { title, machine: Machine::here(), series, note: String::new() }
    }

    /// Returns the report with a text after the table.
    pub(super) fn with_note(self, note: String) -> Self {
        Self { note, ..self }
    }

    #[expect(clippy::print_stdout, reason = "the table is the result")]
    pub(super) fn print(&self) {
        println!("\n{}", self.text());
    }

    pub(super) fn write_json(&self, file: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("write JSON")?;
        fs::write(file, json + "\n").with_context(|| format!("write {}", file.display()))
    }

    /// Returns an error when a lake is not exact.
    pub(super) fn require_exactness(&self) -> Result<()> {
        let is_exact = |series: &Series| series.runs.iter().all(|run| run.is_exact != Some(false));
        ensure!(self.series.iter().all(is_exact), "a lake and the ledger differ");
        Ok(())
    }

    /// Returns the report as Markdown.
    fn text(&self) -> String {
        let Machine { cores, processor } = &self.machine;
        let mut text = format!(
            "{}; {cores} cores, shared with the broker ({processor}).\n\n\
             | | records/s | wall s | CPU s per million | peak MiB | exact |\n\
             |:--|--:|--:|--:|--:|:--|\n",
            self.title
        );
        for Series { name, runs, median } in &self.series {
            for (number, run) in (1..).zip(runs) {
                text += &run.table_row(&format!("{name}, run {number}"));
            }
            text +=
                &median.map_or_else(String::new, |m| m.table_row(&format!("**{name}, median**")));
        }
        text + &self.comparison().unwrap_or_default() + &self.note
    }

    /// Returns the ratio of the medians of two series.
    fn comparison(&self) -> Option<String> {
        let [first, second] = &self.series[..] else { return None };
        let (of_first, of_second) = (first.median?, second.median?);
        Some(format!(
            "\n{}: {:.2} times the records/s of {}, {:.2} times its CPU time.\n",
            first.name,
            of_first.records_per_second / of_second.records_per_second,
            second.name,
            of_first.cpu_seconds_per_million / of_second.cpu_seconds_per_million,
        ))
    }
}

impl Measurement {
    fn table_row(&self, name: &str) -> String {
        let exact = match self.is_exact {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let mut row = format!("| {name} | {} | ", whole(self.records_per_second));
        let Self { wall_seconds, cpu_seconds_per_million, peak_memory_mib, .. } = self;
        write!(
            row,
            "{wall_seconds:.2} | {cpu_seconds_per_million:.2} | {peak_memory_mib:.0} | {exact} |"
        )
        .expect("writing to memory cannot fail");
        row + "\n"
    }

    /// Returns a short text for the progress of the benchmark.
    pub(super) fn in_short(&self) -> String {
        format!(
            "{} records/s, {:.2} CPU s per million, {:.0} MiB",
            whole(self.records_per_second),
            self.cpu_seconds_per_million,
            self.peak_memory_mib
        )
    }
}

/// Formats a rate without its fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and far below 2^53"
)]
fn whole(rate: f64) -> String {
    grouped(rate.round() as u64)
}

impl Machine {
    fn here() -> Self {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let processor = model.map_or("unknown processor", |(_, name)| name.trim()).to_owned();
        Self { cores, processor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(records_per_second: f64, is_exact: Option<bool>) -> Measurement {
        Measurement {
            records_per_second,
            wall_seconds: 2.0,
            cpu_seconds_per_million: records_per_second / 1e6,
            peak_memory_mib: 100.4,
            is_exact,
        }
    }

    fn report(exactness: [bool; 3]) -> BenchReport {
        let mut drained = Series::new("drain");
        for (rate, exact) in [4e5, 6e5, 5e5].into_iter().zip(exactness) {
            drained.add(run(rate, Some(exact)));
        }
        let mut polled = Series::new("loop");
        polled.add(run(1e6, None));
        BenchReport::new("a title".to_owned(), vec![drained, polled])
    }

    #[test]
    fn each_run_and_each_median_has_a_row() {
        let text = report([true; 3]).text();
        assert!(text.contains("| drain, run 2 | 600,000 | 2.00 | 0.60 | 100 | yes |\n"), "{text}");
        assert!(text.contains("| **drain, median** | 500,000 | 2.00 | 0.50 | 100 | yes |\n"));
        assert!(text.contains("| **loop, median** | 1,000,000 | 2.00 | 1.00 | 100 | - |\n"));
    }

    #[test]
    fn medians_are_compared() {
        let text = report([true; 3]).text();
        assert!(
            text.ends_with("drain: 0.50 times the records/s of loop, 0.50 times its CPU time.\n")
        );
    }

    #[test]
    fn a_lake_that_is_not_exact_is_an_error() {
        report([true; 3]).require_exactness().unwrap();
        report([true, false, true]).require_exactness().unwrap_err();
    }
}
