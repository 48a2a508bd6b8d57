//! JSON text of an Avro schema, reduced to the keys that affect reading.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Keys that affect the reading of values and the names of columns. All others (`doc`, `default`,
/// `order`, properties of other tools) are skipped unparsed, so that their content cannot make a schema
/// unusable.
const KEYS: [&str; 12] = [
    "type",
    "name",
    "namespace",
    "aliases",
    "fields",
    "symbols",
    "items",
    "values",
    "size",
    "logicalType",
    "precision",
    "scale",
];

/// JSON value of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    Text(String),
    /// Integer that is not negative.
    Number(u64),
    List(Vec<Json>),
    /// Object, reduced to the [`KEYS`].
    Object(BTreeMap<String, Json>),
    /// Null, boolean or another number.
    Other,
}

impl Json {
    /// Parses a schema's text. Comments are skipped, as in Java's parser.
    pub(super) fn read(text: &str) -> serde_json::Result<Self> {
        let text = text.trim_start_matches('\u{feff}');
        serde_json::from_str(&without_comments(text))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<usize> {
        match self {
            Self::Number(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(u64::try_from(number).map_or(Json::Other, Json::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if KEYS.contains(&key.as_str()) {
                object.insert(key, entries.next_value()?);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Json::Object(object))
    }
}

/// Replaces each comment (`// …` and `/* … */`) outside of strings by white space.
fn without_comments(text: &str) -> Cow<'_, str> {
    if !text.contains("//") && !text.contains("/*") {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => {
                kept.push(c);
                kept.extend(chars.next());
            }
            '"' => {
                in_string = !in_string;
                kept.push(c);
            }
            '/' if !in_string && chars.next_if_eq(&'/').is_some() => {
                kept.push('\n');
                while chars.next_if(|c| *c != '\n').is_some() {}
            }
            '/' if !in_string && chars.next_if_eq(&'*').is_some() => {
                kept.push(' ');
                let mut previous = ' ';
                for c in chars.by_ref() {
                    if previous == '*' && c == '/' {
                        break;
                    }
                    previous = c;
                }
            }
            _ => kept.push(c),
        }
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_skipped_outside_of_strings_only() {
        let text = "/* a \" */ {\"name\": \"http://a/*b*/\\\"//\", // c\n \"size\": 3}";

        let Json::Object(object) = Json::read(text).unwrap() else { panic!("it is an object") };

        assert_eq!(object["name"].text(), Some("http://a/*b*/\"//"));
        assert_eq!(object["size"].number(), Some(3));
    }

    #[test]
    fn keys_that_do_not_affect_reading_are_skipped() {
        let text = r#"{"type": "double", "default": 1e999, "doc": "\ud800", "order": {"a": [1]}}"#;

        let Json::Object(object) = Json::read(text).unwrap() else { panic!("it is an object") };

        assert_eq!(object.keys().collect::<Vec<_>>(), ["type"]);
    }
}
