//! The librdkafka configuration of a consumer.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use ducktide_kafka::oauth::OAuthTokens;
use ducktide_kafka::{Connection, KafkaArgs, KafkaSettingsError, OwnedProperty, set_default};
use rdkafka::ClientConfig;

/// librdkafka properties on which the guarantee or the memory limit depends, and the alternative.
/// Aliases of their names are rejected too.
const OWNED: [OwnedProperty; 17] = [
    ("bootstrap.servers", "use --bootstrap-servers"),
    ("test.mock.num.brokers", "use --bootstrap-servers"),
    ("group.id", "use --group-id"),
    ("group.instance.id", "use --group-instance-id"),
    ("group.protocol", "use --group-protocol"),
    ("group.protocol.type", "Ducktide sets it"),
    ("group.remote.assignor", "Ducktide sets it"),
    ("partition.assignment.strategy", "Ducktide sets it"),
    ("enable.auto.commit", "the lake stores the offsets"),
    ("enable.auto.offset.store", "the lake stores the offsets"),
    ("offset.store.method", "the lake stores the offsets"),
    ("offset.store.path", "the lake stores the offsets"),
    ("auto.offset.reset", "an offset out of range must stop the partition"),
    ("enable.partition.eof", "the end of a partition is committed as progress"),
    ("queued.max.messages.kbytes", "it is derived from --memory-limit"),
    ("isolation.level", "records of aborted transactions are never read"),
    ("log.queue", "the log of the client is part of the log of the worker"),
];

/// Protocol by which a group assigns partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum GroupProtocol {
    /// Classic protocol with cooperative-sticky assignment. Works with all brokers.
    #[default]
    Classic,
    /// KIP-848, with assignment by the broker and faster rebalances. Requires Kafka 4.
    Consumer,
}

/// Returns the configuration of a client without a group.
pub fn client_config(kafka: &KafkaArgs) -> Result<Connection, KafkaSettingsError> {
    config_of(kafka, "ducktide")
}

fn config_of(kafka: &KafkaArgs, client_id: &str) -> Result<Connection, KafkaSettingsError> {
    kafka.client_config(
        &OWNED,
        // Brokers that recover are found within one second, not ten.
        &[("client.id", client_id), ("reconnect.backoff.max.ms", "1000")],
    )
}

/// Membership of a client in a group.
#[derive(Clone, Debug)]
pub(crate) struct Membership<'a> {
    pub(crate) group_id: &'a str,
    /// Default of `client.id`.
    pub(crate) client_id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    pub(crate) protocol: GroupProtocol,
    /// Limit of librdkafka's queue of fetched records, KiB.
    pub(crate) queue_kbytes: usize,
    /// Time for filling a batch, from which the default of `fetch.wait.max.ms` follows.
    pub(crate) flush_interval: Duration,
}

