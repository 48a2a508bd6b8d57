//! How Kafka is reached: flags, and the librdkafka configuration that comes from them.

use clap::{Args, ValueEnum};
use ducktide_lake::kafka_property::{
    KafkaProperties, KafkaProperty, KafkaPropertyParser, merge, resolved_name,
};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

/// librdkafka properties that the guarantee or the memory budget rests on, and what to use instead.
const OWNED: [(&str, &str); 17] = [
    ("bootstrap.servers", "use --bootstrap-servers"),
    ("test.mock.num.brokers", "use --bootstrap-servers"),
    ("group.id", "use --group-id"),
    ("group.instance.id", "use --group-instance-id"),
    ("group.protocol", "use --group-protocol"),
    ("group.protocol.type", "Ducktide chooses it"),
    ("group.remote.assignor", "Ducktide chooses it"),
    ("partition.assignment.strategy", "Ducktide chooses it"),
    ("enable.auto.commit", "the lake holds the offsets"),
    ("enable.auto.offset.store", "the lake holds the offsets"),
    ("offset.store.method", "the lake holds the offsets"),
    ("offset.store.path", "the lake holds the offsets"),
    ("auto.offset.reset", "an offset out of range must stop the partition, never jump"),
    ("enable.partition.eof", "ends beyond the last record are progress"),
    ("queued.max.messages.kbytes", "it follows from --memory-limit"),
    ("isolation.level", "aborted records never reach the lake"),
    ("log.queue", "the client's log lines go to the worker's own log"),
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
        default_value = "localhost:9092",
        value_parser = parse_servers
    )]
    pub bootstrap_servers: String,

    /// Any other librdkafka property, such as `security.protocol=sasl_ssl`; may be given often. In
    /// the environment, properties are separated by `;` or line breaks; a value may contain either
    /// where no `name=` follows. Properties that the guarantee rests on are refused under any name.
    #[arg(long = "kafka-property", env = "KAFKA_PROPERTIES", value_name = "KEY=VALUE",
          value_parser = KafkaPropertyParser(check_property), hide_env_values = true)]
    pub kafka_properties: Vec<KafkaProperties>,
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
        for property in merge(&self.kafka_properties) {
            set(&mut config, &property.name, &property.value);
        }
        config
    }
}

/// Sets a property, and removes other spellings of it: of two, librdkafka uses the one that is set
/// last, and a [`ClientConfig`] has no order.
fn set(config: &mut ClientConfig, name: &str, value: &str) {
    for spelling in spellings(config, name) {
        config.remove(&spelling);
    }
    config.set(name, value);
}

