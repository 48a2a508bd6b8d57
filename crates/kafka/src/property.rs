//! librdkafka properties given by a user: parsing, and the names that librdkafka resolves them to.

use std::convert::Infallible;
use std::fmt;

/// Names that librdkafka 2.12 resolves to another property, of clients, consumers and producers.
const ALIASES: [(&str, &str); 12] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("auto.commit.enable", "enable.auto.commit"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("message.send.max.retries", "retries"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("message.timeout.ms", "delivery.timeout.ms"),
];

/// Properties without a dot in the name.
pub const NAMES_WITHOUT_DOT: [&str; 4] = ["acks", "debug", "partitioner", "retries"];

/// Returns the canonical name of a property, for comparisons only: librdkafka may not know it.
///
/// librdkafka removes the prefix `topic.` of topic properties, and has two names for some properties.
#[must_use]
pub fn canonical_name(name: &str) -> &str {
    let name = name.strip_prefix("topic.").unwrap_or(name);
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, canonical)| canonical)
}

/// Merges lists; the last of several values for the same property applies.
pub fn merge(lists: &[PropertyList]) -> Result<Vec<(String, String)>, String> {
    let mut merged: Vec<(String, String)> = Vec::new();
    for list in lists {
        for (name, value) in list.properties()? {
            merged.retain(|(other, _)| canonical_name(other) != canonical_name(&name));
            merged.push((name, value));
        }
    }
    Ok(merged)
}

/// Escapes a value for a list of properties.
#[must_use]
pub fn escape(value: &str) -> String {
    value.replace(';', "\\;")
}

/// Properties of one flag or environment variable, `key=value`, separated by semicolons. `\;` is a
/// semicolon within a value, and a value can have several lines, such as a certificate.
///
/// A value may be a secret: neither errors nor `Debug` show one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PropertyList(Vec<Result<(String, String), String>>);

impl PropertyList {
    /// Parses a list. Errors are reported by [`PropertyList::properties`], since clap would print the
    /// whole text with the error.
    #[must_use = "clap takes a parser's result"]
    pub fn parse(text: &str) -> Result<Self, Infallible> {
        let parts = split(text);
        let parts = parts.iter().enumerate().filter(|(_, part)| !part.trim().is_empty());
        Ok(Self(parts.map(|(index, part)| property(index + 1, part)).collect()))
    }

    /// Returns the properties in order; fails if one is invalid.
    pub fn properties(&self) -> Result<Vec<(String, String)>, String> {
        self.0.iter().cloned().collect()
    }
}

impl fmt::Debug for PropertyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|property| property.as_ref().map(|(name, _)| name));
        f.debug_list().entries(names).finish()
    }
}

fn property(number: usize, part: &str) -> Result<(String, String), String> {
    let property = part.split_once('=').map(|(name, value)| (name.trim(), value));
    match property {
        Some((name, value)) if is_name(name) => {
            Ok((name.to_owned(), value.trim_end_matches(['\r', '\n']).to_owned()))
        }
        // The text itself is not shown: it may be the rest of a secret.
        _ => Err(format!(
            "expected key=value; write \\; for a semicolon that belongs to a value: part=`{number}`"
        )),
    }
}

/// Returns true if a text looks like a property's name.
fn is_name(text: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().all(is_legal) && (text.contains('.') || NAMES_WITHOUT_DOT.contains(&text))
}

/// Splits at semicolons, and replaces `\;`.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = parts.last_mut().expect("there is a part from the beginning on");
        match c {
            '\\' if chars.next_if_eq(&';').is_some() => last.push(';'),
            ';' => parts.push(String::new()),
            c => last.push(c),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(text: &str) -> Result<Vec<(String, String)>, String> {
        PropertyList::parse(text).unwrap().properties()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn properties_are_separated_by_semicolons() {
        assert_eq!(properties("a.b=1;debug=2").unwrap(), [pair("a.b", "1"), pair("debug", "2")]);
        assert_eq!(
            properties("a.b=1;\n acks =x=y\n").unwrap(),
            [pair("a.b", "1"), pair("acks", "x=y")]
        );
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB+a/9==\n-----END CERTIFICATE-----";
        assert_eq!(
            properties(&format!("ssl.ca.pem={pem}\n;client.id=a")).unwrap(),
            [pair("ssl.ca.pem", pem), pair("client.id", "a")]
        );
        assert_eq!(properties("").unwrap(), []);
        assert_eq!(properties(" ; ").unwrap(), []);
    }

    #[test]
    fn a_semicolon_of_a_value_is_escaped_and_other_backslashes_are_kept() {
        let found = properties(r"sasl.password=a\;b=c;ssl.key.password=x\y").unwrap();

        assert_eq!(escape("a;b=c"), r"a\;b=c");
        assert_eq!(found, [pair("sasl.password", "a;b=c"), pair("ssl.key.password", r"x\y")]);
    }

    #[test]
    fn neither_an_error_nor_debug_shows_a_value() {
        for secret in ["pri;vate", "pri;vate=", "pri;vate!=x", "pri;=vate"] {
            let list = PropertyList::parse(&format!("sasl.password={secret}")).unwrap();

            let error = list.properties().unwrap_err();
            assert!(error.contains(r"\;") && error.contains("part=`2`"), "{error}");
            assert!(!error.contains("vate"), "{error}");
            let debug = format!("{list:?}");
            assert!(!debug.contains("pri") && !debug.contains("`vate"), "{debug}");
        }
    }

    #[test]
    fn the_last_of_several_spellings_of_a_property_counts() {
        let list = |text| PropertyList::parse(text).unwrap();

        let merged = merge(&[list("sasl.mechanism=PLAIN;x.y=1"), list("sasl.mechanisms=GSSAPI")]);

        assert_eq!(merged.unwrap(), [pair("x.y", "1"), pair("sasl.mechanisms", "GSSAPI")]);
    }

    #[test]
    fn a_name_is_the_same_with_the_topic_prefix_and_as_an_alias() {
        for (given, canonical) in [
            ("auto.offset.reset", "auto.offset.reset"),
            ("topic.auto.offset.reset", "auto.offset.reset"),
            ("metadata.broker.list", "bootstrap.servers"),
            ("topic.auto.commit.enable", "enable.auto.commit"),
            ("topic.request.required.acks", "acks"),
            ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
        ] {
            assert_eq!(canonical_name(given), canonical);
        }
    }
}
