//! Kafka and the schema registry, without a database server.

use std::{path::Path, thread};

use anyhow::Result;
use ducktide_testbed::services::{Kafka, Registry};

/// One broker and one schema registry.
#[derive(Debug)]
pub(crate) struct StreamingServices {
    pub(crate) kafka: Kafka,
    pub(crate) registry: Registry,
}

impl StreamingServices {
    /// Starts both concurrently and waits until each is ready.
    pub(crate) fn start(logs: &Path) -> Result<Self> {
        thread::scope(|scope| {
            let registry = scope.spawn(|| Registry::start(logs));
            let kafka = Kafka::start(logs);
            let registry = registry.join().expect("starting the registry does not panic");
            Ok(Self { kafka: kafka?, registry: registry? })
        })
    }

    /// Returns the environment variables with the addresses for the workspace's programs.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers()),
            ("SCHEMA_REGISTRY_URL", self.registry.url()),
        ]
    }

    /// Lets both outlive this process. Returns the shell commands that end them.
    pub(crate) fn leave_running(self) -> [String; 2] {
        [self.kafka.leave_running(), self.registry.leave_running()]
    }
}
