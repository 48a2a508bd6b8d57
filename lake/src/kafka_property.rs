//! librdkafka properties as users give them: names resolved as librdkafka resolves them, values kept
//! out of messages.

use std::ffi::OsStr;
use std::fmt;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, Command, Error};

/// Other names of properties (librdkafka 2.12), and the name that is used here for both.
pub const ALIASES: [(&str, &str); 12] = [
    ("metadata.broker.list", "bootstrap.servers"),
    // Two properties in librdkafka, of a client and of a topic, with one meaning.
    ("auto.commit.enable", "enable.auto.commit"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("retries", "message.send.max.retries"),
    ("compression.type", "compression.codec"),
    ("acks", "request.required.acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
];

/// Properties whose names have neither a dot nor an alias with one.
const NAMES_WITHOUT_DOT: [&str; 4] = ["acks", "debug", "partitioner", "retries"];

/// Returns the name that all spellings of a property share: librdkafka takes the properties of a
/// topic with and without the prefix `topic.`, and knows some under two names.
#[must_use]
pub fn resolved_name(name: &str) -> &str {
    let is_of_client = name.starts_with("topic.metadata.") || name == "topic.blacklist";
    let name = if is_of_client { name } else { name.strip_prefix("topic.").unwrap_or(name) };
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, resolved)| resolved)
}

/// A property and its value, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaProperty {
    /// Name as the user wrote it.
    pub name: String,
    /// Value as librdkafka gets it.
    pub value: String,
}

impl KafkaProperty {
    /// Parses `name=value`. An error does not repeat the text.
    fn parse(text: &str) -> Result<Self, String> {
        let no_name = || "expected NAME=VALUE (the value is not shown, it may be a secret)";
        let (name, value) = text.split_once('=').ok_or_else(no_name)?;
        let name = name.trim();
        if !is_name(name) {
            return Err(no_name().to_owned());
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }

    /// Returns the name that all spellings of the property share.
    #[must_use]
    pub fn resolved_name(&self) -> &str {
        resolved_name(&self.name)
    }
}

impl fmt::Debug for KafkaProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=***", self.name)
    }
}

/// Properties of one flag, or of the whole environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaProperties(pub Vec<KafkaProperty>);

/// Returns the properties of all flags in their order; the last spelling of a property counts.
#[must_use]
pub fn merge(given: &[KafkaProperties]) -> Vec<KafkaProperty> {
    let mut merged: Vec<KafkaProperty> = Vec::new();
    for property in given.iter().flat_map(|properties| &properties.0) {
        merged.retain(|earlier| earlier.resolved_name() != property.resolved_name());
        merged.push(property.clone());
    }
    merged
}

/// Parses the flag `--kafka-property` and its variable, and has each property checked.
///
/// A flag holds one property, whatever is in its value. The variable holds any number.
#[derive(Clone, Copy, Debug)]
pub struct KafkaPropertyParser(pub fn(&KafkaProperty) -> Result<(), String>);

impl KafkaPropertyParser {
    fn parse_text(self, text: &str, source: ValueSource) -> Result<KafkaProperties, String> {
        let parts = match source {
            ValueSource::EnvVariable => split(text),
            _ => vec![text],
        };
        let mut properties = Vec::new();
        for part in parts {
            let property = KafkaProperty::parse(part)?;
            (self.0)(&property)?;
            properties.push(property);
        }
        Ok(KafkaProperties(properties))
    }
}

impl TypedValueParser for KafkaPropertyParser {
    type Value = KafkaProperties;

