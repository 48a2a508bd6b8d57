//! Asks Kafka where its topics begin and end, for as long as a person likes to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ducktide_consumer::{ClusterView, GroupMember, Identity, KafkaArgs, Watermarks};
use jiff::Timestamp;

/// A record that has waited for as long as this, while its partition saw no commit, waits for
/// somebody: a flush takes a second, and a crashed worker's partitions are another's after
/// Kafka's session timeout of 45 s.
pub(super) const STALLED_AFTER: Duration = Duration::from_mins(1);

/// How long a group's description may take, in all: it only explains.
const GROUP_TIMEOUT: Duration = Duration::from_secs(1);

/// What Kafka says of topics and consumer groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) topics: BTreeMap<String, Topic>,
    /// The members of groups that the brokers describe.
    pub(super) groups: BTreeMap<String, Vec<GroupMember>>,
}

/// One topic.
#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    /// Empty when there is no such topic.
    pub(super) partitions: BTreeMap<i32, Ends>,
    pub(super) identity: Identity,
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The first offset that Kafka has.
    pub(super) low: i64,
    /// The offset of the next record that is produced.
    pub(super) high: i64,
    /// Records below this offset have waited for [`STALLED_AFTER`].
    pub(super) waited: i64,
}

/// Why Kafka's part is not known.
#[derive(Clone, Debug)]
pub(super) struct Unreachable(pub(super) String);

impl<E: std::error::Error> From<E> for Unreachable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A question to Kafka that another thread asks.
pub(super) struct Question {
    answered: mpsc::Receiver<Result<Cluster, Unreachable>>,
    view: Arc<ClusterView>,
    servers: String,
    timeout: Duration,
    deadline: Instant,
}

impl Question {
    /// Starts to ask; None without topics. The thread is left alone when the time is over: the client's own
    /// calls wait for longer than a person does, and end by themselves.
    pub(super) fn ask(
        kafka: &KafkaArgs,
        topics: BTreeSet<String>,
        groups: BTreeSet<String>,
        timeout: Duration,
    ) -> Result<Option<Self>, Unreachable> {
        if topics.is_empty() {
            return Ok(None);
        }
        let (answer, answered) = mpsc::channel();
        let view = Arc::new(ClusterView::new(&kafka.client_config()?)?);
        let asked = Arc::clone(&view);
        thread::spawn(move || {
            // The receiver is gone when the answer came too late.
            let _ = answer.send(describe(&asked, topics, groups));
        });
        let (servers, deadline) = (kafka.bootstrap_servers.clone(), Instant::now() + timeout);
        Ok(Some(Self { answered, view, servers, timeout, deadline }))
    }

    /// Waits for the answer until the timeout.
    pub(super) fn answer(self) -> Result<Cluster, Unreachable> {
        let rest = self.deadline.saturating_duration_since(Instant::now());
        self.answered.recv_timeout(rest).map_err(|_| {
            Unreachable(self.view.connection_failure().unwrap_or_else(|| {
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
) -> Result<Cluster, Unreachable> {
    let topics = topics.into_iter().map(|name| Ok((name.clone(), topic(view, &name)?)));
    let topics = topics.collect::<Result<_, Unreachable>>()?;
    let deadline = Instant::now() + GROUP_TIMEOUT;
    // It takes a right of its own to describe a group.
    let members = |group: String| {
        let rest = deadline.saturating_duration_since(Instant::now());
        Some((view.group_members(&group, rest).ok()?, group))
    };
    let groups = groups.into_iter().filter_map(members);
    Ok(Cluster { topics, groups: groups.map(|(members, group)| (group, members)).collect() })
}

fn topic(view: &ClusterView, name: &str) -> Result<Topic, Unreachable> {
    let partitions = view.partitions(name)?;
    if partitions.is_empty() {
        return Ok(Topic::default());
    }
    let since = Timestamp::now() - STALLED_AFTER;
    let waited: BTreeMap<_, _> =
        view.offsets_at(name, &partitions, since.as_millisecond())?.into_iter().collect();
    let ends = |partition| {
        let Watermarks { low, high } = view.watermarks(name, partition)?;
        let waited = waited.get(&partition).copied().unwrap_or(low);
        Ok((partition, Ends { low, high, waited }))
    };
    Ok(Topic {
        partitions: partitions.into_iter().map(ends).collect::<Result<_, Unreachable>>()?,
        identity: view.identity(name)?,
    })
}