/// Defaults of properties that can be set with `--kafka-property`.
///
/// With the defaults of librdkafka, a fast consumer drains its queue and then pauses for a second
/// (`fetch.queue.backoff.ms`): a loop read 141,000 records/s, and 349,000 without the pause. The
/// next three bound memory: a record of 150 bytes takes about 400 more in librdkafka, which its
/// limit in bytes does not count. Reading 3 million such records of 8 partitions on two cores took
/// 285 MiB resident with these values, and 340 MiB with `queued.min.messages=100000`, at the same
/// 700,000 rows/s. The last is the maximum delay until a new topic of a pattern is found; the
/// default of librdkafka is five minutes.
const DEFAULTS: [(&str, &str); 5] = [
    ("fetch.queue.backoff.ms", "10"),
    ("queued.min.messages", "30000"),
    ("fetch.max.bytes", "16777216"),
    ("fetch.message.max.bytes", "2097152"),
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// Default of `fetch.min.bytes`. At most this many bytes wait at the broker, at most for [`fetch_wait`]. With
/// the default of librdkafka, one byte, a topic with few records causes a fetch for each request of a
/// producer.
const FETCH_MIN_BYTES: &str = "65536";

/// Divisor of `--flush-interval` for the default of `fetch.wait.max.ms`.
const FETCH_WAIT_DIVISOR: u32 = 10;

/// Bounds of the default of `fetch.wait.max.ms`: a broker is asked at most 100 times a second, and at least
/// as often as with the default of librdkafka.
const FETCH_WAIT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(500);

/// Returns the default of `fetch.wait.max.ms`: the time for which a broker waits for `fetch.min.bytes`. The
/// delay that it adds to a record is small compared with that of the batch.
fn fetch_wait(flush_interval: Duration) -> Duration {
    (flush_interval / FETCH_WAIT_DIVISOR).clamp(*FETCH_WAIT.start(), *FETCH_WAIT.end())
}

/// Configuration of a consumer client.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerConfig {
    /// All properties.
    pub(crate) client: ClientConfig,
    /// Properties on which the guarantee depends. They are read back from the client after its
    /// creation; it is not used if a value differs.
    pub(crate) owned: Vec<(&'static str, String)>,
    /// Source of tokens for OAUTHBEARER.
    pub(crate) tokens: Option<Arc<OAuthTokens>>,
}

/// Returns the configuration of a consumer client.
pub(crate) fn consumer_config(
    kafka: &KafkaArgs,
    member: &Membership<'_>,
) -> Result<ConsumerConfig, KafkaSettingsError> {
    let Connection { config: mut client, tokens } = config_of(kafka, member.client_id)?;
    for (key, value) in DEFAULTS {
        set_default(&mut client, key, value);
    }
    set_default(&mut client, "fetch.min.bytes", FETCH_MIN_BYTES);
    let wait_ms = fetch_wait(member.flush_interval).as_millis().to_string();
    set_default(&mut client, "fetch.wait.max.ms", &wait_ms);
    let owned = owned_properties(&kafka.bootstrap_servers, member);
    for (name, value) in &owned {
        client.set(*name, value);
    }
    Ok(ConsumerConfig { client, owned, tokens })
}

fn owned_properties(servers: &str, member: &Membership<'_>) -> Vec<(&'static str, String)> {
    let queue_kbytes = member.queue_kbytes.to_string();
    let mut owned = vec![
        ("bootstrap.servers", servers),
        ("group.id", member.group_id),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("queued.max.messages.kbytes", &queue_kbytes),
    ];
    owned.extend(member.instance_id.map(|instance_id| ("group.instance.id", instance_id)));
    owned.push(match member.protocol {
        GroupProtocol::Classic => ("partition.assignment.strategy", "cooperative-sticky"),
        GroupProtocol::Consumer => ("group.protocol", "consumer"),
    });
    owned.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

/// Compares the owned properties with the effective ones of a client.
pub(crate) fn check_owned(
    owned: &[(&'static str, String)],
    effective: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    for (name, expected) in owned {
        let found = effective(name);
        if found.as_deref() != Some(expected) {
            let found = found.unwrap_or_default();
            return Err(format!(
                "Kafka client does not use the value that exactly-once delivery requires; remove the \
                 --kafka-property that changes it: property=`{name}` expected=`{expected}` \
                 value=`{found}`"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ducktide_kafka::property::PropertyList;

    use super::*;

    const MEMBER: Membership<'static> = Membership {
        group_id: "g",
        client_id: "ducktide-1",
        instance_id: Some("i"),
        protocol: GroupProtocol::Classic,
        queue_kbytes: 64,
        flush_interval: Duration::from_secs(1),
    };

    fn kafka(properties: &str) -> KafkaArgs {
        KafkaArgs {
            bootstrap_servers: "b:1".to_owned(),
            kafka_properties: vec![PropertyList::parse(properties).unwrap()],
            ..KafkaArgs::default()
        }
    }

    fn refusal(properties: &str) -> String {
        client_config(&kafka(properties)).unwrap_err().to_string()
    }

    #[test]
    fn owned_properties_are_rejected_under_every_name() {
        for name in [
            "auto.offset.reset",
            "topic.auto.offset.reset",
            "topic.auto.commit.enable",
            "topic.enable.auto.commit",
            "auto.commit.enable",
            "metadata.broker.list",
            "isolation.level",
            "topic.offset.store.method",
            "topic.offset.store.path",
            "test.mock.num.brokers",
        ] {
            let refused = refusal(&format!("{name}=x"));
            assert!(refused.contains(&format!("`{name}` cannot be set")), "{refused}");
        }
    }

    #[test]
    fn a_given_property_replaces_a_default_under_every_name() {
        let kafka = kafka(
            "queued.min.messages=5;max.partition.fetch.bytes=70000;topic.metadata.refresh.interval.ms=7;\
             fetch.wait.max.ms=25",
        );

        let config = consumer_config(&kafka, &MEMBER).unwrap().client;

        assert_eq!(config.get("queued.min.messages"), Some("5"));
        let native = config.create_native_config().unwrap();
        assert_eq!(native.get("fetch.message.max.bytes").unwrap(), "70000");
        assert_eq!(native.get("topic.metadata.refresh.interval.ms").unwrap(), "7");
        assert_eq!(native.get("fetch.wait.max.ms").unwrap(), "25");
    }

    #[test]
    fn fetches_wait_for_a_fraction_of_the_flush_interval() {
        for (millis, wait) in [(1, 10), (100, 10), (150, 15), (1000, 100), (60_000, 500)] {
            let flush_interval = Duration::from_millis(millis);
            let member = Membership { flush_interval, ..MEMBER };

            let config = consumer_config(&kafka(""), &member).unwrap().client;

            let native = config.create_native_config().unwrap();
            assert_eq!(native.get("fetch.min.bytes").unwrap(), "65536");
            assert_eq!(native.get("fetch.wait.max.ms").unwrap(), wait.to_string());
        }
    }

    #[test]
    fn owned_properties_are_effective_in_librdkafka() {
        let config = consumer_config(&kafka("security.protocol=plaintext"), &MEMBER).unwrap();

        let native = config.client.create_native_config().unwrap();
        assert_eq!(config.owned.len(), 10);
        for (name, value) in &config.owned {
            assert_eq!(native.get(name).unwrap(), *value, "{name}");
        }
    }

    #[test]
    fn an_owned_property_that_is_not_effective_is_reported() {
        let config = consumer_config(&kafka(""), &MEMBER).unwrap();
        let native = config.client.create_native_config().unwrap();
        let effective = |name: &str| match name {
            "auto.offset.reset" => Some("largest".to_owned()),
            name => native.get(name).ok(),
        };

        let refused = check_owned(&config.owned, effective).unwrap_err();

        assert!(refused.contains("property=`auto.offset.reset` expected=`error`"), "{refused}");
    }

    #[test]
    fn a_property_replaces_the_default_client_id() {
        let client_id = |properties: &str| {
            let config = consumer_config(&kafka(properties), &MEMBER).unwrap().client;
            config.get("client.id").map(str::to_owned)
        };

        assert_eq!(client_id("").as_deref(), Some("ducktide-1"));
        assert_eq!(client_id("client.id=mine").as_deref(), Some("mine"));
    }
}
