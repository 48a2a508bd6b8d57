//! Progress of reading rows, on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use ducktide_verify::DeepProgress;

use ducktide_service::units;

/// Line on standard error that is overwritten; nothing if standard error is no terminal.
pub(super) struct ProgressLine {
    is_terminal: bool,
    started: Instant,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), started: Instant::now() }
    }

    pub(super) fn show(&mut self, state: &DeepProgress) {
        if self.is_terminal {
            overwrite(&line(state, self.started.elapsed()));
        }
    }

    /// Clears the line for the output that follows.
    pub(super) fn clear(&mut self) {
        if self.is_terminal {
            overwrite("");
        }
    }
}

fn overwrite(text: &str) {
    // `\x1b[K` clears the rest of a longer line. A closed terminal must not end the verification.
    let mut out = io::stderr().lock();
    let _ = write!(out, "\r{text}\x1b[K");
    let _ = out.flush();
}

fn line(state: &DeepProgress, elapsed: Duration) -> String {
    let percent = |done: u64, all: u64| (done * 100).checked_div(all).unwrap_or(100);
    let activity = match state {
        DeepProgress::Ledger { bytes } => {
            format!("reading the producer's ledger: {}", units::bytes(*bytes))
        }
        DeepProgress::Rows { table, files_done, files, bytes_done, bytes } => format!(
            "reading {table}: {} %, {} of {}",
            percent(*bytes_done, *bytes),
            units::number(*files_done),
            units::count(*files, "file"),
        ),
        DeepProgress::Comparison { table, parts_done, parts } => {
            format!("comparing {table} with the ledger: {} %", percent(*parts_done, *parts))
        }
    };
    format!("{activity}, {}", units::duration(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_the_table_and_its_share_that_is_read() {
        let state = DeepProgress::Rows {
            table: "main.events".to_owned(),
            files_done: 12,
            files: 1500,
            bytes_done: 300,
            bytes: 1000,
        };
        let text = line(&state, Duration::from_secs(12));
        assert_eq!(text, "reading main.events: 30 %, 12 of 1,500 files, 12s");
    }

    #[test]
    fn the_line_shows_the_share_that_is_compared_with_a_ledger() {
        let state =
            DeepProgress::Comparison { table: "main.events".to_owned(), parts_done: 1, parts: 4 };
        let text = line(&state, Duration::from_secs(12));
        assert_eq!(text, "comparing main.events with the ledger: 25 %, 12s");
    }
}
