//! Extraction of the prose of a Rust source file: its comments and string literals.

/// One line of prose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prose {
    /// Line number, starting with 1.
    pub(super) line: usize,
    pub(super) text: String,
    /// The line is the first one of a documentation comment.
    pub(super) is_summary: bool,
}

/// Returns the lines of all comments and string literals of a Rust source file.
pub(super) fn of_rust(source: &str) -> Vec<Prose> {
    let mut reader = SourceReader { rest: source, line: 1, prose: Vec::new(), doc: None };
    while let Some(character) = reader.rest.chars().next() {
        let rest = reader.rest;
        if rest.starts_with("//") {
            reader.line_comment();
        } else if rest.starts_with("/*") {
            reader.literal(2, "*/", None);
        } else if let Some((start, hashes)) = raw_string(rest) {
            reader.literal(start, &format!("\"{}", "#".repeat(hashes)), None);
        } else if character == '"' {
            reader.literal(1, "\"", Some('\\'));
        } else if character == '\'' {
            reader.skip(quote_length(rest));
        } else if character.is_alphanumeric() || character == '_' {
            // A whole identifier, so that the `r` at its end does not start a raw string.
            reader
                .skip(rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()));
        } else {
            reader.skip(character.len_utf8());
        }
    }
    reader.prose
}

/// Returns the lines of a document.
pub(super) fn of_document(text: &str) -> Vec<Prose> {
    let prose = |(index, text): (usize, &str)| Prose {
        line: index + 1,
        text: text.to_owned(),
        is_summary: false,
    };
    text.lines().enumerate().map(prose).collect()
}

struct SourceReader<'a> {
    rest: &'a str,
    line: usize,
    prose: Vec<Prose>,
    /// Line and marker of the last documentation comment.
    doc: Option<(usize, &'a str)>,
}

impl SourceReader<'_> {
    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }

    fn line_comment(&mut self) {
        let comment = self.rest.lines().next().unwrap_or_default();
        let is_doc = comment.starts_with("///") || comment.starts_with("//!");
        let (marker, text) = comment.split_at(if is_doc { 3 } else { 2 });
        let is_summary = is_doc && self.doc != Some((self.line - 1, marker));
        if is_doc {
            self.doc = Some((self.line, marker));
        }
        self.prose.push(Prose { line: self.line, text: text.trim().to_owned(), is_summary });
        self.skip(comment.len());
    }

    /// Reads a literal or block comment, from its opening delimiter of `start` bytes to `end`.
    fn literal(&mut self, start: usize, end: &str, escape: Option<char>) {
        self.skip(start);
        let length = literal_length(self.rest, end, escape);
        for (index, text) in self.rest[..length].split('\n').enumerate() {
            let line = self.line + index;
            let text = text.replace("\\n", " ").trim().to_owned();
            self.prose.push(Prose { line, text, is_summary: false });
        }
        self.skip((length + end.len()).min(self.rest.len()));
    }
}

/// Returns the number of bytes before the closing delimiter.
fn literal_length(text: &str, end: &str, escape: Option<char>) -> usize {
    let mut is_escaped = false;
    for (index, character) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if Some(character) == escape {
            is_escaped = true;
        } else if text[index..].starts_with(end) {
            return index;
        }
    }
    text.len()
}

/// Returns the length of the opening delimiter and its number of hashes if a raw string starts
/// here.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let raw = text.strip_prefix(['b', 'c']).unwrap_or(text).strip_prefix('r')?;
    let content = raw.trim_start_matches('#');
    let hashes = raw.len() - content.len();
    content.starts_with('"').then(|| (text.len() - content.len() + 1, hashes))
}

/// Returns the length of a character literal, or 1 for the quote of a lifetime.
fn quote_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((second, escaped))) => {
            let start = second + escaped.len_utf8();
            text[start..].find('\'').map_or(1, |end| start + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns line number and text of each line of prose.
    fn lines(source: &str) -> Vec<(usize, String)> {
        of_rust(source).into_iter().map(|prose| (prose.line, prose.text)).collect()
    }

    fn owned(lines: &[(usize, &str)]) -> Vec<(usize, String)> {
        lines.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    #[test]
    fn comments_and_strings_are_prose_and_code_is_not() {
        let source = "fn word() { // one\n  let x = \"two\"; /* three\n four */\n}\n";
        let expected = [(1, "one"), (2, "two"), (2, "three"), (3, "four")];
        assert_eq!(lines(source), owned(&expected));
    }

    #[test]
    fn strings_of_every_kind_end_at_their_delimiter() {
        let source = r##"("a \" b", br#"c "d" e"#, b"f", 'x', '"', '\'', &'a str, r"g\") // h"##;
        let expected = [(1, r#"a \" b"#), (1, r#"c "d" e"#), (1, "f"), (1, r"g\"), (1, "h")];
        assert_eq!(lines(source), owned(&expected));
    }

    #[test]
    fn a_string_over_several_lines_has_its_line_numbers() {
        let source = "\n(\"a \\\n  b\",\n \"c\")";
        assert_eq!(lines(source), owned(&[(2, "a \\"), (3, "b"), (4, "c")]));
    }

    #[test]
    fn only_the_first_line_of_a_documentation_comment_is_a_summary() {
        let source = "//! a\n//! b\n\n/// c\n///\n/// d\nfn x() {}\n// e\n/// f\n";
        let summaries: Vec<_> =
            of_rust(source).into_iter().filter(|prose| prose.is_summary).collect();
        let texts: Vec<_> = summaries.iter().map(|prose| &*prose.text).collect();
        assert_eq!(texts, ["a", "c", "f"]);
    }
}
