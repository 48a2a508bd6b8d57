//! Code blocks of Markdown pages, and the commands of shell blocks.

/// Start of a comment before a block that cannot be run, followed by the reason and `-->`.
const NOT_RUN: &str = "<!-- not run:";

/// Fenced code block.
#[derive(Debug, PartialEq, Eq)]
pub struct CodeBlock {
    /// Line number of the opening fence, starting with 1.
    pub line: usize,
    /// Language after the opening fence, such as `sh`.
    pub language: String,
    /// Contents without the fences and their indentation.
    pub text: String,
    /// Reason of the comment `<!-- not run: reason -->` in the line before the block.
    pub not_run: Option<String>,
}

/// Returns the fenced code blocks of a page.
#[must_use]
pub fn code_blocks(page: &str) -> Vec<CodeBlock> {
    let mut blocks = Vec::new();
    let mut not_run = None;
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            not_run = line.trim().strip_prefix(NOT_RUN).and_then(|rest| rest.strip_suffix("-->"));
            continue;
        };
        let indentation = line.len() - line.trim_start().len();
        let contents = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| !line.trim_start().starts_with("```"))
            .map(|line| line.get(indentation..).unwrap_or_default());
        blocks.push(CodeBlock {
            line: index + 1,
            language: language.trim().to_owned(),
            text: contents.collect::<Vec<_>>().join("\n"),
            not_run: not_run.take().map(|reason| reason.trim().to_owned()),
        });
    }
    blocks
}

/// Returns the commands of a shell script, one for each line. Comments are left out; a quoted text
/// and a backslash at the end of a line continue the command.
#[must_use]
pub fn shell_commands(script: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut command = String::new();
    let mut quote = None;
    for line in script.lines() {
        let is_continued = !command.is_empty();
        command.push_str(if is_continued { "\n" } else { "" });
        command.push_str(without_comment(line, &mut quote));
        if quote.is_none() && !command.ends_with('\\') {
            let ended = std::mem::take(&mut command).trim().to_owned();
            commands.extend((!ended.is_empty()).then_some(ended));
        }
    }
    commands
}

/// Returns a line of a script without its comment, and updates the quote that is open.
fn without_comment<'a>(line: &'a str, quote: &mut Option<char>) -> &'a str {
    let mut is_word_start = true;
    for (index, character) in line.char_indices() {
        match (*quote, character) {
            (None, '#') if is_word_start => return line[..index].trim_end(),
            (None, '"' | '\'') => *quote = Some(character),
            (Some(open), _) if open == character => *quote = None,
            _ => {}
        }
        is_word_start = character.is_whitespace();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_line_language_and_reason() {
        let page = "# A\n\n```sh\none\n```\n<!-- not run: no Docker -->\n```sql\ntwo\n\n```\n";
        let blocks = code_blocks(page);
        let expected = [(3, "sh", "one", None), (7, "sql", "two\n", Some("no Docker"))];
        let actual: Vec<_> = blocks
            .iter()
            .map(|block| (block.line, &*block.language, &*block.text, block.not_run.as_deref()))
            .collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn blocks_in_lists_lose_their_indentation() {
        let blocks = code_blocks("- a\n\n  ```sh\n  one\n    two\n  ```\n");
        assert_eq!(blocks[0].text, "one\n  two");
    }

    #[test]
    fn a_reason_applies_to_the_next_line_only() {
        let blocks = code_blocks("<!-- not run: x -->\n\n```sh\none\n```\n");
        assert_eq!(blocks[0].not_run, None);
    }

    #[test]
    fn commands_are_lines_without_comments() {
        let script = "# first\n\none --a   # user's \"b\ntwo '#' a#b &\n";
        assert_eq!(shell_commands(script), ["one --a", "two '#' a#b &"]);
    }

    #[test]
    fn commands_continue_in_quotes_and_after_backslashes() {
        let script = "sql \"SELECT 1 -- '\n  FROM t\"\nA=b \\\n  two\n";
        assert_eq!(shell_commands(script), ["sql \"SELECT 1 -- '\n  FROM t\"", "A=b \\\n  two"]);
    }
}
