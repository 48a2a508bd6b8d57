//! The end of the demonstration: what lies where, and how to go on.

use std::fs;

use anyhow::{Context as _, Result};
use ducktide_testbed::workspace;

use super::scene::Scene;
use crate::verbs::terminal::Terminal;

/// Tells it; `kept` holds the commands that end the services, when they were left running.
pub(super) fn tell(
    terminal: &mut Terminal,
    scene: &Scene,
    kept: Option<&[String; 2]>,
) -> Result<()> {
    terminal.step("Go on by yourself");
    tell_where(terminal, scene);
    tell_how_to_query(terminal, scene)?;
    match kept {
        Some(commands) => tell_how_to_stream(terminal, scene, commands)?,
        None => terminal.say(
            "\nKafka and the registry end now. With `cargo xtask demo --keep` they stay, for\n\
             producers and consumers of your own.",
        ),
    }
    terminal.say(&format!("\nTo remove all of it: rm -r {}", scene.folder().display()));
    Ok(())
}

fn tell_where(terminal: &mut Terminal, scene: &Scene) {
    terminal.say(&format!("catalog    {}", scene.catalog_file().display()));
    terminal.say(&format!("data       {}", scene.data_path()));
    terminal.say(&format!("ledger     {}", scene.ledger().display()));
    terminal.say(&format!("logs       {}", scene.logs().display()));
    terminal.say(&format!("settings   {}", scene.settings().display()));
}

/// By ours, and by any DuckDB.
fn tell_how_to_query(terminal: &mut Terminal, scene: &Scene) -> Result<()> {
    let duckdb = workspace::downloaded("duckdb-cli/duckdb")?;
    terminal.say(
        "\nIn a shell with these settings, ours and your own DuckDB (1.5 or newer) read the lake:",
    );
    terminal.command(&format!("$ . {}", scene.settings().display()));
    terminal.command(&format!("$ ducktide sql \"FROM {} LIMIT 5\"", super::scene::TABLE));
    terminal.command("$ ducktide attach > attach.sql && duckdb -init attach.sql");
    terminal.say(&format!("(no duckdb at hand? there is one at {})", duckdb.display()));
    Ok(())
}

/// A consumer of another group: the demonstration's was of static members, whose partitions stay
/// theirs for a session after they leave. The lake knows where to go on, whatever the group.
fn tell_how_to_stream(
    terminal: &mut Terminal,
    scene: &Scene,
    commands: &[String; 2],
) -> Result<()> {
    let stop = scene.folder().join("stop.sh");
    fs::write(&stop, commands.join("\n") + "\n").context("write stop.sh")?;
    terminal.say(
        "\nKafka and the registry stay. More events, until Ctrl-C, and a worker for them (of any\n\
              group: the lake knows where to go on):",
    );
    terminal.command("$ ducktide-producer --continuous --rows 1000 --delay 5");
    terminal.command("$ ducktide-consumer --partition-by event_timestamp --group-id mine");
    terminal.command("$ ducktide status --watch");
    terminal.say("To end Kafka and the registry:");
    terminal.command(&format!("$ sh {}", stop.display()));
    Ok(())
}
