//! The page: an introduction, then each program with its settings, verbs and exit codes.

use std::fmt::Write as _;

use clap::Command;

use crate::help_text;
use crate::settings::{self, Group};

const INTRODUCTION: &str = "\
<!-- Made by `cargo xtask docs` from the programs' flags: change those, not this page. -->

# Configuration

Every setting is a flag, and nearly every one an environment variable too; the flag counts where both
are given. There is no configuration file. `PROGRAM --help` says the same as this page.

- A duration is a number of seconds, or has its unit: `90`, `0.5`, `250ms`, `2m`.
- A size is a number of bytes, or has its unit: `67108864`, `64MiB`, `100MB`.
- A switch without a value is turned on by `true` in its variable.

How programs log is told by the environment alone:

| Variable | Default | Meaning |
|---|---|---|
| `RUST_LOG` | `info` for workers, `warn` for `ducktide` | What is logged, such as `warn` or `info,ducktide_lake=debug`. |
| `DUCKTIDE_LOG_FORMAT` | `text` on a terminal and for `ducktide`, otherwise `json` | How it is logged: `text` or `json`. |
";

/// The whole page.
pub(crate) fn of(programs: impl IntoIterator<Item = Command>) -> String {
    let mut page = INTRODUCTION.to_owned();
    for mut program in programs {
        // Usage lines and the names of verbs are complete only then.
        program.build();
        push_program(&mut page, &program);
    }
    page
}

fn push_program(page: &mut String, program: &Command) {
    push(page, &format!("\n## {}\n", program.get_name()));
    push_command(page, program, &settings::groups_of(program), "###");
    let verbs = verbs_of(program);
    let shared = settings::shared_groups(&verbs);
    for verb in &verbs {
        push(page, &format!("\n### {}\n", full_name(verb)));
        let mut groups = settings::groups_of(verb);
        groups.retain(|group| !shared.iter().any(|shared| shared.group == *group));
        push_command(page, verb, &groups, "####");
    }
    for shared in &shared {
        let verbs: Vec<_> = shared.verbs.iter().map(|verb| format!("`{verb}`")).collect();
        push(page, &format!("\n### {}: {}\n", shared.group.heading, verbs.join(", ")));
        push(page, &table(&shared.group));
    }
}

/// The verbs, each followed by its own.
fn verbs_of(command: &Command) -> Vec<&Command> {
    let verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
    verbs.flat_map(|verb| [vec![verb], verbs_of(verb)].concat()).collect()
}

fn push_command(page: &mut String, command: &Command, groups: &[Group], level: &str) {
    push(page, &format!("\n{}\n", help_text::about(command)));
    push(page, &format!("\n```text\n{}\n```\n", usage(command)));
    for group in groups {
        push(page, &format!("\n{level} {}\n", group.heading));
        push(page, &table(group));
    }
    if let Some(text) = command.get_after_help() {
        push(page, &help_text::after_help(&text.to_string(), level));
    }
}

/// A verb with its program's name, as one types it.
fn full_name(verb: &Command) -> &str {
    verb.get_bin_name().unwrap_or_else(|| verb.get_name())
}

fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").to_owned()
}

fn table(group: &Group) -> String {
    let head = "\n| Setting | Variable | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    group.settings.iter().fold(head, |mut table, setting| {
        let cells = [&setting.name, &setting.variable, &setting.default, &setting.meaning];
        let [name, variable, default, meaning] = cells.map(|cell| cell.replace('|', "\\|"));
        writeln!(table, "| {name} | {variable} | {default} | {meaning} |")
            .expect("writing to a String cannot fail");
        table
    })
}

fn push(page: &mut String, text: &str) {
    page.push_str(text);
}
