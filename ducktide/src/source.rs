//! Selection of a source by its topic, and by its table if the topic fills several. Pure.

use ducktide_protocol::Source;
use ducktide_protocol::table::TableName;

use crate::failure::Failure;

/// Returns the source of a topic.
pub(crate) fn select(
    sources: Vec<Source>,
    topic: &str,
    table: Option<&TableName>,
) -> Result<Source, Failure> {
    let matches = |source: &Source| {
        source.spec.topic == topic && table.is_none_or(|table| source.spec.table == *table)
    };
    let mut found: Vec<_> = sources.into_iter().filter(matches).collect();
    match (found.pop(), found.is_empty()) {
        (Some(source), true) => Ok(source),
        (Some(last), false) => {
            let tables = found.iter().chain([&last]).map(|source| source.spec.table.to_string());
            let tables = tables.collect::<Vec<_>>().join(" ");
            Err(Failure::Refused(format!(
                "the topic fills several tables; select one with --table: topic=`{topic}` tables=`{tables}`"
            )))
        }
        (None, _) => Err(Failure::Refused(format!(
            "the topic fills no table of the lake; `ducktide status` lists the topics: topic=`{topic}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::SourceSpec;
    use ducktide_protocol::position::SourceId;

    use super::*;

    fn source(id: i32, table: &str, topic: &str) -> Source {
        let spec = SourceSpec::without_ids(table.parse().unwrap(), topic, "");
        Source { id: SourceId(id), spec }
    }

    #[test]
    fn a_topic_that_fills_one_table_needs_no_table() {
        let sources = vec![source(1, "events", "events"), source(2, "other", "other")];

        assert_eq!(select(sources, "events", None).unwrap().id, SourceId(1));
    }

    #[test]
    fn a_topic_that_fills_several_tables_needs_a_table() {
        let sources = || vec![source(1, "events", "events"), source(2, "shadow", "events")];

        let refused = select(sources(), "events", None).unwrap_err().to_string();
        assert!(refused.contains("main.events main.shadow"), "{refused}");
        let shadow = "shadow".parse().unwrap();
        assert_eq!(select(sources(), "events", Some(&shadow)).unwrap().id, SourceId(2));
        assert!(select(sources(), "nothing", None).is_err());
    }
}
