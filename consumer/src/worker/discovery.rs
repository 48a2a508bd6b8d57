//! Topics that match a pattern and were created after the worker has started.

use std::sync::Arc;

use super::Worker;
use super::effect::Effect;
use crate::error::ConsumerError;
use crate::event::OpenedTopic;

impl Worker {
    /// Opens the topics of new partitions that did not exist at the start. Other partitions are read
    /// meanwhile.
    pub(super) fn open_new_topics(&mut self) {
        for topic in self.partitions.topics_loading() {
            if self.topics.routes.contains_key(&topic)
                || !self.topics.opening.insert(Arc::clone(&topic))
            {
                continue;
            }
            tracing::info!(topic = &*topic, "new topic found");
            self.send(Effect::OpenTopic(topic));
        }
    }

    pub(super) fn opened(&mut self, OpenedTopic { topic, route }: OpenedTopic) {
        self.topics.opening.remove(&topic);
        match route {
            Ok(route) => {
                self.topics.routes.insert(Arc::clone(&topic), Arc::new(route));
                self.identify([topic].into());
            }
            Err(ConsumerError::Stopped) => {}
            // Other topics are not affected.
            Err(error) => {
                let topic = &*topic;
                tracing::error!(topic, %error, "topic stopped; other topics continue");
                self.partitions.stop_topic(topic);
            }
        }
    }
}
