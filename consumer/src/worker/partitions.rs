//! State of each partition in the worker. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ducktide_protocol::position::{Offset, Partition, Position};

use crate::source::assignment::Generation;
use crate::source::topic_partition::TopicPartition;

/// The state of a partition of this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The position was not loaded since the assignment or the last reset.
    Loading,
    /// Records are read from this position, which own commits move. The lake may have another one, after a
    /// commit of an earlier owner.
    Reading(Position),
    /// Kafka does not have the position from which records were read, or the topic cannot be opened.
    Stopped(Option<Position>),
}

/// Partitions of this member, and the committed positions of all partitions.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    owned: BTreeMap<TopicPartition, State>,
    positions: BTreeMap<TopicPartition, Position>,
    /// Partitions that were read up to their goals since the last reset, including uncommitted records.
    at_goal: BTreeSet<TopicPartition>,
    generation: u64,
}

impl Partitions {
    pub(crate) fn assigned(&mut self, partitions: &[TopicPartition]) {
        self.owned.extend(partitions.iter().map(|partition| (partition.clone(), State::Loading)));
    }

    pub(crate) fn remove(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.owned.remove(partition);
            self.at_goal.remove(partition);
        }
    }

    /// Stops a partition whose records cannot be read. Returns false if it is not being read: then the
    /// reason is that of an earlier reading.
    pub(crate) fn stop(&mut self, partition: &TopicPartition) -> bool {
        let Some(state) = self.owned.get_mut(partition) else { return false };
        let State::Reading(from) = *state else { return false };
        *state = State::Stopped(Some(from));
        true
    }

    /// Stops all partitions of a topic.
    pub(crate) fn stop_topic(&mut self, topic: &str) {
        for (partition, state) in &mut self.owned {
            if *partition.topic == *topic {
                *state = State::Stopped(None);
            }
        }
    }

    /// Returns the topics of this member's partitions.
    pub(crate) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.owned.keys().map(|partition| Arc::clone(&partition.topic)).collect()
    }

    /// Marks all partitions to be loaded again, except stopped ones.
    pub(crate) fn reset(&mut self) {
        self.at_goal.clear();
        for state in self.owned.values_mut().filter(|state| matches!(state, State::Reading(_))) {
            *state = State::Loading;
        }
    }

    /// Returns the partitions of this member that a replay or skip moved since they were loaded, which have
    /// another epoch, and marks them to be loaded again. A stopped one is also returned after a commit of
    /// an earlier owner, which may have passed the records that Kafka no longer has.
    pub(crate) fn moved_by_operator(
        &mut self,
        topic: &Arc<str>,
        positions: &BTreeMap<Partition, Position>,
    ) -> Vec<TopicPartition> {
        let mut moved = Vec::new();
        for (partition, state) in self.owned.iter_mut().filter(|(p, _)| p.topic == *topic) {
            let Some(now) = positions.get(&partition.partition) else { continue };
            let is_moved = match state {
                State::Loading | State::Stopped(None) => false,
                State::Reading(from) => now.epoch != from.epoch,
                State::Stopped(Some(from)) => now != from,
            };
            if is_moved && !mutated!(EpochNotCompared) {
                *state = State::Loading;
                moved.push(partition.clone());
            }
        }
        moved
    }

    pub(crate) fn len(&self) -> usize {
        self.owned.len()
    }

    pub(crate) fn all(&self) -> Vec<TopicPartition> {
        self.owned.keys().cloned().collect()
    }

    pub(crate) fn is_owned(&self, partition: &TopicPartition) -> bool {
        self.owned.contains_key(partition)
    }

    pub(crate) fn is_stopped(&self, partition: &TopicPartition) -> bool {
        matches!(self.owned.get(partition), Some(State::Stopped(_)))
    }

    /// Returns the topics of partitions that wait for their position.
    pub(crate) fn topics_loading(&self) -> BTreeSet<Arc<str>> {
        let loading = self.owned.iter().filter(|(_, state)| **state == State::Loading);
        loading.map(|(partition, _)| Arc::clone(&partition.topic)).collect()
    }

    /// Returns the partitions of a topic that wait for their position.
    pub(crate) fn loading(&self, topic: &str) -> BTreeSet<Partition> {
        let loading = self.owned.iter().filter(|(_, state)| **state == State::Loading);
        loading.filter(|(p, _)| *p.topic == *topic).map(|(p, _)| p.partition).collect()
    }

    /// Returns the last known committed offset of a partition.
    pub(crate) fn next_offset(&self, partition: &TopicPartition) -> Option<Offset> {
        self.positions.get(partition).map(|position| position.next_offset)
    }

    /// Records the position after an own commit.
    pub(crate) fn set_position(&mut self, partition: &TopicPartition, to: Position) {
        self.positions.insert(partition.clone(), to);
        if let Some(State::Reading(from)) = self.owned.get_mut(partition) {
            *from = to;
        }
    }

    /// Returns whether the positions of a topic were read.
    pub(crate) fn is_in_lake(&self, topic: &str) -> bool {
        self.positions.keys().any(|partition| *partition.topic == *topic)
    }

    /// Returns all partitions that the lake knows, also those of other members.
    pub(crate) fn in_lake(&self) -> Vec<TopicPartition> {
        self.positions.keys().cloned().collect()
    }

    /// Records committed positions, also of partitions of other members.
    pub(crate) fn record_positions(
        &mut self,
        topic: &Arc<str>,
        positions: &BTreeMap<Partition, Position>,
    ) {
        for (&partition, &position) in positions {
            let partition = TopicPartition { topic: Arc::clone(topic), partition };
            self.positions.insert(partition, position);
        }
    }

    /// Takes the waiting partitions of a topic. Returns those that can start, each as a new generation, and
    /// those that the lake does not know. A partition that is not prepared was assigned after the positions
    /// were requested, and waits for its own answer.
    pub(crate) fn take_loading(
        &mut self,
        topic: &Arc<str>,
        positions: &BTreeMap<Partition, Position>,
        is_prepared: impl Fn(Partition) -> bool,
    ) -> (Vec<(TopicPartition, Generation, Position)>, Vec<Partition>) {
        let (mut ready, mut unknown) = (Vec::new(), Vec::new());
        for (partition, state) in &mut self.owned {
            if partition.topic != *topic || *state != State::Loading {
                continue;
            }
            match positions.get(&partition.partition) {
                Some(_) if !is_prepared(partition.partition) => {}
                Some(position) => {
                    self.generation += 1;
                    *state = State::Reading(*position);
                    ready.push((partition.clone(), Generation(self.generation), *position));
                }
                None => unknown.push(partition.partition),
            }
        }
        (ready, unknown)
    }

    /// Returns the partitions whose goals the lake has not reached.
    pub(crate) fn behind(&self, goals: &BTreeMap<TopicPartition, Offset>) -> Vec<TopicPartition> {
        let reached = |(partition, goal): &(&TopicPartition, &Offset)| {
            self.next_offset(partition).is_some_and(|offset| offset >= **goal)
        };
        goals.iter().filter(|goal| !reached(goal)).map(|(partition, _)| partition.clone()).collect()
    }

    /// Records that a partition was read up to its goal.
    pub(crate) fn goal_reached(&mut self, partition: TopicPartition) {
        self.at_goal.insert(partition);
    }

    /// Returns whether this member has read all of its partitions up to their goals, so that they can be
    /// committed at once.
    pub(crate) fn has_read_to(&self, goals: &BTreeMap<TopicPartition, Offset>) -> bool {
        let open = self.behind(goals).into_iter();
        let mut own = open.filter(|p| self.is_owned(p) && !self.is_stopped(p));
        own.all(|partition| self.at_goal.contains(&partition))
    }

    /// Errors with the partitions that are not read. A member without partitions is ready.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let with = |wanted: fn(&State) -> bool| {
            let found = self.owned.iter().filter(|(_, state)| wanted(state));
            found.map(|(partition, _)| partition.to_string()).collect::<Vec<_>>().join(" ")
        };
        let stopped = with(|state| matches!(state, State::Stopped(_)));
        let loading = with(|state| matches!(state, State::Loading));
        if !stopped.is_empty() {
            return Err(format!("stopped, see the log: {stopped}"));
        }
        if !loading.is_empty() {
            return Err(format!("asking the lake where to start: {loading}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::position::Epoch;

    use super::*;

    fn at(next_offset: i64) -> Position {
        Position { epoch: Epoch(0), next_offset: Offset(next_offset) }
    }

    fn assigned(count: i32) -> Partitions {
        let mut partitions = Partitions::default();
        let names: Vec<_> = (0..count).map(|p| TopicPartition::new("events", p)).collect();
        partitions.assigned(&names);
        partitions
    }

    #[test]
    fn a_partition_starts_once_for_each_load() {
        let mut partitions = assigned(1);
        let topic: Arc<str> = "events".into();
        let positions = BTreeMap::from([(Partition(0), at(7))]);

        assert_eq!(partitions.take_loading(&topic, &positions, |_| true).0.len(), 1);
        assert_eq!(partitions.take_loading(&topic, &positions, |_| true).0.len(), 0);
    }

    #[test]
    fn every_start_is_a_generation_of_its_own() {
        let mut partitions = assigned(2);
        let topic: Arc<str> = "events".into();
        let positions = BTreeMap::from([(Partition(0), at(7)), (Partition(1), at(9))]);
        let (first, _) = partitions.take_loading(&topic, &positions, |_| true);
        partitions.reset();
        let (second, _) = partitions.take_loading(&topic, &positions, |_| true);

        let generations: BTreeSet<_> = first.iter().chain(&second).map(|(_, g, _)| *g).collect();
        assert_eq!(generations.len(), 4);
    }

    #[test]
    fn a_partition_that_the_lake_does_not_know_waits_for_its_beginning() {
        let mut partitions = assigned(1);

        let (ready, unknown) =
            partitions.take_loading(&"events".into(), &BTreeMap::new(), |_| true);

        assert!(ready.is_empty());
        assert_eq!(unknown, [Partition(0)]);
    }

    #[test]
    fn a_stopped_partition_is_not_read_again_by_a_reset() {
        let mut partitions = assigned(1);
        let topic: Arc<str> = "events".into();
        let positions = BTreeMap::from([(Partition(0), at(7))]);
        partitions.take_loading(&topic, &positions, |_| true);
        assert!(partitions.stop(&TopicPartition::new("events", 0)));
        partitions.reset();

        assert!(partitions.take_loading(&topic, &positions, |_| true).0.is_empty());
        assert!(partitions.readiness().unwrap_err().contains("events[0]"));
    }

    #[test]
    fn a_replay_or_skip_is_known_by_its_epoch_and_restarts_a_stopped_partition() {
        let mut partitions = assigned(2);
        let topic: Arc<str> = "events".into();
        let before = BTreeMap::from([(Partition(0), at(7)), (Partition(1), at(9))]);
        partitions.record_positions(&topic, &before);
        partitions.take_loading(&topic, &before, |_| true);
        assert!(partitions.stop(&TopicPartition::new("events", 1)));

        let committed = BTreeMap::from([(Partition(0), at(70)), (Partition(1), at(9))]);
        assert!(partitions.moved_by_operator(&topic, &committed).is_empty());

        let skipped = Position { epoch: Epoch(1), next_offset: Offset(50) };
        let after = BTreeMap::from([(Partition(0), at(70)), (Partition(1), skipped)]);
        let moved = partitions.moved_by_operator(&topic, &after);
        assert_eq!(moved, [TopicPartition::new("events", 1)]);
        assert_eq!(partitions.take_loading(&topic, &after, |_| true).0.len(), 1);
    }

    #[test]
    fn a_stopped_partition_restarts_when_the_lake_has_another_position_than_was_read() {
        let mut partitions = assigned(1);
        let (topic, partition): (Arc<str>, _) = ("events".into(), TopicPartition::new("events", 0));
        let at = |offset| BTreeMap::from([(Partition(0), at(offset))]);
        assert!(!partitions.stop(&partition), "an error of an earlier reading");
        partitions.take_loading(&topic, &at(0), |_| true);
        // An earlier owner's commit is seen before Kafka reports that the records are gone.
        assert!(partitions.moved_by_operator(&topic, &at(15)).is_empty());
        partitions.record_positions(&topic, &at(15));
        assert!(partitions.stop(&partition));
        assert!(partitions.moved_by_operator(&topic, &at(0)).is_empty());

        assert_eq!(partitions.moved_by_operator(&topic, &at(15)), [partition]);
    }

    #[test]
    fn partitions_are_read_when_each_that_is_owned_and_behind_is_at_its_goal() {
        let mut partitions = assigned(2);
        let at = |partition| TopicPartition::new("events", partition);
        let goals = BTreeMap::from([(at(0), Offset(10)), (at(1), Offset(5)), (at(7), Offset(5))]);
        partitions.goal_reached(at(0));
        assert!(!partitions.has_read_to(&goals));

        partitions.goal_reached(at(1));
        assert!(partitions.has_read_to(&goals));

        partitions.reset();
        assert!(!partitions.has_read_to(&goals));
    }

    #[test]
    fn goals_are_reached_by_commits_of_any_member() {
        let mut partitions = assigned(1);
        let goals = BTreeMap::from([
            (TopicPartition::new("events", 0), Offset(10)),
            (TopicPartition::new("events", 1), Offset(5)),
        ]);
        partitions.set_position(&TopicPartition::new("events", 0), at(10));
        assert_eq!(partitions.behind(&goals), [TopicPartition::new("events", 1)]);

        partitions.record_positions(&"events".into(), &BTreeMap::from([(Partition(1), at(6))]));

        assert!(partitions.behind(&goals).is_empty());
    }
}
