//! What keeps the worker from committing, as far as it knows. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A commit that takes longer is stuck, whatever it waits for: an ordinary one takes milliseconds, and
/// the catalog's own limits, after which it is tried again, are 15 seconds and more.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// Each of these is taken back as soon as the same thing succeeds.
#[derive(Debug, Default)]
pub(crate) struct Obstacles {
    lake: Option<String>,
    kafka: Option<String>,
    files: Option<String>,
    /// By the number of the batcher that waits.
    registry: BTreeMap<usize, String>,
    /// Since when a batch is on its way into the lake.
    committing_since: Option<Instant>,
}

impl Obstacles {
    pub(crate) fn lake_failed(&mut self, error: String) {
        self.lake = Some(error);
    }

    pub(crate) fn lake_answered(&mut self) {
        self.lake = None;
    }

    /// Why Kafka did not answer a question, or that it did.
    pub(crate) fn kafka(&mut self, silence: Option<String>) {
        self.kafka = silence;
    }

    pub(crate) fn files_failed(&mut self, error: String) {
        self.files = Some(error);
    }

    /// Why a batcher waits for the registry, or that it does no longer.
    pub(crate) fn registry(&mut self, batcher: usize, waits_for: Option<String>) {
        match waits_for {
            Some(error) => self.registry.insert(batcher, error),
            None => self.registry.remove(&batcher),
        };
    }

    pub(crate) const fn commit_began(&mut self, now: Instant) {
        self.committing_since = Some(now);
    }

    /// However it ended.
    pub(crate) const fn commit_ended(&mut self) {
        self.committing_since = None;
    }

    /// Files were durable, and the lake took them.
    pub(crate) fn committed(&mut self) {
        (self.lake, self.files) = (None, None);
    }

    /// Ready, or the first reason why not.
    pub(crate) fn readiness(&self, now: Instant) -> Result<(), String> {
        let stuck = self.committing_since.map(|since| now.saturating_duration_since(since));
        let stuck = stuck.filter(|waited| *waited > COMMIT_PATIENCE);
        let reasons = [
            ("the lake does not answer", self.lake.clone()),
            ("Kafka does not answer", self.kafka.clone()),
            ("files cannot be written", self.files.clone()),
            ("waiting for the schema registry", self.registry.values().next().cloned()),
            ("a commit does not end", stuck.map(|waited| format!("{} s so far", waited.as_secs()))),
        ];
        let first =
            reasons.into_iter().find_map(|(what, why)| why.map(|why| format!("{what}: {why}")));
        first.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_named_and_taken_back() {
        let mut obstacles = Obstacles::default();
        let now = Instant::now();
        let why = |obstacles: &Obstacles| obstacles.readiness(now).unwrap_err();
        assert_eq!(obstacles.readiness(now), Ok(()));

        obstacles.lake_failed("connection refused".to_owned());
        assert_eq!(why(&obstacles), "the lake does not answer: connection refused");
        obstacles.lake_answered();
        obstacles.kafka(Some("timed out".to_owned()));
        assert!(why(&obstacles).contains("Kafka"));
        obstacles.kafka(None);
        obstacles.files_failed("disk is full".to_owned());
        assert!(why(&obstacles).contains("disk is full"));
        obstacles.committed();

        assert_eq!(obstacles.readiness(now), Ok(()));
    }

    #[test]
    fn the_registry_is_waited_for_until_the_last_batcher_has_its_answer() {
        let mut obstacles = Obstacles::default();
        obstacles.registry(0, Some("refused".to_owned()));
        obstacles.registry(1, Some("refused".to_owned()));
        obstacles.registry(0, None);
        assert!(obstacles.readiness(Instant::now()).unwrap_err().contains("registry"));

        obstacles.registry(1, None);

        assert_eq!(obstacles.readiness(Instant::now()), Ok(()));
    }

    #[test]
    fn a_commit_that_takes_long_is_stuck_until_it_ends() {
        let mut obstacles = Obstacles::default();
        let now = Instant::now();
        obstacles.commit_began(now);
        assert_eq!(obstacles.readiness(now + COMMIT_PATIENCE), Ok(()));
        assert!(obstacles.readiness(now + COMMIT_PATIENCE * 2).unwrap_err().contains("20 s"));

        obstacles.commit_ended();

        assert_eq!(obstacles.readiness(now + COMMIT_PATIENCE * 2), Ok(()));
    }
}
