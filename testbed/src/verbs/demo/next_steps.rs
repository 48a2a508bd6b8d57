//! End of the demonstration: paths, and commands to continue with.

use std::fs;

use anyhow::{Context as _, Result};
use ducktide_testbed::workspace;

use super::context::DemoContext;
use crate::verbs::terminal::Terminal;

/// Prints paths and commands. `kept` contains the commands that stop the services if they are still
/// running.
pub(super) fn print(
    terminal: &mut Terminal,
    context: &DemoContext,
    kept: Option<&[String; 2]>,
) -> Result<()> {
    terminal.step("Next steps");
    print_paths(terminal, context);
    print_query_commands(terminal, context)?;
    match kept {
        Some(commands) => print_streaming_commands(terminal, context, commands)?,
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
    commands: &[String; 2],
) -> Result<()> {
    let stop = context.folder().join("stop.sh");
    fs::write(&stop, commands.join("\n") + "\n").context("write stop.sh")?;
    terminal.print(
        "\nKafka and the registry are still running. Produce and consume more events, until Ctrl-C\n\
         (a consumer of any group continues at the offsets in the lake):",
    );
    terminal.command("$ ducktide-producer --continuous --rows 1000 --delay 5");
    terminal.command("$ ducktide-consumer --partition-by event_timestamp --group-id mine");
    terminal.command("$ ducktide status --watch");
    terminal.print("To stop Kafka and the registry:");
    terminal.command(&format!("$ sh {}", stop.display()));
    Ok(())
}
