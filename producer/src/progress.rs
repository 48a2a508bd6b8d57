//! Shows the progress of a run: a progress bar on a terminal, a periodic log line elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two log lines when there is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Display of the progress of a run.
pub(crate) enum ProgressDisplay {
    Bar(ProgressBar),
    Log { total: Option<u64>, logged: Instant, records_then: u64 },
}

impl ProgressDisplay {
    /// Creates the display for a run of `total` records, or for an endless run.
    pub(crate) fn new(total: Option<u64>) -> Self {
        if std::io::stderr().is_terminal() {
            Self::Bar(bar(total))
        } else {
            Self::Log { total, logged: Instant::now(), records_then: 0 }
        }
    }

    /// Shows that `records` records have been acknowledged.
    pub(crate) fn update(&mut self, records: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(records),
            Self::Log { total, logged, records_then } => {
                if logged.elapsed() >= LOG_INTERVAL {
                    let records_per_second = per_second(records - *records_then, logged.elapsed());
                    tracing::info!(records, total, records_per_second, "publishing");
                    (*logged, *records_then) = (Instant::now(), records);
                }
            }
        }
    }

    /// Removes the progress bar from the terminal.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Returns the rate in whole records per second.
pub(crate) fn per_second(records: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(records) * 1000 / millis).unwrap_or(u64::MAX)
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{wide_bar} {human_pos}/{human_len} acknowledged, {per_sec:.0}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} acknowledged, {per_sec:.0}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is well-formed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_records_per_second() {
        assert_eq!(per_second(3_000, Duration::from_millis(1500)), 2_000);
        assert_eq!(per_second(0, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::ZERO), u64::MAX);
    }

    #[test]
    fn both_templates_are_well_formed() {
        bar(Some(10)).finish_and_clear();
        bar(None).finish_and_clear();
    }
}
