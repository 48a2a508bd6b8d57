//! Conversion of help texts for a terminal to Markdown.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// Returns the description of a command, in complete sentences.
pub(crate) fn about(command: &Command) -> String {
    let about = command.get_long_about().or_else(|| command.get_about());
    with_full_stop(&about.map(ToString::to_string).unwrap_or_default())
}

/// Returns the description of a setting with its possible values, and its default if the help text has
/// it, because it depends on something.
pub(crate) fn meaning(argument: &Arg) -> (String, Option<String>) {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let (help, default) = split_default(&help);
    let help = with_full_stop(&help.split_whitespace().collect::<Vec<_>>().join(" "));
    (help + &possible_values(argument), default)
}

/// Splits `text. [default: words]` into the text and the words.
fn split_default(help: &str) -> (&str, Option<String>) {
    let default = help.rsplit_once("[default: ").and_then(|(before, after)| {
        let words = after.trim_end_matches('.').strip_suffix(']')?;
        Some((before.trim_end(), words.split_whitespace().collect::<Vec<_>>().join(" ")))
    });
    default.map_or((help, None), |(before, words)| (before, Some(words)))
}

/// Adds the full stop that clap removes from the end of a help text.
fn with_full_stop(text: &str) -> String {
    let text = text.trim_end();
    let is_whole = text.is_empty() || text.ends_with(['.', ':', '!', '?']);
    if is_whole { text.to_owned() } else { format!("{text}.") }
}

fn possible_values(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    argument.get_possible_values().iter().fold(String::new(), |mut text, value| {
        write!(text, "<br>`{}`", value.get_name()).expect("writing to a String cannot fail");
        if let Some(help) = value.get_help() {
            write!(text, ": {}", with_full_stop(&help.to_string()))
                .expect("writing to a String cannot fail");
        }
        text
    })
}

/// Converts the text after the flags: examples to code, exit codes to a table.
pub(crate) fn after_help(text: &str, level: &str) -> String {
    blocks(text).iter().fold(String::new(), |markdown, block| {
        let head = block.head.join(" ");
        let indented = block.indented.join("\n");
        markdown
            + &match (head.as_str(), indented.trim_end()) {
                (_, "") => format!("\n{head}\n"),
                ("Exit codes:", codes) => exit_codes(codes, level),
                ("Examples:", lines) => format!("\n{head}\n\n```sh\n{lines}\n```\n"),
                (_, lines) => format!("\n{head}\n\n```text\n{lines}\n```\n"),
            }
    })
}

/// Lines without indentation, and the following lines that are indented by two, without it.
#[derive(Default)]
struct Block<'a> {
    head: Vec<&'a str>,
    indented: Vec<&'a str>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = vec![Block::default()];
    for line in text.lines() {
        let last = blocks.last_mut().expect("there is one from the start");
        match line.strip_prefix("  ") {
            Some(indented) => last.indented.push(indented),
            None if line.is_empty() => last.indented.push(line),
            None if last.indented.is_empty() => last.head.push(line),
            None => blocks.push(Block { head: vec![line], indented: Vec::new() }),
        }
    }
    blocks
}

fn exit_codes(lines: &str, level: &str) -> String {
    let head = format!("\n{level} Exit codes\n\n| Code | Meaning |\n|---|---|\n");
    lines.lines().filter_map(|line| line.split_once("  ")).fold(head, |mut table, (code, text)| {
        writeln!(table, "| {code} | {text} |").expect("writing to a String cannot fail");
        table
    })
}
