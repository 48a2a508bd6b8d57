//! Queries to the cluster that run concurrently with the worker. Most are retried until they
//! succeed.

use std::sync::Arc;
use std::time::Duration;

use ducktide_protocol::position::Partition;
use ducktide_service::telemetry::LogOnChange;
use tokio::task::spawn_blocking;

use crate::event::{Event, Events};
use crate::source::inspect::{ClusterResult, ClusterView};
use crate::source::{ClusterAnswer, TopicPartition};
use crate::worker::ClusterQuery;

/// Time between two attempts.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Timeout of the description of a group.
const GROUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends queries to the cluster and their answers to the worker.
#[derive(Clone)]
pub(crate) struct ClusterQueries {
    cluster: Arc<ClusterView>,
    group_id: String,
    events: Events,
}

impl ClusterQueries {
    pub(crate) const fn new(cluster: Arc<ClusterView>, group_id: String, events: Events) -> Self {
        Self { cluster, group_id, events }
    }

    /// Sends a query.
    pub(crate) fn send(&self, query: ClusterQuery) {
        match query {
            ClusterQuery::Identity { topic, question } => self.identify(topic, question),
            ClusterQuery::Beginnings { topic, partitions } => {
                self.find_beginnings(topic, partitions);
            }
            ClusterQuery::Range(partition) => self.find_range(partition),
            ClusterQuery::Ends(partitions) => self.find_ends(partitions),
            ClusterQuery::PartitionCounts(topics) => self.count_partitions(topics),
            ClusterQuery::Readers(partitions) => self.find_readers(partitions),
            ClusterQuery::Unowned { partitions, question } => {
                self.find_unowned(partitions, question);
            }
        }
    }

    fn identify(&self, topic: Arc<str>, question: u64) {
        self.ask(move |cluster| {
            let identity = cluster.identity(&topic)?;
            Ok(ClusterAnswer::Identity { topic: Arc::clone(&topic), identity, question })
        });
    }

    fn find_beginnings(&self, topic: Arc<str>, partitions: Vec<Partition>) {
        self.ask(move |cluster| {
            let starts = cluster.beginnings(&topic, &partitions)?;
            Ok(ClusterAnswer::Beginnings { topic: Arc::clone(&topic), starts })
        });
    }

    fn find_range(&self, partition: TopicPartition) {
        self.ask(move |cluster| {
            let watermarks = cluster.watermarks(&partition.topic, partition.partition)?;
            Ok(ClusterAnswer::Range { partition: partition.clone(), watermarks })
        });
    }

    /// Reads the current ends of partitions. Not retried, because the worker polls them; a failure
    /// informs a worker without commits that Kafka is unavailable.
    fn find_ends(&self, partitions: Vec<TopicPartition>) {
        let Self { cluster, events, .. } = self.clone();
        tokio::spawn(async move {
            let answer = spawn_blocking(move || cluster.ends_of(&partitions)).await;
            // The runtime shuts down.
            let Ok(answer) = answer else { return };
            events.send(Event::Cluster(match answer {
                Ok(ends) => ClusterAnswer::Ends(ends),
                Err(error) => ClusterAnswer::Unanswered(error),
            }));
        });
    }

    /// Counts the partitions of topics. Those of a topic that is not answered are left out.
    fn count_partitions(&self, topics: Vec<Arc<str>>) {
        let Self { cluster, events, .. } = self.clone();
        tokio::spawn(async move {
            let count = move || {
                let counted = |topic: Arc<str>| {
                    let partitions = cluster.partitions(&topic);
                    let failed =
                        |error| tracing::debug!(%error, topic = &*topic, "partitions not counted");
                    partitions
                        .map_err(failed)
                        .ok()
                        .map(|partitions| (topic.clone(), partitions.len()))
                };
                topics.into_iter().filter_map(counted).collect()
            };
            let Ok(counts) = spawn_blocking(count).await else { return };
            events.send(Event::Cluster(ClusterAnswer::PartitionCounts(counts)));
        });
    }

    /// Describes the group whose members may read these partitions.
    fn find_readers(&self, partitions: Vec<TopicPartition>) {
        let Self { cluster, group_id, events } = self.clone();
        tokio::spawn(async move {
            let answer =
                spawn_blocking(move || cluster.group_members(&group_id, GROUP_TIMEOUT)).await;
            let Ok(answer) = answer else { return };
            let members = answer.inspect_err(|error| {
                tracing::debug!(%error, "group not described");
            });
            events
                .send(Event::Cluster(ClusterAnswer::Readers { partitions, members: members.ok() }));
        });
    }

    /// Finds those of the partitions that exist and that no member of the group owns.
    fn find_unowned(&self, partitions: Vec<TopicPartition>, question: u64) {
        let Self { cluster, group_id, events } = self.clone();
        tokio::spawn(async move {
            let find = move || cluster.unowned_partitions(&group_id, &partitions);
            let Ok(found) = spawn_blocking(find).await else { return };
            let partitions = found.unwrap_or_else(|error| {
                tracing::debug!(%error, "owners of partitions not found");
                None
            });
            events.send(Event::Cluster(ClusterAnswer::Unowned { question, partitions }));
        });
    }

    fn ask(
        &self,
        question: impl Fn(&ClusterView) -> ClusterResult<ClusterAnswer> + Send + Sync + 'static,
    ) {
        let Self { cluster, events, .. } = self.clone();
        let question = Arc::new(question);
        tokio::spawn(async move {
            let mut errors = LogOnChange::default();
            loop {
                let (cluster, question) = (Arc::clone(&cluster), Arc::clone(&question));
                match spawn_blocking(move || question(&cluster)).await {
                    Ok(Ok(answer)) => return events.send(Event::Cluster(answer)),
                    Ok(Err(error)) => {
                        if errors.is_new(&error.to_string()) {
                            tracing::warn!(%error, "Kafka query failed, retrying");
                        }
                        events.send(Event::Cluster(ClusterAnswer::Unanswered(error)));
                    }
                    // The runtime shuts down.
                    Err(_) => return,
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        });
    }
}