/// Names in the configuration that mean the same property.
fn spellings(config: &ClientConfig, name: &str) -> Vec<String> {
    let is_same = |other: &&&str| resolved_name(other) == resolved_name(name);
    config.config_map().keys().filter(is_same).map(|other| (*other).to_owned()).collect()
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

/// Configuration of the consumer's client.
pub(crate) struct ConsumerConfig {
    pub(crate) client: ClientConfig,
    /// Values that the created client must have, whatever else was set.
    pub(crate) owned: Vec<(&'static str, String)>,
}

pub(crate) fn consumer_config(kafka: &KafkaArgs, member: &Membership<'_>) -> ConsumerConfig {
    let mut client = kafka.client_config();
    for (key, value) in DEFAULTS {
        if spellings(&client, key).is_empty() {
            client.set(key, value);
        }
    }
    let mut owned = vec![
        ("bootstrap.servers", kafka.bootstrap_servers.clone()),
        ("group.id", member.group_id.to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.auto.offset.store", "false".to_owned()),
        ("auto.offset.reset", "error".to_owned()),
        ("enable.partition.eof", "true".to_owned()),
        ("isolation.level", "read_committed".to_owned()),
        ("queued.max.messages.kbytes", member.queue_kbytes.to_string()),
    ];
    if let Some(instance_id) = member.instance_id {
        owned.push(("group.instance.id", instance_id.to_owned()));
    }
    owned.push(match member.protocol {
        GroupProtocol::Classic => {
            ("partition.assignment.strategy", "cooperative-sticky".to_owned())
        }
        GroupProtocol::Consumer => ("group.protocol", "consumer".to_owned()),
    });
    for (name, value) in &owned {
        set(&mut client, name, value);
    }
    ConsumerConfig { client, owned }
}

/// Compares the owned values with those that a client was created with.
pub(crate) fn check_owned(
    owned: &[(&'static str, String)],
    effective: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    for (name, expected) in owned {
        let found = effective(name);
        if found.as_deref() != Some(expected) {
            let found = found.unwrap_or_default();
            return Err(format!(
                "the Kafka client does not use the value that exactly-once needs; remove the \
                 --kafka-property that changes it: property=`{name}` expected=`{expected}` \
                 value=`{found}`"
            ));
        }
    }
    Ok(())
}

/// Refuses a property that is Ducktide's own, under any of its names, and one that librdkafka
/// refuses.
fn check_property(property: &KafkaProperty) -> Result<(), String> {
    let (name, resolved) = (&property.name, property.resolved_name());
    if let Some((owned, instead)) = OWNED.iter().find(|(owned, _)| *owned == resolved) {
        let alias =
            if owned == name { String::new() } else { format!(" (another name of `{owned}`)") };
        return Err(format!("`{name}`{alias} is Ducktide's own: {instead}"));
    }
    let mut alone = ClientConfig::new();
    alone.set(name, &property.value);
    match alone.create_native_config() {
        Ok(_) => Ok(()),
        // Its `Display` would show the value.
        Err(KafkaError::ClientConfig(_, reason, ..)) => Err(format!("`{name}`: {reason}")),
        Err(_) => Err(format!("`{name}`: the value cannot be passed to librdkafka")),
    }
}

/// Checks that each entry of a comma-separated list is `host`, `host:port` or `protocol://host:port`:
/// librdkafka ignores what it cannot parse, and a client without brokers connects to nothing.
fn parse_servers(text: &str) -> Result<String, String> {
    let servers = text.split(',').map(str::trim).filter(|server| !server.is_empty());
    let mut count = 0;
    for server in servers {
        let address = server.split_once("://").map_or(server, |(_, address)| address);
        // An IPv6 address stands in brackets.
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        let is_host = !host.is_empty()
            && !host.contains(|c: char| c.is_whitespace() || c == '/')
            && (host.starts_with('[') || !host.contains(':'));
        if !is_host || !port.is_none_or(is_port) {
            return Err(format!("expected HOST:PORT with a port from 1 to 65535: `{server}`"));
        }
        count += 1;
    }
    if count == 0 {
        return Err("expected at least one HOST:PORT".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(name: &str, value: &str) -> KafkaProperty {
        KafkaProperty { name: name.to_owned(), value: value.to_owned() }
    }

    fn member_config(properties: &[(&str, &str)]) -> ConsumerConfig {
        let properties = properties.iter().map(|(name, value)| property(name, value)).collect();
        let kafka = KafkaArgs {
            bootstrap_servers: "b:1".to_owned(),
            kafka_properties: vec![KafkaProperties(properties)],
        };
        let member = Membership {
            group_id: "g",
            instance_id: None,
            protocol: GroupProtocol::Classic,
            queue_kbytes: 64,
        };
        consumer_config(&kafka, &member)
    }

    #[test]
    fn properties_that_the_guarantee_rests_on_are_refused_under_any_name() {
        for (name, owned) in [
            ("auto.offset.reset", "auto.offset.reset"),
            ("topic.auto.offset.reset", "auto.offset.reset"),
            ("auto.commit.enable", "enable.auto.commit"),
            ("topic.auto.commit.enable", "enable.auto.commit"),
            ("topic.enable.auto.commit", "enable.auto.commit"),
            ("topic.offset.store.method", "offset.store.method"),
            ("metadata.broker.list", "bootstrap.servers"),
            ("isolation.level", "isolation.level"),
        ] {
            let refused = check_property(&property(name, "latest")).unwrap_err();
            assert!(refused.contains(name) && refused.contains(owned), "{refused}");
        }
    }

    #[test]
    fn properties_that_librdkafka_refuses_are_refused_without_their_value() {
        let unknown = check_property(&property("sasl.no-such", "secret")).unwrap_err();
        assert!(unknown.contains("sasl.no-such") && !unknown.contains("secret"), "{unknown}");
        assert!(check_property(&property("socket.timeout.ms", "soon")).is_err());
        assert_eq!(check_property(&property("sasl.password", "a;b=c")), Ok(()));
    }

    #[test]
    fn a_property_given_by_the_user_replaces_a_default_under_any_name() {
        let config = member_config(&[
            ("queued.min.messages", "5"),
            ("max.partition.fetch.bytes", "4096"),
            ("topic.metadata.refresh.interval.ms", "7"),
        ]);

        let native = config.client.create_native_config().unwrap();
        assert_eq!(native.get("queued.min.messages").unwrap(), "5");
        assert_eq!(native.get("fetch.message.max.bytes").unwrap(), "4096");
        assert_eq!(native.get("topic.metadata.refresh.interval.ms").unwrap(), "7");
    }

    /// A [`ClientConfig`] has another order in each instance.
    #[test]
    fn owned_values_win_in_any_order() {
        for _ in 0..20 {
            let config = member_config(&[
                ("topic.auto.offset.reset", "latest"),
                ("topic.auto.commit.enable", "true"),
                ("metadata.broker.list", "elsewhere:1"),
            ]);
            let native = config.client.create_native_config().unwrap();
            check_owned(&config.owned, |name| native.get(name).ok()).unwrap();
        }
    }

    #[test]
    fn an_owned_value_that_is_not_in_effect_is_named() {
        let config = member_config(&[]);
        let native = config.client.create_native_config().unwrap();
        let effective = |name: &str| match name {
            "auto.offset.reset" => Some("largest".to_owned()),
            name => native.get(name).ok(),
        };

        let refused = check_owned(&config.owned, effective).unwrap_err();

        assert!(refused.contains("property=`auto.offset.reset` expected=`error`"), "{refused}");
    }

    #[test]
    fn addresses_that_name_no_broker_are_refused() {
        for good in ["b:1", "b", "a:1, b:65535,", "sasl_ssl://b:9093", "[::1]:9092", "[::1]"] {
            assert_eq!(parse_servers(good).as_deref(), Ok(good));
        }
        for wrong in ["", ",", ":9092", "b:0", "b:65536", "b:x", "b c:1", "http://b/x:1", "::1"] {
            assert!(parse_servers(wrong).is_err(), "{wrong}");
        }
    }
}
