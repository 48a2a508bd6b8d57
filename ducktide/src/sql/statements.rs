//! Splits SQL at its semicolons.

/// The statements of a text, without their semicolons. Semicolons in quotes, in comments and in
/// dollar quotes belong to their statement; what holds comments only is no statement.
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

/// The words, quoted texts and signs of a statement, without space and comments.
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

/// The length of what comes next, and whether it is more than space or a comment. An end that is
/// missing is the end of the text; DuckDB will say what is wrong.
fn token(rest: &str) -> (usize, bool) {
    let until = |start: usize, end: &str| {
        rest[start..].find(end).map_or(rest.len(), |at| start + at + end.len())
    };
    let next = rest.chars().next().expect("the caller has not reached the end");
    match next {
        // A doubled quote ends one piece and starts the next: together they are the same text.
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

/// A whole name or number, so that the `E` at the end of one does not look like a string's prefix.
fn word(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len())
}

/// `E'…'`, where a backslash takes the next character with it.
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

/// `$$` or `$tag$` at the beginning.
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
    fn nothing_is_no_statement() {
        assert!(split(" ;; -- only this; \n /* and ; that */ ;").is_empty());
    }

    #[test]
    fn semicolons_in_quotes_belong_to_their_statement() {
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
    fn an_open_quote_reaches_to_the_end() {
        assert_eq!(split("SELECT 'é; SELECT 2"), ["SELECT 'é; SELECT 2"]);
    }
}
