//! Sources: topics that fill a table.

use crate::error::{LakeError, Result};
use crate::position::SourceId;
use crate::table::TableName;

/// Specification of a source: a topic that fills a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// Table.
    pub table: TableName,
    /// Kafka topic.
    pub topic: String,
    /// Label for operators.
    pub pipeline: String,
    /// Id of the Kafka cluster, if the broker reports one.
    pub cluster_id: Option<String>,
    /// Id of the topic: a topic that was deleted and recreated has another.
    pub topic_id: Option<String>,
}

impl SourceSpec {
    /// Returns the specification of a source before the ids of its cluster and topic are known.
    #[must_use]
    pub fn without_ids(table: TableName, topic: &str, pipeline: &str) -> Self {
        let (topic, pipeline) = (topic.to_owned(), pipeline.to_owned());
        Self { table, topic, pipeline, cluster_id: None, topic_id: None }
    }
}

/// Registered source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Number of the source in the catalog.
    pub id: SourceId,
    /// Specification of the first registration.
    pub spec: SourceSpec,
}

impl Source {
    /// Rejects a topic other than the registered one: offsets of another cluster or of a recreated topic
    /// are those of other records.
    pub fn check_identity(&self, seen: &SourceSpec) -> Result<()> {
        let differs = |was: &Option<String>, is: &Option<String>| matches!((was, is), (Some(was), Some(is)) if was != is);
        let (what, was, is) = if differs(&self.spec.topic_id, &seen.topic_id) {
            ("the topic was deleted and recreated", &self.spec.topic_id, &seen.topic_id)
        } else if differs(&self.spec.cluster_id, &seen.cluster_id) {
            (
                "the bootstrap servers lead to another Kafka cluster",
                &self.spec.cluster_id,
                &seen.cluster_id,
            )
        } else {
            return Ok(());
        };
        Err(LakeError::invalid(format!(
            "{what}, so its offsets are not those that the lake knows; \
             load it into a table of its own with --table: topic=`{}` registered=`{}` seen=`{}`",
            self.spec.topic,
            was.as_deref().unwrap_or_default(),
            is.as_deref().unwrap_or_default()
        )))
    }
}
