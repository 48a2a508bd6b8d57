//! Topics that match a pattern and were created after the worker has started.

use std::sync::Arc;

use super::Worker;
use crate::event::{Event, OpenedTopic};
use crate::startup;

impl Worker {
    /// Opens the topics of new partitions that did not exist at the start. Other partitions are read
    /// meanwhile.
    pub(super) fn open_new_topics(&mut self) {
        for topic in self.partitions.topics_loading() {
            if self.routes.contains_key(&topic) || !self.opening.insert(Arc::clone(&topic)) {
                continue;
            }
            tracing::info!(topic = &*topic, "new topic found");
            let (config, providers) = (Arc::clone(&self.deps.config), self.deps.providers.clone());
            let (group, cluster) = (Arc::clone(&self.group), Arc::clone(&self.deps.cluster));
            let retry = Arc::new(self.deps.retry.for_task());
            let events = self.deps.events.clone();
            tokio::spawn(async move {
                let name = Arc::clone(&topic);
                let route =
                    startup::open_topic(config, group, providers, cluster, retry, name).await;
                events.send(Event::TopicOpened(Box::new(OpenedTopic { topic, route })));
            });
        }
    }

    pub(super) fn opened(&mut self, OpenedTopic { topic, route }: OpenedTopic) {
        self.opening.remove(&topic);
        match route {
            Ok(Some(route)) => {
                self.routes.insert(Arc::clone(&topic), Arc::new(route));
                self.identify([topic].into());
            }
            Ok(None) => {}
            // Other topics are not affected.
            Err(error) => {
                let topic = &*topic;
                tracing::error!(topic, %error, "topic stopped; other topics continue");
                self.partitions.stop_topic(topic);
            }
        }
    }

    /// Stops waiting for topics.
    pub(super) fn stop_opening(&self) {
        self.deps.retry.stop();
    }
}
