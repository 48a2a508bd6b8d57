//! Ctrl-C and SIGTERM, for verbs that run until then or must leave nothing behind.

use std::{process, thread};

use anyhow::{Context as _, Result};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

/// What shells report for a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Waits for Ctrl-C or SIGTERM.
pub(crate) fn wait() -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("start a runtime")?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}

/// From now on Ctrl-C or SIGTERM says `last_words` and ends this process, whatever it is doing; its
/// child processes are ended by their watchdogs.
#[expect(clippy::print_stderr, reason = "the person who pressed Ctrl-C should see that it worked")]
pub(crate) fn exit_on_interrupt(last_words: String) {
    thread::spawn(move || {
        // Without a handler the signals still end the process, only without a word.
        if wait().is_ok() {
            eprintln!("\n{last_words}");
            process::exit(INTERRUPTED);
        }
    });
}
