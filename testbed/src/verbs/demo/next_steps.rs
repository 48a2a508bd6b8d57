//! The end of the demonstration: what lies where, and how to go on.

use std::fs;

use anyhow::{Context as _, Result};
use ducktide_testbed::workspace;

use super::context::DemoContext;
use crate::verbs::terminal::Terminal;

/// Tells it; `kept` holds the commands that end the services, when they were left running.
pub(super) fn print(
    terminal: &mut Terminal,
    context: &DemoContext,
    kept: Option<&[String; 2]>,
) -> Result<()> {
    terminal.step("Go on by yourself");
    print_paths(terminal, context);
    print_query_commands(terminal, context)?;
    match kept {
        Some(commands) => print_streaming_commands(terminal, context, commands)?,
        None => terminal.print(
            "\nKafka and the registry end now. With `cargo xtask demo --keep` they stay, for\n\
             producers and consumers of your own.",
        ),
    }
    terminal.print(&format!("\nTo remove all of it: rm -r {}", context.folder().display()));
    Ok(())
}

fn print_paths(terminal: &mut Terminal, context: &DemoContext) {
    terminal.print(&format!("catalog    {}", context.catalog_file().display()));
    terminal.print(&format!("data       {}", context.data_path()));
    terminal.print(&format!("ledger     {}", context.ledger().display()));
    terminal.print(&format!("logs       {}", context.logs().display()));
    terminal.print(&format!("settings   {}", context.settings().display()));
}

/// By ours, and by any DuckDB.
fn print_query_commands(terminal: &mut Terminal, context: &DemoContext) -> Result<()> {
    let duckdb = workspace::downloaded("duckdb-cli/duckdb")?;
    terminal.print(
        "\nIn a shell with these settings, ours and your own DuckDB (1.5 or newer) read the lake:",
    );
    terminal.command(&format!("$ . {}", context.settings().display()));
    terminal.command(&format!("$ ducktide sql \"FROM {} LIMIT 5\"", super::context::TABLE));
    terminal.command("$ ducktide attach > attach.sql && duckdb -init attach.sql");
    terminal.print(&format!("(no duckdb at hand? there is one at {})", duckdb.display()));
    Ok(())
}

/// A consumer of another group: the demonstration's was of static members, whose partitions stay
/// theirs for a session after they leave. The lake knows where to go on, whatever the group.
fn print_streaming_commands(
    terminal: &mut Terminal,
    context: &DemoContext,
    commands: &[String; 2],
) -> Result<()> {
    let stop = context.folder().join("stop.sh");
    fs::write(&stop, commands.join("\n") + "\n").context("write stop.sh")?;
    terminal.print(
        "\nKafka and the registry stay. More events, until Ctrl-C, and a worker for them (of any\n\
              group: the lake knows where to go on):",
    );
    terminal.command("$ ducktide-producer --continuous --rows 1000 --delay 5");
    terminal.command("$ ducktide-consumer --partition-by event_timestamp --group-id mine");
    terminal.command("$ ducktide status --watch");
    terminal.print("To end Kafka and the registry:");
    terminal.command(&format!("$ sh {}", stop.display()));
    Ok(())
}
