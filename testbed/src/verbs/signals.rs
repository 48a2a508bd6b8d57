//! Ctrl-C and SIGTERM.

use std::{process, thread};

use anyhow::{Context as _, Result};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

/// Exit code of a program that was ended by Ctrl-C, as in shells.
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

/// Installs a handler for Ctrl-C and SIGTERM that prints `message` and ends this process. Watchdogs
/// end its child processes.
#[expect(clippy::print_stderr, reason = "confirms Ctrl-C")]
pub(crate) fn exit_on_interrupt(message: String) {
    thread::spawn(move || {
        // Without a handler the signals end the process without a message.
        if wait().is_ok() {
            eprintln!("\n{message}");
            process::exit(INTERRUPTED);
        }
    });
}
