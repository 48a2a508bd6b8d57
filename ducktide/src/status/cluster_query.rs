//! Reads the offset bounds of topics and the members of consumer groups from Kafka, with a timeout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ducktide_consumer::{ClusterView, GroupMember, Identity, Watermarks, client_config};
use ducktide_kafka::KafkaArgs;
use ducktide_protocol::position::{Offset, Partition};
use jiff::Timestamp;

/// Age from which a record is a stall if its partition had no commit in that time. A flush takes a
/// second, and the partitions of a crashed worker are reassigned after Kafka's session timeout of
/// 45 s.
pub(super) const STALLED_AFTER: Duration = Duration::from_mins(1);

/// Time limit for the descriptions of all groups. It is short: they only explain a stall.
const GROUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Topics and consumer groups as Kafka describes them.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) topics: BTreeMap<String, Topic>,
    /// Members by group, for the groups that the brokers describe.
    pub(super) groups: BTreeMap<String, Vec<GroupMember>>,
}

/// One topic.
#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    /// Empty when there is no such topic.
    pub(super) partitions: BTreeMap<Partition, OffsetBounds>,
    pub(super) identity: Identity,
}

/// First and last offsets of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct OffsetBounds {
    /// First offset that Kafka has.
    pub(super) low: Offset,
    /// Offset of the next record that is produced.
    pub(super) high: Offset,
    /// Records below this offset are older than [`STALLED_AFTER`].
    pub(super) waited: Offset,
}

/// Error of a query that Kafka did not answer.
#[derive(Clone, Debug)]
pub(super) struct KafkaUnavailable(pub(super) String);

impl<E: std::error::Error> From<E> for KafkaUnavailable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Query that runs on another thread.
pub(super) struct ClusterQuery {
    result: mpsc::Receiver<Result<Cluster, KafkaUnavailable>>,
    view: Arc<ClusterView>,
    servers: String,
    timeout: Duration,
    deadline: Instant,
}

impl ClusterQuery {
    /// Starts the query; None without topics. The thread is not stopped at the timeout: the calls of
    /// the client library have longer time limits of their own.
    pub(super) fn start(
        kafka: &KafkaArgs,
        topics: BTreeSet<String>,
        groups: BTreeSet<String>,
        timeout: Duration,
    ) -> Result<Option<Self>, KafkaUnavailable> {
        if topics.is_empty() {
            return Ok(None);
        }
        let (sender, result) = mpsc::channel();
        let view = Arc::new(ClusterView::new(&client_config(kafka)?)?);
        let thread_view = Arc::clone(&view);
        thread::spawn(move || {
            // The receiver is gone after the timeout.
            let _ = sender.send(describe(&thread_view, topics, groups));
        });
        let (servers, deadline) = (kafka.bootstrap_servers.clone(), Instant::now() + timeout);
        Ok(Some(Self { result, view, servers, timeout, deadline }))
    }

    /// Returns the result, or an error at the timeout.
    pub(super) fn wait(self) -> Result<Cluster, KafkaUnavailable> {
        let rest = self.deadline.saturating_duration_since(Instant::now());
        self.result.recv_timeout(rest).map_err(|_| {
            KafkaUnavailable(self.view.connection_failure().unwrap_or_else(|| {
                let timeout = ducktide_service::units::duration(self.timeout);
                format!("no answer within {timeout}: bootstrap_servers=`{}`", self.servers)
            }))
        })?
    }
}

fn describe(
    view: &ClusterView,
    topics: BTreeSet<String>,
    groups: BTreeSet<String>,
) -> Result<Cluster, KafkaUnavailable> {
    let topics = topics.into_iter().map(|name| Ok((name.clone(), topic(view, &name)?)));
    let topics = topics.collect::<Result<_, KafkaUnavailable>>()?;
    let deadline = Instant::now() + GROUP_TIMEOUT;
    // Describing a group needs a separate permission.
    let members = |group: String| {
        let rest = deadline.saturating_duration_since(Instant::now());
        Some((view.group_members(&group, rest).ok()?, group))
    };
    let groups = groups.into_iter().filter_map(members);
    Ok(Cluster { topics, groups: groups.map(|(members, group)| (group, members)).collect() })
}

fn topic(view: &ClusterView, name: &str) -> Result<Topic, KafkaUnavailable> {
    let partitions = view.partitions(name)?;
    if partitions.is_empty() {
        return Ok(Topic::default());
    }
    let since = Timestamp::now() - STALLED_AFTER;
    let waited: BTreeMap<_, _> =
        view.offsets_at(name, &partitions, since.as_millisecond())?.into_iter().collect();
    let bounds = |(partition, Watermarks { low, high })| {
        let waited = waited.get(&partition).copied().unwrap_or(low);
        (partition, OffsetBounds { low, high, waited })
    };
    let watermarks = view.all_watermarks(name, &partitions)?;
    Ok(Topic {
        partitions: watermarks.into_iter().map(bounds).collect(),
        identity: view.identity(name)?,
    })
}
