//! Standard output of a command: plain text, in colour on a terminal.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// Time between two lines of progress if standard output is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// Width of the progress bar in characters.
const BAR_WIDTH: u64 = 30;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GOOD: &str = "\x1b[1;32m";
const BAD: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";
const CLEAR_LINE: &str = "\r\x1b[K";

/// Standard output with numbered steps.
#[derive(Debug)]
pub(crate) struct Terminal {
    draws: bool,
    colours: bool,
    steps: usize,
    progress_shown: Option<Instant>,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let draws = io::stdout().is_terminal();
        // <https://no-color.org>
        let colours = draws && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { draws, colours, steps: 0, progress_shown: None }
    }

    /// Prints the title.
    pub(crate) fn title(&mut self, text: &str) {
        self.line(BOLD, text);
    }

    /// Prints the heading of the next step.
    pub(crate) fn step(&mut self, text: &str) {
        self.steps += 1;
        self.blank();
        self.line(BOLD, &format!("{}. {text}", self.steps));
    }

    /// Prints text within a step; each line is indented.
    pub(crate) fn print(&mut self, text: &str) {
        self.indented("", text);
    }

    /// Prints the heading of a query within a step.
    pub(crate) fn query(&mut self, text: &str) {
        self.blank();
        self.indented(BOLD, text);
    }

    /// Prints an empty line.
    pub(crate) fn blank(&mut self) {
        self.line("", "");
    }

    /// Prints a command that the reader can repeat.
    pub(crate) fn command(&mut self, text: &str) {
        self.indented(DIM, text);
    }

    /// Prints the result, highlighted.
    pub(crate) fn result(&mut self, is_good: bool, text: &str) {
        self.indented(if is_good { GOOD } else { BAD }, text);
    }

    /// Prints progress: redrawn in place on a terminal, else a line every [`LINE_INTERVAL`].
    pub(crate) fn progress(&mut self, what: &str, done: u64, total: u64) {
        let text = format!("{} of {} {what}", grouped(done), grouped(total));
        if self.draws {
            self.write(&format!("{CLEAR_LINE}   {} {text}", bar(done, total)));
            self.progress_shown = Some(Instant::now());
        } else if self.progress_shown.is_none_or(|shown| shown.elapsed() >= LINE_INTERVAL) {
            self.print(&text);
            self.progress_shown = Some(Instant::now());
        }
    }

    fn indented(&mut self, style: &str, text: &str) {
        for line in text.lines() {
            self.line(style, &format!("   {line}"));
        }
    }

    fn line(&mut self, style: &str, text: &str) {
        let clear =
            if self.draws && self.progress_shown.take().is_some() { CLEAR_LINE } else { "" };
        let text = text.trim_end();
        if self.colours && !style.is_empty() {
            self.write(&format!("{clear}{style}{text}{PLAIN}\n"));
        } else {
            self.write(&format!("{clear}{text}\n"));
        }
    }

    /// Writes text. Ignores errors: the reader can have closed the pipe, as in `| head`.
    #[expect(clippy::unused_self, reason = "only the owner of the terminal writes to it")]
    fn write(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}

fn bar(done: u64, total: u64) -> String {
    let filled = (done.min(total) * BAR_WIDTH).checked_div(total).unwrap_or(BAR_WIDTH);
    (0..BAR_WIDTH).map(|index| if index < filled { '█' } else { '░' }).collect()
}

/// Formats a number with thousands separators: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let group_ends = |index: usize| index > 0 && (digits.len() - index).is_multiple_of(3);
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if group_ends(index) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        let numbers = [0, 999, 1000, 123_456, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "123,456", "1,234,567"]);
    }

    #[test]
    fn a_bar_is_never_longer_than_its_width() {
        let filled = |done, total| bar(done, total).chars().filter(|c| *c == '█').count();
        assert_eq!([filled(0, 9), filled(3, 9), filled(9, 9), filled(10, 9)], [0, 10, 30, 30]);
        assert_eq!(filled(0, 0), 30);
    }
}
