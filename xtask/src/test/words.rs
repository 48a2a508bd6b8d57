//! Checks the language of documentation, help and messages: first words of doc summaries, and a
//! vocabulary of words to avoid.

mod prose;
mod vocabulary;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use self::{prose::Prose, vocabulary::Vocabulary};
use super::outcome::StepOutcome;
use crate::layout;

/// Words with which a doc summary must not begin: it is a noun phrase or starts with a verb.
const QUESTION_WORDS: [&str; 6] = ["What", "Where", "How", "Whether", "Which", "Who"];

/// Files and folders that are not converted yet. One without a violation must be removed here.
const EXCEPTIONS: &[&str] = &[];

/// The vocabulary itself.
const VOCABULARY: &str = include_str!("words/vocabulary.txt");

/// A violation of one of the rules.
struct Violation {
    /// Path below the root of the workspace.
    path: String,
    line: usize,
    text: String,
}

/// Runs the step and prints all violations.
#[expect(clippy::print_stdout, reason = "the violations are printed")]
pub(super) fn run() -> Result<StepOutcome> {
    let mut violations = Vec::new();
    check_folder(layout::root(), &Vocabulary::parse(VOCABULARY), &mut violations)?;
    let failures = failures(&violations, EXCEPTIONS);
    for failure in &failures {
        println!("{failure}");
    }
    Ok(match failures.len() {
        0 => StepOutcome::Ok,
        count => StepOutcome::Failed(format!("{count} violations")),
    })
}

/// Checks all files below a folder, except hidden ones and build results.
fn check_folder(
    folder: &Path,
    vocabulary: &Vocabulary<'_>,
    violations: &mut Vec<Violation>,
) -> Result<()> {
    let list = || format!("list {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(list)? {
        paths.push(entry.with_context(list)?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            check_folder(&path, vocabulary, violations)?;
        } else if let Some(prose) = prose_of(&path)? {
            let relative = path.strip_prefix(layout::root()).unwrap_or(&path);
            check(&relative.to_string_lossy(), &prose, vocabulary, violations);
        }
    }
    Ok(())
}

/// Returns the prose of a file; None for a file that is not checked.
fn prose_of(path: &Path) -> Result<Option<Vec<Prose>>> {
    let parse: fn(&str) -> Vec<Prose> = match path.extension().and_then(|name| name.to_str()) {
        Some("rs") => prose::of_rust,
        Some("md" | "yml" | "avsc") => prose::of_document,
        Some("json") if path.starts_with(layout::root().join("docker")) => prose::of_document,
        _ => return Ok(None),
    };
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Some(parse(&text)))
}

fn check(
    path: &str,
    prose: &[Prose],
    vocabulary: &Vocabulary<'_>,
    violations: &mut Vec<Violation>,
) {
    for Prose { line, text, is_summary } in prose {
        let mut add =
            |text| violations.push(Violation { path: path.to_owned(), line: *line, text });
        let first = text.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        if *is_summary && QUESTION_WORDS.contains(&first) {
            add(format!("summary begins with `{first}`; use a noun phrase or a verb"));
        }
        for (word, replacement) in vocabulary.find(text) {
            add(format!("`{word}`; use: {replacement}"));
        }
    }
}

/// Returns the violations outside the exceptions, and the exceptions without a violation.
fn failures(violations: &[Violation], exceptions: &[&str]) -> Vec<String> {
    let is_excepted =
        |violation: &&Violation| exceptions.iter().any(|path| is_below(violation, path));
    let findings_left = violations.iter().filter(|violation| !is_excepted(violation));
    let unused = exceptions.iter().filter(|path| !violations.iter().any(|f| is_below(f, path)));
    findings_left
        .map(|Violation { path, line, text }| format!("{path}:{line}: {text}"))
        .chain(unused.map(|path| {
            format!(
                "xtask/src/test/words.rs: `{path}` has no violations; remove it from EXCEPTIONS"
            )
        }))
        .collect()
}

fn is_below(violation: &Violation, path: &str) -> bool {
    Path::new(&violation.path).starts_with(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(path: &str, source: &str) -> Vec<Violation> {
        let mut violations = Vec::new();
        check(path, &prose::of_rust(source), &Vocabulary::parse("frob = use"), &mut violations);
        violations
    }

    #[test]
    fn a_finding_has_its_place_and_the_replacement() {
        let found =
            violations("a/b.rs", "\n/// Which one to frob.\nconst X: &str = \"frob it\";\n");
        assert_eq!(
            failures(&found, &[]),
            [
                "a/b.rs:2: summary begins with `Which`; use a noun phrase or a verb",
                "a/b.rs:2: `frob`; use: use",
                "a/b.rs:3: `frob`; use: use",
            ]
        );
    }

    #[test]
    fn question_words_are_allowed_after_the_first_line() {
        assert!(violations("a.rs", "/// Returns the name.\n/// Which one is free.\n").is_empty());
        assert!(violations("a.rs", "/// Whichever comes first.\n// What is left.\n").is_empty());
    }

    #[test]
    fn an_exception_hides_the_findings_below_it() {
        let found = violations("old/src/a.rs", "// frob\n");
        assert!(failures(&found, &["old"]).is_empty());
        assert_eq!(failures(&found, &["ol", "old/src"]).len(), 1, "`ol` is not a parent folder");
    }

    #[test]
    fn an_exception_without_findings_must_be_removed() {
        let failures = failures(&[], &["old"]);
        assert_eq!(failures.len(), 1);
        assert!(failures[0].contains("`old` has no violations"), "{failures:?}");
    }
}