    fn parse_ref(
        &self,
        cmd: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, Error> {
        self.parse_ref_(cmd, arg, value, ValueSource::CommandLine)
    }

    fn parse_ref_(
        &self,
        cmd: &Command,
        _: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<Self::Value, Error> {
        let text =
            value.to_str().ok_or_else(|| Error::new(ErrorKind::InvalidUtf8).with_cmd(cmd))?;
        let setting = match source {
            ValueSource::EnvVariable => "KAFKA_PROPERTIES",
            _ => "--kafka-property",
        };
        let refuse = |reason| {
            let text = format!("{setting}: {reason}");
            cmd.clone().error(ErrorKind::ValueValidation, text)
        };
        self.parse_text(text, source).map_err(refuse)
    }
}

/// Splits the variable's text at each `;` or line break that `name=` follows, so that values may
/// contain both. Separators at the ends are dropped.
fn split(text: &str) -> Vec<&str> {
    let is_separator = |c: char| c == ';' || c == '\n';
    let is_around = |c: char| is_separator(c) || c.is_whitespace();
    let mut parts = Vec::new();
    let mut rest = text.trim_matches(is_around);
    while !rest.is_empty() {
        let begins_property = |at: usize| {
            let behind = rest[at + 1..].trim_start_matches(is_around);
            behind.split_once('=').is_some_and(|(name, _)| is_likely_name(name.trim_end()))
        };
        let end =
            rest.match_indices(is_separator).map(|(at, _)| at).find(|at| begins_property(*at));
        let (part, behind) = end.map_or((rest, ""), |at| (&rest[..at], &rest[at + 1..]));
        parts.push(part);
        rest = behind.trim_start_matches(is_around);
    }
    parts
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.chars().all(is_part)
}

fn is_likely_name(text: &str) -> bool {
    is_name(text) && (text.contains('.') || NAMES_WITHOUT_DOT.contains(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, source: ValueSource) -> Result<Vec<(String, String)>, String> {
        let parser = KafkaPropertyParser(|_| Ok(()));
        let properties = parser.parse_text(text, source)?.0;
        Ok(properties.into_iter().map(|property| (property.name, property.value)).collect())
    }

    fn of_variable(text: &str) -> Vec<(String, String)> {
        parsed(text, ValueSource::EnvVariable).expect("properties")
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn spellings_of_one_property_resolve_to_one_name() {
        for (name, resolved) in [
            ("topic.auto.offset.reset", "auto.offset.reset"),
            ("topic.auto.commit.enable", "enable.auto.commit"),
            ("metadata.broker.list", "bootstrap.servers"),
            ("topic.request.required.acks", "request.required.acks"),
            ("topic.acks", "request.required.acks"),
            ("topic.metadata.refresh.interval.ms", "topic.metadata.refresh.interval.ms"),
            ("sasl.password", "sasl.password"),
        ] {
            assert_eq!(resolved_name(name), resolved, "{name}");
        }
    }

    #[test]
    fn a_flag_is_one_property_whatever_its_value() {
        let value = "sasl.password=p;w=d;security.protocol=x";

        let found = parsed(value, ValueSource::CommandLine).expect("a property");

        assert_eq!(found, [pair("sasl.password", "p;w=d;security.protocol=x")]);
    }

    #[test]
    fn the_variable_separates_only_where_a_property_follows() {
        assert_eq!(of_variable(""), []);
        assert_eq!(of_variable(" ; \n"), []);
        assert_eq!(
            of_variable("sasl.password=p;w=d;;x;security.protocol=sasl_ssl; debug=all;"),
            [
                pair("sasl.password", "p;w=d;;x"),
                pair("security.protocol", "sasl_ssl"),
                pair("debug", "all"),
            ]
        );
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB+a/9==\n-----END CERTIFICATE-----";
        assert_eq!(
            of_variable(&format!("ssl.ca.pem={pem}\nclient.id=a")),
            [pair("ssl.ca.pem", pem), pair("client.id", "a")]
        );
    }

    #[test]
    fn a_refusal_does_not_show_the_value() {
        for wrong in ["secret", "=secret", "sasl password secret=x", ""] {
            let error = parsed(wrong, ValueSource::CommandLine).expect_err("refused");
            assert!(!error.contains("secret="), "{error}");
            assert!(error.starts_with("expected NAME=VALUE"), "{error}");
        }
        let property = KafkaProperty { name: "sasl.password".into(), value: "secret".into() };
        assert_eq!(format!("{property:?}"), "sasl.password=***");
    }

    #[test]
    fn the_last_spelling_of_a_property_counts() {
        let property = |name: &str, value: &str| {
            KafkaProperties(vec![KafkaProperty { name: name.into(), value: value.into() }])
        };

        let merged = merge(&[
            property("fetch.message.max.bytes", "1"),
            property("client.id", "a"),
            property("max.partition.fetch.bytes", "2"),
        ]);

        let names: Vec<_> = merged.iter().map(|property| property.name.as_str()).collect();
        assert_eq!(names, ["client.id", "max.partition.fetch.bytes"]);
    }
}
