//! Encryption, authentication and authorization: the documented settings and ACLs suffice, each
//! wrong setting has one clear error, and no secret is printed.

mod connections;
mod endpoints;
mod names;
mod refusals;
mod registry;
mod secrets;
mod token_server;

use std::path::Path;

use ducktide_testbed::program::Program;
use ducktide_testbed::services::{SecureKafka, User};

/// Environment variables of a client.
type Settings = Vec<(&'static str, String)>;

fn with(program: Program, settings: &Settings) -> Program {
    settings.iter().fold(program, |program, (name, value)| program.env(*name, value))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Returns the settings of a client that verifies the brokers.
fn tls(kafka: &SecureKafka, protocol: &str) -> Settings {
    vec![
        ("KAFKA_SECURITY_PROTOCOL", protocol.to_owned()),
        ("KAFKA_SSL_CA_LOCATION", text(&kafka.ca_file())),
    ]
}

fn plain(kafka: &SecureKafka, user: User) -> Settings {
    let mut settings = tls(kafka, "sasl_ssl");
    settings.extend([
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.sasl()),
        ("KAFKA_SASL_MECHANISM", "PLAIN".to_owned()),
        ("KAFKA_SASL_USERNAME", user.name.to_owned()),
        ("KAFKA_SASL_PASSWORD", user.password.to_owned()),
    ]);
    settings
}

/// Returns settings with the password in a file.
fn scram(kafka: &SecureKafka, user: User) -> Settings {
    let file = kafka.folder().join(format!("{}.password", user.name));
    std::fs::write(&file, format!("{}\n", user.scram_password)).unwrap();
    let mut settings = tls(kafka, "sasl_ssl");
    settings.extend([
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.sasl()),
        ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512".to_owned()),
        ("KAFKA_SASL_USERNAME", user.name.to_owned()),
        ("KAFKA_SASL_PASSWORD_FILE", text(&file)),
    ]);
    settings
}

fn mtls(kafka: &SecureKafka, name: &str, validity: std::ops::Range<i64>) -> Settings {
    let (certificate, key) = kafka.client_certificate(name, validity).unwrap();
    let mut settings = tls(kafka, "ssl");
    settings.extend([
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.mtls()),
        ("KAFKA_SSL_CERTIFICATE_LOCATION", text(&certificate)),
        ("KAFKA_SSL_KEY_LOCATION", text(&key)),
    ]);
    settings
}

fn oauth(kafka: &SecureKafka, endpoint: &str, client: &str, secret: &str) -> Settings {
    let mut settings = tls(kafka, "sasl_ssl");
    settings.extend([
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.oauth()),
        ("KAFKA_SASL_MECHANISM", "OAUTHBEARER".to_owned()),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", endpoint.to_owned()),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", client.to_owned()),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", secret.to_owned()),
        ("KAFKA_SASL_OAUTHBEARER_SCOPE", "kafka".to_owned()),
    ]);
    settings
}

/// Returns the shell blocks of a section of docs/security.md.
fn documented_commands(heading: &str) -> String {
    let page = ducktide_testbed::workspace::root().join("docs/security.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split(heading).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = ducktide_testbed::markdown::code_blocks(section);
    let shell = blocks.into_iter().filter(|block| block.language == "sh");
    shell.map(|block| block.text + "\n").collect()
}
