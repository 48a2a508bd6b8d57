//! Splits SQL at its semicolons.

/// Returns the statements of a text, without their semicolons. Semicolons in quotes, comments and dollar
/// quotes are part of their statement; text with comments only is no statement.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let (mut start, mut at, mut has_code) = (0, 0, false);
    while at < text.len() {
        let rest = &text[at..];
        let (length, is_code) = token(rest);
        if rest.starts_with(';') {
            if has_code {
                statements.push(text[start..at].trim());
            }
            (start, has_code) = (at + 1, false);
        } else {
            has_code |= is_code;
        }
        at += length;
    }
    if has_code {
        statements.push(text[start..].trim());
    }
    statements
}

/// Returns the words, quoted texts and signs of a statement, without spaces and comments.
pub(super) fn tokens(statement: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), statement);
    while !rest.is_empty() {
        let (length, is_code) = token(rest);
        if is_code {
            tokens.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    tokens
}

/// Returns the length of the next token, and false if it is a space or comment. A token without its
/// delimiter ends with the text; DuckDB reports the error.
fn token(rest: &str) -> (usize, bool) {
    let until = |start: usize, end: &str| {
        rest[start..].find(end).map_or(rest.len(), |at| start + at + end.len())
    };
    let next = rest.chars().next().expect("the caller has not reached the end");
    match next {
        // A doubled quote ends one token and starts the next; the split is harmless.
        '\'' | '"' => (until(1, &next.to_string()), true),
        'e' | 'E' if rest[1..].starts_with('\'') => (escaped_string(rest), true),
        '-' if rest.starts_with("--") => (until(2, "\n"), false),
        '/' if rest.starts_with("/*") => (until(2, "*/"), false),
        '$' => match dollar_tag(rest) {
            Some(tag) => (until(tag.len(), tag), true),
            None => (1, true),
        },
        _ if next.is_alphanumeric() || next == '_' => (word(rest), true),
        _ => (next.len_utf8(), !next.is_whitespace()),
    }
}

/// Returns the length of a name or number, so that an `E` at its end is not the prefix of a string.
fn word(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len())
}

/// Returns the length of `E'…'`, in which a backslash escapes the next character.
fn escaped_string(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(2);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '\'' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns `$$` or `$tag$` at the beginning.
fn dollar_tag(rest: &str) -> Option<&str> {
    let end = rest[1..].find('$')? + 2;
    let tag = &rest[..end];
    let name = &tag[1..end - 1];
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons() {
        assert_eq!(split("SELECT 1; SELECT 2 ;\n"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(split("SELECT 1"), ["SELECT 1"]);
    }

    #[test]
    fn tokens_are_words_quoted_texts_and_signs() {
        let sql = "SELECT /* a */ \"b c\", 'd''e' -- f\nFROM g(1)";
        assert_eq!(
            tokens(sql),
            ["SELECT", "\"b c\"", ",", "'d'", "'e'", "FROM", "g", "(", "1", ")"]
        );
    }

    #[test]
    fn comments_are_no_statement() {
        assert!(split(" ;; -- only this; \n /* and ; that */ ;").is_empty());
    }

    #[test]
    fn semicolons_in_quotes_are_part_of_their_statement() {
        for sql in [
            "SELECT 'a;b'",
            "SELECT 'it''s; so'",
            r#"SELECT 1 AS "a;""b""#,
            r"SELECT E'a\';b'",
            "SELECT $$a;b$$",
            "SELECT $x$a;$$;b$x$",
            "SELECT 1 /* ; */ + 2 -- ; end",
        ] {
            assert_eq!(split(&format!("{sql}\n; SELECT 2")), [sql, "SELECT 2"], "{sql}");
        }
    }

    #[test]
    fn a_name_that_ends_with_e_is_not_an_escape() {
        assert_eq!(split(r"SELECT DATE'\'; SELECT 2"), [r"SELECT DATE'\'", "SELECT 2"]);
    }

    #[test]
    fn a_parameter_is_not_a_dollar_quote() {
        assert_eq!(split("SELECT $1; SELECT $2"), ["SELECT $1", "SELECT $2"]);
    }

    #[test]
    fn an_open_quote_ends_with_the_text() {
        assert_eq!(split("SELECT 'é; SELECT 2"), ["SELECT 'é; SELECT 2"]);
    }
}
