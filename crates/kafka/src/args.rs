//! Settings of the connection, and the librdkafka configuration that they result in.

use std::sync::Arc;

use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use thiserror::Error;

use crate::oauth::OAuthTokens;
use crate::property::{PropertyList, canonical_name, merge};
use crate::security::{SecurityArgs, SecurityError};

/// Name of a property that users cannot set, and the alternative or reason. Aliases of the name are
/// rejected too.
pub type OwnedProperty = (&'static str, &'static str);

/// Configuration of a client, and the source of its tokens.
#[derive(Clone, Debug)]
pub struct Connection {
    /// librdkafka's configuration.
    pub config: ClientConfig,
    /// Source of tokens for OAUTHBEARER.
    pub tokens: Option<Arc<OAuthTokens>>,
}

impl From<ClientConfig> for Connection {
    fn from(config: ClientConfig) -> Self {
        Self { config, tokens: None }
    }
}

/// Kafka settings.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// Initial brokers, separated by commas.
    #[arg(
        long,
        env = "KAFKA_BOOTSTRAP_SERVERS",
        value_name = "HOST:PORT,...",
        default_value = "localhost:9092",
        value_parser = parse_servers
    )]
    pub bootstrap_servers: String,

    /// Additional librdkafka property, such as `socket.timeout.ms=10000`. Can be repeated, or
    /// contain a list separated by semicolons (`\;` within a value). Properties on which the
    /// guarantee depends are rejected.
    #[arg(long = "kafka-property", env = "KAFKA_PROPERTIES", value_name = "KEY=VALUE",
          value_parser = PropertyList::parse, hide_env_values = true)]
    pub kafka_properties: Vec<PropertyList>,

    /// Encryption and authentication.
    #[command(flatten)]
    pub security: SecurityArgs,
}

/// Invalid setting of the Kafka client.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KafkaSettingsError {
    /// A property that Ducktide sets.
    #[error("--kafka-property or KAFKA_PROPERTIES: `{property}` cannot be set: {remedy}")]
    Owned {
        /// Name as given.
        property: String,
        /// Alternative or reason.
        remedy: &'static str,
    },
    /// The text is not a list of properties.
    #[error("--kafka-property or KAFKA_PROPERTIES: {0}")]
    Syntax(String),
    /// librdkafka rejects a property.
    #[error("--kafka-property or KAFKA_PROPERTIES: rejected by librdkafka: {0}")]
    Refused(String),
    /// A setting of encryption or authentication is invalid or missing.
    #[error(transparent)]
    Security(#[from] SecurityError),
}

impl KafkaArgs {
    /// Returns the configuration of a client without a group, with these defaults. Each property
    /// occurs under one name only, because librdkafka receives them in no particular order.
    ///
    /// Reads the files of secrets, so that a new client uses a changed password.
    pub fn client_config(
        &self,
        owned: &[OwnedProperty],
        defaults: &[(&str, &str)],
    ) -> Result<Connection, KafkaSettingsError> {
        let mut given = merge(&self.kafka_properties).map_err(KafkaSettingsError::Syntax)?;
        for (name, _) in &given {
            refuse_owned(name, owned)?;
        }
        self.security.add_to(&mut given)?;
        let tokens = self.security.tokens(&given)?.map(Arc::new);
        let mut config = ClientConfig::new();
        for (name, value) in &given {
            config.set(name, value);
        }
        for (name, value) in defaults {
            set_default(&mut config, name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        // Rejects unknown properties and invalid values.
        match config.create_native_config() {
            Ok(_) => Ok(Connection { config, tokens }),
            Err(error) => Err(KafkaSettingsError::Refused(without_value(&error))),
        }
    }
}

/// Returns the reason of librdkafka without the value that rdkafka adds, which may be a secret.
#[must_use]
pub fn without_value(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, name, _) => {
            format!("{reason}: property=`{name}`")
        }
        other => other.to_string(),
    }
}

fn refuse_owned(name: &str, owned: &[OwnedProperty]) -> Result<(), KafkaSettingsError> {
    let canonical = canonical_name(name);
    match owned.iter().find(|(owned, _)| *owned == canonical) {
        Some((_, remedy)) => Err(KafkaSettingsError::Owned { property: name.to_owned(), remedy }),
        None => Ok(()),
    }
}

/// Sets a property unless it was given, under any of its names.
pub fn set_default(config: &mut ClientConfig, name: &str, value: &str) {
    let is_set = config.config_map().keys().any(|set| canonical_name(set) == canonical_name(name));
    if !is_set {
        config.set(name, value);
    }
}

/// Checks that each entry of a comma-separated list is `host`, `host:port` or
/// `protocol://host:port`. librdkafka ignores entries that it cannot parse, and a client without
/// brokers would never connect.
fn parse_servers(text: &str) -> Result<String, String> {
    let servers = text.split(',').map(str::trim).filter(|server| !server.is_empty());
    let mut count = 0;
    for server in servers {
        let address = server.split_once("://").map_or(server, |(_, address)| address);
        // IPv6 addresses are in brackets.
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

    const OWNED: [OwnedProperty; 3] = [
        ("bootstrap.servers", "use --bootstrap-servers"),
        ("auto.offset.reset", "reason"),
        ("acks", "reason"),
    ];

    fn config(properties: &str) -> Result<ClientConfig, KafkaSettingsError> {
        let kafka = KafkaArgs {
            bootstrap_servers: "b:1".to_owned(),
            kafka_properties: vec![PropertyList::parse(properties).unwrap()],
            security: SecurityArgs::default(),
        };
        let defaults = [("queued.min.messages", "7"), ("linger.ms", "20")];
        Ok(kafka.client_config(&OWNED, &defaults)?.config)
    }

    fn refusal(properties: &str) -> String {
        config(properties).unwrap_err().to_string()
    }

    #[test]
    fn owned_properties_are_rejected_under_every_name() {
        for name in [
            "auto.offset.reset",
            "topic.auto.offset.reset",
            "metadata.broker.list",
            "bootstrap.servers",
            "topic.request.required.acks",
        ] {
            let refused = refusal(&format!("{name}=x"));
            assert!(refused.contains(&format!("`{name}` cannot be set")), "{refused}");
        }
    }

    #[test]
    fn an_invalid_property_is_rejected_without_printing_its_value() {
        let unknown = refusal("sasl.no-such=secret");
        assert!(unknown.contains("sasl.no-such") && !unknown.contains("=secret"), "{unknown}");
        let invalid = refusal("socket.timeout.ms=soon");
        assert!(invalid.contains("socket.timeout.ms"), "{invalid}");
    }

    #[test]
    fn a_given_property_replaces_a_default_under_every_name() {
        let config = config("queued.min.messages=5;queue.buffering.max.ms=9").unwrap();

        assert_eq!(config.get("queued.min.messages"), Some("5"));
        let native = config.create_native_config().unwrap();
        assert_eq!(native.get("linger.ms").unwrap(), "9");
    }

    #[test]
    fn invalid_broker_addresses_are_rejected() {
        for good in ["b:1", "b", "a:1, b:65535,", "sasl_ssl://b:9093", "[::1]:9092", "[::1]"] {
            assert_eq!(parse_servers(good).as_deref(), Ok(good));
        }
        for wrong in ["", ",", ":9092", "b:0", "b:65536", "b:x", "b c:1", "http://b/x:1", "::1"] {
            assert!(parse_servers(wrong).is_err(), "{wrong}");
        }
    }
}
