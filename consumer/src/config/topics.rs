//! Topics of a worker and the table that each of them fills. Pure.

use ducktide_protocol::table::{InvalidTableName, TableName};
use regex::Regex;

use crate::config::ConfigError;

/// Placeholder for the topic's name in `--table`.
const PLACEHOLDER: &str = "{topic}";

/// Prefix of Kafka's internal topics.
const INTERNAL_PREFIX: &str = "__";

/// Values of `--topics` and `--table`.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    given: Vec<String>,
    names: Vec<String>,
    patterns: Vec<Regex>,
    table: String,
}

impl Topics {
    pub(crate) fn new(given: &[String], table: Option<&str>) -> Result<Self, ConfigError> {
        let (patterns, names): (Vec<_>, Vec<_>) =
            given.iter().cloned().partition(|topic| topic.starts_with('^'));
        let compile = |pattern: &String| {
            // The whole name must match, as on brokers.
            Regex::new(&format!("^(?:{})$", &pattern[1..])).map_err(|error| {
                ConfigError::TopicPattern { pattern: pattern.clone(), error: Box::new(error) }
            })
        };
        let patterns = patterns.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        let table = table.unwrap_or(PLACEHOLDER).to_owned();
        let topics = Self { given: given.to_vec(), names, patterns, table };
        let mut tables: Vec<(&String, TableName)> = Vec::new();
        for topic in &topics.names {
            if !is_topic_name(topic) {
                return Err(ConfigError::TopicName(topic.clone()));
            }
            let table = topics.table(topic)?;
            if let Some((other, same)) =
                tables.iter().find(|(_, known)| differ_in_case(known, &table))
            {
                return Err(ConfigError::TablesDifferInCase {
                    topics: [(*other).clone(), topic.clone()],
                    tables: [same.to_string(), table.to_string()],
                });
            }
            tables.push((topic, table));
        }
        if topics.has_patterns() {
            topics.table("any")?;
        }
        Ok(topics)
    }

    /// Returns names and patterns as they were given, for a subscription.
    pub(crate) fn given(&self) -> &[String] {
        &self.given
    }

    /// Returns the topics that are named in full.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Returns those of the cluster's topics that match a pattern and are not named in full.
    pub(crate) fn matching(&self, existing: Vec<String>) -> Vec<String> {
        let is_matched = |topic: &String| {
            !topic.starts_with(INTERNAL_PREFIX)
                && !self.names.contains(topic)
                && self.patterns.iter().any(|pattern| pattern.is_match(topic))
        };
        existing.into_iter().filter(is_matched).collect()
    }

    /// Returns whether the topic is named in full or matches a pattern.
    pub(crate) fn includes(&self, topic: &str) -> bool {
        self.names.iter().any(|name| name == topic)
            || !self.matching(vec![topic.to_owned()]).is_empty()
    }

    /// Returns the table that a topic fills.
    pub(crate) fn table(&self, topic: &str) -> Result<TableName, InvalidTableName> {
        table_of(Some(&self.table), topic)
    }

    /// Returns the table, if all topics fill the same one.
    pub(crate) fn only_table(&self) -> Option<TableName> {
        let topic = match self.names.as_slice() {
            [topic] if !self.has_patterns() => topic,
            _ if self.table.contains(PLACEHOLDER) => return None,
            _ => "",
        };
        self.table(topic).ok()
    }
}

/// Returns whether two different names are the same to DuckDB, which ignores case.
fn differ_in_case(one: &TableName, other: &TableName) -> bool {
    one != other && one.to_string().eq_ignore_ascii_case(&other.to_string())
}

/// Returns whether Kafka allows the name. Other topics never exist, and a worker would wait forever.
fn is_topic_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&name.len()) && name.bytes().all(is_legal) && !matches!(name, "." | "..")
}

/// Returns the table that a topic fills, from the template of `--table`. The first dot separates the
/// schema, other dots become `_`.
pub(crate) fn table_of(template: Option<&str>, topic: &str) -> Result<TableName, InvalidTableName> {
    let name = template.unwrap_or(PLACEHOLDER).replace(PLACEHOLDER, topic);
    let name: TableName = match name.split_once('.') {
        Some((schema, table)) => format!("{schema}.{}", table.replace('.', "_")).parse()?,
        None => name.parse()?,
    };
    name.fit_directory()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(given: &[&str], table: Option<&str>) -> Result<Topics, ConfigError> {
        Topics::new(&given.iter().map(|&topic| topic.to_owned()).collect::<Vec<_>>(), table)
    }

    fn table(table: Option<&str>, topic: &str) -> String {
        topics(&["^.*"], table).unwrap().table(topic).unwrap().to_string()
    }

    #[test]
    fn each_topic_has_a_table_of_its_own_unless_they_share_one() {
        assert_eq!(table(None, "events"), "main.events");
        assert_eq!(table(None, "shop.orders"), "shop.orders");
        assert_eq!(table(None, "shop.eu.orders"), "shop.eu_orders");
        assert_eq!(table(Some("raw.{topic}"), "shop.orders"), "raw.shop_orders");
        assert_eq!(table(Some("raw_{topic}_v2"), "events"), "main.raw_events_v2");
        assert_eq!(table(Some("all"), "events"), "main.all");
    }

    #[test]
    fn a_pattern_matches_whole_names_of_topics_that_are_not_internal() {
        let topics = topics(&["^events-.*|audit", "events-1"], None).unwrap();
        let existing = ["events-1", "events-2", "my-events-3", "audit", "audits", "__events-4"];

        let found = topics.matching(existing.map(str::to_owned).to_vec());

        assert_eq!(found, ["events-2", "audit"]);
        assert_eq!(topics.names(), ["events-1"]);
    }

    #[test]
    fn invalid_patterns_and_tables_are_refused() {
        assert!(topics(&["^events-("], None).unwrap_err().to_string().contains("^events-("));
        assert!(topics(&["events"], Some("a b")).is_err());
        assert!(topics(&["^events"], Some("../{topic}")).is_err());
    }

    #[test]
    fn tables_that_differ_only_in_case_are_refused() {
        let error = topics(&["Orders", "orders"], None).unwrap_err().to_string();
        assert!(error.contains("tables=`main.Orders` `main.orders`"), "{error}");
        assert!(topics(&["Orders", "orders"], Some("all")).is_ok());
    }

    #[test]
    fn a_name_that_no_directory_can_have_is_refused() {
        assert!(topics(&[&"t".repeat(249)], None).is_ok());
        assert!(topics(&[&"t".repeat(249)], Some("raw_{topic}_v2")).is_err());
    }

    #[test]
    fn a_shared_table_is_known_beforehand() {
        let only = |given: &[&str], table| topics(given, table).unwrap().only_table();

        assert_eq!(only(&["events"], None).unwrap().table, "events");
        assert_eq!(only(&["^a", "b"], Some("all")).unwrap().table, "all");
        assert!(only(&["a", "b"], None).is_none());
        assert!(only(&["^a"], None).is_none());
    }
}
