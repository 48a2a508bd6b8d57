//! Choice of the consumer group that a worker joins. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ducktide_protocol::Source;
use ducktide_protocol::position::SourceId;
use ducktide_protocol::table::TableName;
use thiserror::Error;

use crate::config::topics::Topics;

/// A worker's consumer group and client id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: String,
    /// The client id of the lake's workers, unless a property sets another one.
    pub(crate) client_id: String,
}

/// Several groups are recorded for the topics of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the topics were read in different groups, and one worker joins one; choose it with --group-id: \
     groups=`{0}`"
)]
pub(crate) struct SeveralGroups(String);

/// The lake's sources and the groups that are recorded for them.
#[derive(Debug)]
pub(crate) struct KnownGroups<'a> {
    pub(crate) sources: &'a [Source],
    pub(crate) recorded: &'a BTreeMap<SourceId, String>,
    /// The default group of the lake.
    pub(crate) default: &'a str,
}

impl KnownGroups<'_> {
    /// Chooses the group for topics without `--group-id`: the one in which they were last read, or else the
    /// default group of the lake. If the default group reads a topic into another table, the group is named
    /// after the table, because one group would divide the partitions between the tables.
    pub(crate) fn choose(&self, topics: &Topics) -> Result<String, SeveralGroups> {
        let (ours, others): (Vec<_>, Vec<_>) =
            self.sources.iter().partition(|source| is_of(topics, source));
        let recorded = ours.iter().filter_map(|source| self.recorded.get(&source.id));
        let recorded: BTreeSet<&str> = recorded.map(String::as_str).collect();
        if recorded.len() > 1 {
            let groups: Vec<_> = recorded.into_iter().collect();
            return Err(SeveralGroups(groups.join("` `")));
        }
        if let Some(&group) = recorded.first() {
            return Ok(group.to_owned());
        }
        // A source without a record was created by an earlier version, which used the default.
        let has_default = |source: &&Source| {
            self.recorded.get(&source.id).is_none_or(|group| group == self.default)
        };
        let other_table = |source: &&Source| {
            topics.includes(&source.spec.topic).then(|| topics.table(&source.spec.topic).ok())?
        };
        let table: Option<TableName> =
            others.into_iter().filter(has_default).find_map(|source| other_table(&source));
        Ok(match table {
            Some(table) if ours.is_empty() => table_group(self.default, &table),
            _ => self.default.to_owned(),
        })
    }
}

/// Returns the group that fills a second table of a topic.
#[must_use]
pub fn table_group(default: &str, table: &TableName) -> String {
    format!("{default}-{table}")
}

fn is_of(topics: &Topics, source: &Source) -> bool {
    let spec = &source.spec;
    topics.includes(&spec.topic) && topics.table(&spec.topic).is_ok_and(|table| table == spec.table)
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::SourceSpec;

    use super::*;

    fn source(id: i32, table: &str, topic: &str) -> Source {
        let spec = SourceSpec::without_ids(table.parse().unwrap(), topic, "");
        Source { id: SourceId(id), spec }
    }

    fn choose(
        sources: &[Source],
        recorded: &[(i32, &str)],
        topics: &[&str],
        table: Option<&str>,
    ) -> Result<String, SeveralGroups> {
        let recorded = recorded.iter().map(|(id, group)| (SourceId(*id), (*group).to_owned()));
        let recorded = recorded.collect();
        let known = KnownGroups { sources, recorded: &recorded, default: "ducktide-1" };
        let topics: Vec<_> = topics.iter().map(|&topic| topic.to_owned()).collect();
        known.choose(&Topics::new(&topics, table).unwrap())
    }

    #[test]
    fn the_default_group_is_chosen_first() {
        assert_eq!(choose(&[], &[], &["events"], None).unwrap(), "ducktide-1");
        // A lake of an earlier version has no records.
        let known = [source(1, "events", "events"), source(2, "shadow", "events")];
        assert_eq!(choose(&known, &[], &["events"], None).unwrap(), "ducktide-1");
    }

    #[test]
    fn the_group_of_the_last_worker_is_kept() {
        let known = [source(1, "events", "events"), source(2, "other", "other")];

        assert_eq!(choose(&known, &[(1, "mine")], &["events"], None).unwrap(), "mine");
        assert_eq!(choose(&known, &[(1, "mine")], &["^eve.*", "new"], None).unwrap(), "mine");
        assert_eq!(choose(&known, &[(1, "mine")], &["other"], None).unwrap(), "ducktide-1");
    }

    #[test]
    fn several_groups_leave_the_choice_to_the_operator() {
        let known = [source(1, "a", "a"), source(2, "b", "b")];
        let refused = choose(&known, &[(1, "one"), (2, "two")], &["a", "b"], None).unwrap_err();

        let text = refused.to_string();
        assert!(text.contains("groups=`one` `two`") && text.contains("--group-id"), "{text}");
    }

    #[test]
    fn a_second_table_of_a_topic_gets_a_group_of_its_own() {
        let known = [source(1, "events", "events")];
        let shadow = |recorded: &[(i32, &str)]| {
            choose(&known, recorded, &["events"], Some("shadow")).unwrap()
        };

        assert_eq!(shadow(&[(1, "ducktide-1")]), "ducktide-1-main.shadow");
        assert_eq!(shadow(&[]), "ducktide-1-main.shadow");
        assert_eq!(shadow(&[(1, "mine")]), "ducktide-1");
        assert_eq!(choose(&known, &[(1, "ducktide-1")], &["b"], None).unwrap(), "ducktide-1");
    }
}
