//! Names in a query of `PromQL`. Not a complete parser: the result is correct for queries that
//! promtool accepts.

use std::collections::BTreeSet;

/// Keywords before a list of labels.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Label matcher `label="value"`, with any of the four operators.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Matcher {
    pub(crate) label: String,
    pub(crate) value: String,
}

/// Series and labels of a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct QueryNames {
    pub(crate) series: BTreeSet<String>,
    /// Labels in grouping and matching clauses.
    pub(crate) labels: BTreeSet<String>,
    pub(crate) matchers: BTreeSet<Matcher>,
}

impl QueryNames {
    pub(crate) fn of(query: &str) -> Self {
        let mut names = Self::default();
        let mut rest = query;
        while let Some(first) = rest.chars().next() {
            if first == '{' {
                let (inner, after) = rest[1..].split_once('}').expect("braces are closed");
                names.matchers.extend(matchers(inner));
                rest = after;
            } else if first == '[' {
                rest = rest.split_once(']').expect("brackets are closed").1;
            } else if first.is_ascii_alphabetic() || first == '_' {
                let word = word(rest);
                rest = names.take(word, rest[word.len()..].trim_start());
            } else if first.is_ascii_digit() {
                // Includes the unit of a duration.
                rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        names
    }

    /// Records a word, and returns the rest of the query.
    fn take<'a>(&mut self, word: &str, after: &'a str) -> &'a str {
        if LISTS.contains(&word) {
            let (list, after) = after[1..].split_once(')').expect("parentheses are closed");
            let labels = list.split(',').map(str::trim).filter(|label| !label.is_empty());
            self.labels.extend(labels.map(str::to_owned));
            return after;
        }
        let is_function = after.starts_with('(') || ["sum", "max", "min", "count"].contains(&word);
        if !is_function && !OPERATORS.contains(&word) {
            self.series.insert(word.to_owned());
        }
        after
    }
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    &text[..end.unwrap_or(text.len())]
}

/// Returns the matchers in braces. The shipped queries have no value with a comma.
fn matchers(inner: &str) -> impl Iterator<Item = Matcher> {
    let pairs = inner.split(',').filter(|pair| !pair.trim().is_empty());
    pairs.map(|pair| {
        let (label, value) = pair.split_once('=').expect("a matcher has an equals sign");
        let label = label.trim().trim_end_matches('!').to_owned();
        Matcher { label, value: value.trim_matches(['~', '"', ' ']).to_owned() }
    })
}

#[test]
fn series_labels_and_values_are_found() {
    let names = QueryNames::of(
        r#"sum by (topic, le) (rate(a_total{outcome!="done",class=~"x|y"}[5m])) > 60.5 or on (job) b offset 5m"#,
    );

    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(names.series, words(&["a_total", "b"]));
    assert_eq!(names.labels, words(&["topic", "le", "job"]));
    let matcher = |label: &str, value: &str| Matcher { label: label.into(), value: value.into() };
    assert_eq!(names.matchers, [matcher("class", "x|y"), matcher("outcome", "done")].into());
}
