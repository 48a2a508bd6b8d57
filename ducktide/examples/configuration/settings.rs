//! Settings of a command as cells of a table, grouped by the headings of its `--help`.

use clap::{Arg, Command};

use crate::help_text;

/// Settings below one heading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) heading: String,
    pub(crate) settings: Vec<Setting>,
}

/// One flag or argument; each field is a table cell in Markdown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) variable: String,
    pub(crate) default: String,
    pub(crate) meaning: String,
}

/// Group that several commands have in common.
pub(crate) struct SharedGroup {
    pub(crate) group: Group,
    pub(crate) verbs: Vec<String>,
}

/// Returns the groups of one command, in the order of its help.
pub(crate) fn groups_of(command: &Command) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for argument in command.get_arguments().filter(|argument| is_setting(argument)) {
        let heading = heading(argument);
        match groups.iter_mut().find(|group| group.heading == heading) {
            Some(group) => group.settings.push(setting(argument)),
            None => groups
                .push(Group { heading: heading.to_owned(), settings: vec![setting(argument)] }),
        }
    }
    groups
}

/// Returns the groups that more than one of these commands has; each is shown once.
pub(crate) fn shared_groups(verbs: &[&Command]) -> Vec<SharedGroup> {
    let mut all: Vec<SharedGroup> = Vec::new();
    for verb in verbs {
        for group in groups_of(verb) {
            let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name());
            let name = name.split_once(' ').map_or(name, |(_, verb)| verb).to_owned();
            match all.iter_mut().find(|shared| shared.group == group) {
                Some(shared) => shared.verbs.push(name),
                None => all.push(SharedGroup { group, verbs: vec![name] }),
            }
        }
    }
    all.retain(|shared| shared.verbs.len() > 1);
    all
}

fn is_setting(argument: &Arg) -> bool {
    !matches!(argument.get_id().as_str(), "help" | "version") && !argument.is_hide_set()
}

fn heading(argument: &Arg) -> &str {
    let unnamed = if argument.is_positional() { "Arguments" } else { "Options" };
    argument.get_help_heading().unwrap_or(unnamed)
}

fn setting(argument: &Arg) -> Setting {
    let (meaning, documented_default) = help_text::meaning(argument);
    Setting {
        name: code(&name(argument)),
        variable: argument.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default(),
        default: default(argument).or(documented_default).unwrap_or_default(),
        meaning,
    }
}

/// Returns the flag as it is typed, with its value, such as `--rows N`.
fn name(argument: &Arg) -> String {
    let value = || argument.get_value_names().unwrap_or_default().join(" ");
    match argument.get_long() {
        None => value(),
        Some(flag) if !argument.get_action().takes_values() => format!("--{flag}"),
        Some(flag) if value_is_optional(argument) => format!("--{flag} [{}]", value()),
        Some(flag) => format!("--{flag} {}", value()),
    }
}

fn value_is_optional(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|range| range.min_values() == 0)
}

fn default(argument: &Arg) -> Option<String> {
    if argument.is_required_set() {
        return Some("required".to_owned());
    }
    let values = argument.get_default_values();
    let is_shown = argument.get_action().takes_values() && !values.is_empty();
    let values = values.iter().map(|value| code(&value.to_string_lossy()));
    is_shown.then(|| values.collect::<Vec<_>>().join(" "))
}

fn code(text: &str) -> String {
    format!("`{text}`")
}
