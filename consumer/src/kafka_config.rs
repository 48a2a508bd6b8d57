//! How Kafka is reached: flags, and the librdkafka configuration that comes from them.

use clap::{Args, ValueEnum};
use rdkafka::ClientConfig;

/// librdkafka properties that the guarantee or the memory budget rests on, and what to use instead.
const OWNED: [(&str, &str); 12] = [
    ("bootstrap.servers", "use --bootstrap-servers"),
    ("group.id", "use --group-id"),
    ("group.instance.id", "use --group-instance-id"),
    ("group.protocol", "use --group-protocol"),
    ("group.remote.assignor", "Ducktide chooses it"),
    ("partition.assignment.strategy", "Ducktide chooses it"),
    ("enable.auto.commit", "the lake holds the offsets"),
    ("enable.auto.offset.store", "the lake holds the offsets"),
    ("auto.offset.reset", "an offset out of range must stop the partition, never jump"),
    ("enable.partition.eof", "ends beyond the last record are progress"),
    ("queued.max.messages.kbytes", "it follows from --memory-limit"),
    ("isolation.level", "aborted records never reach the lake"),
];

/// Where Kafka and the schema registry are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// Brokers to ask first, `host:port`, comma separated.
    #[arg(
        long,
        env = "KAFKA_BOOTSTRAP_SERVERS",
        value_name = "HOST:PORT,...",
        default_value = "localhost:9092"
    )]
    pub bootstrap_servers: String,

    /// Any other librdkafka property, such as `security.protocol=sasl_ssl`; may be given often, in
    /// the environment separated by semicolons. Those that the guarantee rests on are refused.
    #[arg(long = "kafka-property", env = "KAFKA_PROPERTIES", value_name = "KEY=VALUE",
          value_delimiter = ';', value_parser = parse_property, hide_env_values = true)]
    pub kafka_properties: Vec<(String, String)>,
}

/// How a group shares its partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum GroupProtocol {
    /// The classic protocol with cooperative-sticky assignment: any broker.
    #[default]
    Classic,
    /// KIP-848, where the broker assigns: Kafka 4, and faster rebalances.
    Consumer,
}

impl KafkaArgs {
    /// A client that only asks; a consumer needs a group as well.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config.set("client.id", "ducktide");
        // Brokers that come back are found within a second rather than ten.
        config.set("reconnect.backoff.max.ms", "1000");
        for (key, value) in &self.kafka_properties {
            config.set(key, value);
        }
        config
    }
}

/// What makes a client a member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Membership<'a> {
    pub(crate) group_id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    pub(crate) protocol: GroupProtocol,
    /// What librdkafka may keep of records not yet polled.
    pub(crate) queue_kbytes: usize,
}

/// With librdkafka's defaults a fast consumer drains its queue and then sleeps for a second
/// (`fetch.queue.backoff.ms`): one loop took 141,000 records/s, and 349,000 without that. The others
/// bound memory: a record of 150 bytes costs librdkafka some 400 more, which its own limit in bytes
/// does not count. Draining 3 million such records on two cores, these values take 300 MB resident
/// where `queued.min.messages=300000` and 50 MB fetches took 480, at the same 710,000 rows/s.
///
/// The last is how long a topic that a pattern means may go unnoticed; librdkafka's own five minutes
/// are long for somebody who waits for a new topic's rows.
const DEFAULTS: [(&str, &str); 5] = [
    ("fetch.queue.backoff.ms", "10"),
    ("queued.min.messages", "100000"),
    ("fetch.max.bytes", "16777216"),
    ("fetch.message.max.bytes", "2097152"),
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// The consumer's client.
pub(crate) fn consumer_config(kafka: &KafkaArgs, member: &Membership<'_>) -> ClientConfig {
    let mut config = kafka.client_config();
    for (key, value) in DEFAULTS {
        if config.get(key).is_none() {
            config.set(key, value);
        }
    }
    config.set("group.id", member.group_id);
    if let Some(instance_id) = member.instance_id {
        config.set("group.instance.id", instance_id);
    }
    match member.protocol {
        GroupProtocol::Classic => {
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
        GroupProtocol::Consumer => {
            config.set("group.protocol", "consumer");
        }
    }
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "error");
    config.set("enable.partition.eof", "true");
    config.set("isolation.level", "read_committed");
    config.set("queued.max.messages.kbytes", member.queue_kbytes.to_string());
    config
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected key=value")?;
    let key = key.trim();
    if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| *owned == key) {
        return Err(format!("`{key}` is Ducktide's own: {instead}"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_the_guarantee_rests_on_are_refused_by_name() {
        let refused = parse_property("auto.offset.reset=latest").unwrap_err();

        assert!(refused.contains("auto.offset.reset"), "{refused}");
    }

    #[test]
    fn a_property_given_by_the_user_replaces_a_default() {
        let kafka = KafkaArgs {
            bootstrap_servers: "b:1".to_owned(),
            kafka_properties: vec![parse_property("queued.min.messages=5").unwrap()],
        };
        let member = Membership {
            group_id: "g",
            instance_id: None,
            protocol: GroupProtocol::Classic,
            queue_kbytes: 64,
        };

        let config = consumer_config(&kafka, &member);

        assert_eq!(config.get("queued.min.messages"), Some("5"));
        assert_eq!(config.get("auto.offset.reset"), Some("error"));
    }
}
