//! What the test says while it runs, and the table at its end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The steps so far.
pub(super) struct Story {
    started: Instant,
    told: Vec<(String, Duration, String)>,
    untried: Vec<String>,
}

#[expect(clippy::print_stdout, reason = "telling is what a story is for")]
impl Story {
    pub(super) fn begin() -> Self {
        Self { started: Instant::now(), told: Vec::new(), untried: Vec::new() }
    }

    /// Something that was found, and took no time.
    pub(super) fn note(&mut self, title: &str, remark: &str) {
        println!("compose-test: {title}: {remark}");
        self.told.push((title.to_owned(), Duration::ZERO, remark.to_owned()));
    }

    /// Something that could not be tried here.
    pub(super) fn untried(&mut self, what: &str) {
        println!("compose-test: NOT TRIED: {what}");
        self.untried.push(what.to_owned());
    }

    /// A step, which returns a remark for the table.
    pub(super) fn tell(
        &mut self,
        title: &str,
        step: impl FnOnce() -> Result<String>,
    ) -> Result<()> {
        self.tell_with(title, || step().map(|remark| ((), remark)))
    }

    /// A step with a result for later ones.
    pub(super) fn tell_with<T>(
        &mut self,
        title: &str,
        step: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        let started = Instant::now();
        let (result, remark) = match step() {
            Ok((result, remark)) => (Ok(result), remark),
            Err(error) => (Err(error), "FAILED".to_owned()),
        };
        let elapsed = started.elapsed();
        println!("compose-test: {}", line(title, elapsed, &remark));
        self.told.push((title.to_owned(), elapsed, remark));
        result.with_context(|| title.to_owned())
    }

    pub(super) fn print_table(&self) {
        println!("\nThe local stack");
        for (title, elapsed, remark) in &self.told {
            println!("  {}", line(title, *elapsed, remark));
        }
        println!("  {}", line("in all", self.started.elapsed(), ""));
        for what in &self.untried {
            println!("  NOT TRIED: {what}");
        }
    }

    pub(super) fn into_untried(self) -> Vec<String> {
        self.untried
    }
}

fn line(title: &str, elapsed: Duration, remark: &str) -> String {
    format!("{title:<52} {:>6.1} s  {remark}", elapsed.as_secs_f64()).trim_end().to_owned()
}
