//! Brokers of the simulation: contacts of members, answers to fetches and queries.

use std::sync::Arc;
use std::time::Duration;

use ducktide_protocol::position::Offset;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{BROKER_RETRY, Task, World, whole_micros};
use crate::event::Event;
use crate::simulation::client::{FetchFault, FetchRequest};
use crate::simulation::process::{POLL, Process, ProcessId, WORKER};
use crate::source::cluster_error::ClusterError;
use crate::source::inspect::{Identity, Watermarks};
use crate::source::{ClusterAnswer, TopicPartition};
use crate::worker::ClusterQuery;

impl World<'_> {
    pub(super) fn schedule_contact(&mut self, id: ProcessId, at: Duration) {
        let Some(process) = self.process(id) else { return };
        let at = whole_micros(at);
        if process.contact_due.is_none_or(|due| at < due) {
            process.contact_due = Some(at);
            self.push(at, Task::Contact(id));
        }
    }

    /// Lets a member contact the group, as librdkafka's thread does.
    pub(super) fn contact(&mut self, id: ProcessId) {
        let now = self.now;
        let is_down = self.cluster.is_down(now);
        let Some(process) = self.process(id) else { return };
        if process.contact_due.is_none_or(|due| due > now) {
            return;
        }
        process.contact_due = None;
        if is_down || process.disconnected_until > now {
            return self.schedule_contact(id, now + BROKER_RETRY);
        }
        let client = process.client.clone();
        let mut state = client.state();
        self.cluster.advance_group(now);
        let next = state.membership.contact(now, &mut self.cluster.group);
        self.cluster.advance_group(now);
        let has_work = state.has_work();
        drop(state);
        if let Some(at) = next {
            self.schedule_contact(id, at.max(now + Duration::from_millis(1)));
        }
        if has_work {
            self.wake_soon(id, POLL);
        }
    }

    /// Sends the fetches of a client that are due.
    pub(super) fn send_fetches(&mut self, id: ProcessId) {
        let Some(process) = self.process(id) else { return };
        let requests = process.client.state().take_requests();
        for request in requests {
            let latency = self.draw_latency();
            self.push(self.now + latency, Task::Fetch(id, request));
        }
    }

    /// Draws the time that the brokers take for an answer.
    pub(super) fn draw_latency(&mut self) -> Duration {
        let micros = if self.draw.chance(90) {
            self.draw.between(200, 3_000)
        } else {
            self.draw.between(3_000, 200_000)
        };
        Duration::from_micros(micros) + self.cluster.latency(self.now)
    }

    pub(super) fn answer_fetch(&mut self, id: ProcessId, request: FetchRequest) {
        let now = self.now;
        let Some(process) = self.process(id) else { return };
        let (client, is_cut_off) = (process.client.clone(), process.disconnected_until > now);
        if is_cut_off || self.cluster.is_down(now) {
            return self.push(now + BROKER_RETRY, Task::Fetch(id, request));
        }
        let log = self.cluster.log(&request.partition);
        let mut state = client.state();
        if !state.is_answered(&request, log) {
            drop(state);
            return self.waiting_fetches.push((id, request));
        }
        // Real gaps that are confirmed often would also hide records that are lost on the way.
        let loses = now < self.cluster.loses_first_until && log.gaps() < 8;
        let fault = if loses { FetchFault::LosesFirst } else { FetchFault::None };
        let limit = 1 + usize::try_from(self.draw.below(20)).expect("a small number");
        state.answered(&request, log.fetch(request.position, limit), fault);
        drop(state);
        self.send_fetches(id);
        self.wake_soon(id, POLL);
    }

    /// Answers the fetches that waited for a change of a partition.
    pub(super) fn log_changed(&mut self, partition: usize) {
        let partitions = self.cluster.partitions();
        let partition = partitions[partition % partitions.len()].clone();
        self.answer_waiting(|request| request.partition == partition);
    }

    pub(super) fn answer_waiting(&mut self, is_answered: impl Fn(&FetchRequest) -> bool) {
        let waiting = std::mem::take(&mut self.waiting_fetches);
        for (id, request) in waiting {
            if is_answered(&request) {
                let latency = self.draw_latency();
                self.push(self.now + latency, Task::Fetch(id, request));
            } else {
                self.waiting_fetches.push((id, request));
            }
        }
    }

    pub(super) fn answer_query(&mut self, id: ProcessId, query: ClusterQuery) {
        let now = self.now;
        let is_down = self.cluster.is_down(now);
        let Some(process) = self.process(id) else { return };
        if is_down || process.disconnected_until > now {
            let failed = |events: &mut Process| {
                let error = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
                let answer = ClusterAnswer::Unanswered(ClusterError::new(error, None));
                events.inbox.push_back(Event::Cluster(answer));
            };
            match query {
                ClusterQuery::Ends(_) => failed(process),
                ClusterQuery::PartitionCounts(_) => {
                    let answer = ClusterAnswer::PartitionCounts(Vec::new());
                    process.inbox.push_back(Event::Cluster(answer));
                }
                ClusterQuery::Readers(partitions) => {
                    let answer = ClusterAnswer::Readers { partitions, members: None };
                    process.inbox.push_back(Event::Cluster(answer));
                }
                ClusterQuery::Unowned { question, .. } => {
                    let answer = ClusterAnswer::Unowned { question, partitions: None };
                    process.inbox.push_back(Event::Cluster(answer));
                }
                query => {
                    failed(process);
                    self.push(now + Duration::from_secs(1), Task::Query(id, query));
                }
            }
            return self.wake_soon(id, WORKER);
        }
        let answer = self.answer(query);
        let process = self.process(id).expect("found above");
        process.inbox.push_back(Event::Cluster(answer));
        self.wake_soon(id, WORKER);
    }

    pub(super) fn answer(&mut self, query: ClusterQuery) -> ClusterAnswer {
        match query {
            ClusterQuery::Identity { topic, question } => {
                let topic_id = Some(self.cluster.topic(&topic).id.clone());
                let identity = Identity { cluster_id: None, topic_id };
                ClusterAnswer::Identity { topic, identity, question }
            }
            ClusterQuery::Beginnings { topic, partitions } => {
                let start = |partition| {
                    let at = TopicPartition { topic: Arc::clone(&topic), partition };
                    (partition, Offset(self.cluster.log(&at).start()))
                };
                let starts = partitions.into_iter().map(start).collect();
                ClusterAnswer::Beginnings { topic, starts }
            }
            ClusterQuery::Range(partition) => {
                let log = self.cluster.log(&partition);
                let watermarks = Watermarks { low: Offset(log.start()), high: Offset(log.end()) };
                ClusterAnswer::Range { partition, watermarks }
            }
            ClusterQuery::Ends(partitions) => {
                let end = |partition: TopicPartition| {
                    let end = Offset(self.cluster.log(&partition).end());
                    (partition, end)
                };
                ClusterAnswer::Ends(partitions.into_iter().map(end).collect())
            }
            ClusterQuery::PartitionCounts(topics) => {
                let partitions = self.cluster.partitions();
                let counted = |topic: Arc<str>| {
                    let of_topic = partitions.iter().filter(|partition| partition.topic == topic);
                    let count = of_topic.count();
                    (topic, count)
                };
                ClusterAnswer::PartitionCounts(topics.into_iter().map(counted).collect())
            }
            ClusterQuery::Readers(partitions) => {
                ClusterAnswer::Readers { partitions, members: None }
            }
            ClusterQuery::Unowned { partitions, question } => {
                self.cluster.advance_group(self.now);
                let group = self.cluster.group.describe();
                let unowned = partitions.into_iter().filter(|p| !group.owned.contains(p)).collect();
                let partitions = group.is_stable.then_some(unowned);
                ClusterAnswer::Unowned { question, partitions }
            }
        }
    }
}
