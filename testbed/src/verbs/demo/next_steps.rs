//! End of the demonstration: paths, and commands to continue with.

use std::fs;

use anyhow::{Context as _, Result};
use ducktide_testbed::workspace;

use super::context::DemoContext;
use crate::verbs::{storage_kind::StorageKind, terminal::Terminal};

/// Prints paths and commands. `kept` contains the commands that stop the services if they are still
/// running.
pub(super) fn print(
    terminal: &mut Terminal,
    context: &DemoContext,
    storage: StorageKind,
    kept: Option<&[String]>,
) -> Result<()> {
    terminal.step("Next steps");
    print_paths(terminal, context);
    if storage == StorageKind::Local || kept.is_some() {
        print_query_commands(terminal, context)?;
    }
    match kept {
        Some(commands) => print_streaming_commands(terminal, context, commands)?,
        None if storage == StorageKind::S3 => terminal.print(
            "\nAll services stop now, and the object store removes its files. `cargo xtask demo --keep` leaves\n\
             them running for queries, and for other producers and consumers.",
        ),
        None => terminal.print(
            "\nKafka and the registry stop now. `cargo xtask demo --keep` leaves them running for other\n\
             producers and consumers.",
        ),
    }
    terminal.print(&format!("\nTo remove all files: rm -r {}", context.folder().display()));
    Ok(())
}

fn print_paths(terminal: &mut Terminal, context: &DemoContext) {
    terminal.print(&format!("catalog    {}", context.catalog_file().display()));
    terminal.print(&format!("data       {}", context.data_path()));
    terminal.print(&format!("ledger     {}", context.ledger().display()));
    terminal.print(&format!("logs       {}", context.logs().display()));
    terminal.print(&format!("settings   {}", context.settings().display()));
}

/// Prints commands that query the lake with `ducktide` and with DuckDB.
fn print_query_commands(terminal: &mut Terminal, context: &DemoContext) -> Result<()> {
    let duckdb = workspace::downloaded("duckdb-cli/duckdb")?;
    terminal.print("\nQuery the lake with `ducktide` or with DuckDB 1.5.2 or newer:");
    terminal.command(&format!("$ . {}", context.settings().display()));
    terminal.command(&format!("$ ducktide sql \"FROM {} LIMIT 5\"", super::context::TABLE));
    terminal.command("$ ducktide attach > attach.sql && duckdb -init attach.sql");
    terminal.print(&format!("(a DuckDB command line is at {})", duckdb.display()));
    Ok(())
}

/// Prints commands for more events. The consumer is in another group: the demonstration's consumers
/// are static members, which keep their partitions for a session after they leave. Consumers of all
/// groups continue at the offsets in the lake.
fn print_streaming_commands(
    terminal: &mut Terminal,
    context: &DemoContext,
    commands: &[String],
) -> Result<()> {
    let stop = context.folder().join("stop.sh");
    fs::write(&stop, commands.join("\n") + "\n").context("write stop.sh")?;
    terminal.print(
        "\nThe services are still running. Produce and consume more events, until Ctrl-C\n\
         (a consumer of any group continues at the offsets in the lake):",
    );
    terminal.command("$ ducktide-producer --continuous --rows 1000 --delay 5");
    terminal.command("$ ducktide-consumer --partition-by event_timestamp --group-id mine");
    terminal.command("$ ducktide status --watch");
    terminal.print("To stop the services:");
    terminal.command(&format!("$ sh {}", stop.display()));
    Ok(())
}
