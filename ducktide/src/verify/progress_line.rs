//! How far a deep look is, on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use ducktide_verify::DeepProgress;

use ducktide_service::units;

/// A line on standard error that is written over; nothing where that is no terminal.
pub(super) struct Progress {
    is_terminal: bool,
    started: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), started: Instant::now() }
    }

    pub(super) fn show(&mut self, state: &DeepProgress) {
        if self.is_terminal {
            write_over(&line(state, self.started.elapsed()));
        }
    }

    /// Leaves an empty line for what is printed next.
    pub(super) fn clear(&mut self) {
        if self.is_terminal {
            write_over("");
        }
    }
}

fn write_over(text: &str) {
    // `\x1b[K` clears what was longer. A terminal that is gone must not end the proof.
    let mut out = io::stderr().lock();
    let _ = write!(out, "\r{text}\x1b[K");
    let _ = out.flush();
}

fn line(state: &DeepProgress, elapsed: Duration) -> String {
    let percent = |done: u64, all: u64| (done * 100).checked_div(all).unwrap_or(100);
    let doing = match state {
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
    format!("{doing}, {}", units::duration(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_much_of_which_table_is_read() {
        let state = DeepProgress::Rows {
            table: "main.events".to_owned(),
            files_done: 12,
            files: 1500,
            bytes_done: 300,
            bytes: 1000,
        };
        let shown = line(&state, Duration::from_secs(12));
        assert_eq!(shown, "reading main.events: 30 %, 12 of 1,500 files, 12s");
    }

    #[test]
    fn the_line_says_how_much_is_compared_with_a_ledger() {
        let state =
            DeepProgress::Comparison { table: "main.events".to_owned(), parts_done: 1, parts: 4 };
        let shown = line(&state, Duration::from_secs(12));
        assert_eq!(shown, "comparing main.events with the ledger: 25 %, 12s");
    }
}
