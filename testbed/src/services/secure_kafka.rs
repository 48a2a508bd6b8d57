//! Broker with encryption, authentication and authorization, each on a listener of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{
    backend::Service as _,
    kafka::{Kafka, Listener, classes},
    port,
};
use crate::{
    certificates::{Authority, EXPIRED, VALID},
    program::Program,
    workspace,
};

/// Broker with these listeners, and one without encryption on which every client may do everything.
/// On the others, clients may do what ACLs allow.
#[derive(Debug)]
pub struct SecureKafka {
    kafka: Kafka,
    ports: Ports,
    authority: Authority,
    folder: TempDir,
}

/// Ports of the listeners.
#[derive(Debug, Clone, Copy)]
struct Ports {
    mtls: u16,
    sasl: u16,
    oauth: u16,
    expired: u16,
}

/// User for PLAIN and SCRAM.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// Name, which is also the principal of ACLs.
    pub name: &'static str,
    /// Password for PLAIN.
    pub password: &'static str,
    /// Password for SCRAM.
    pub scram_password: &'static str,
}

/// User of consumers.
pub const CONSUMER: User = User {
    name: "consumer",
    password: "kafc0n1@:/%'\"; kafc0n2",
    scram_password: "scrc0n1/:@%scrc0n2",
};
/// User of producers.
pub const PRODUCER: User = User {
    name: "producer",
    password: "kafpr01@:/%'\"; kafpr02",
    scram_password: "scrpr01/:@%scrpr02",
};
/// User of `ducktide`.
pub const OPERATOR: User = User {
    name: "operator",
    password: "kafop31@:/%'\"; kafop32",
    scram_password: "scrop31/:@%scrop32",
};

impl SecureKafka {
    /// Starts the broker as a process. Its log is `kafka.log` in the folder.
    pub fn start(logs: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ducktide-secure-kafka-").tempdir();
        let folder = folder.context("create a folder")?;
        let authority = Authority::new("authority")?;
        let file = |name: &str| folder.path().join(name);
        fs::write(file("ca.pem"), authority.pem()?).context("write a certificate")?;
        fs::write(file("other-ca.pem"), Authority::new("other")?.pem()?)
            .context("write a certificate")?;
        for (name, validity) in [("broker", VALID), ("expired-broker", EXPIRED)] {
            let issued = authority.issue("broker", validity)?;
            let keystore = [issued.key, issued.certificate].concat();
            fs::write(file(&format!("{name}.pem")), keystore).context("write a keystore")?;
        }
        let ports = Ports {
            mtls: port::free()?,
            sasl: port::free()?,
            oauth: port::free()?,
            expired: port::free()?,
        };
        let kafka =
            Kafka::start_with(logs, &ports.listeners(), &properties(folder.path()), &scram())?;
        Ok(Self { kafka, ports, authority, folder })
    }

    /// Returns the address of the listener on which every client may do everything.
    #[must_use]
    pub const fn admin(&self) -> &Kafka {
        &self.kafka
    }

    /// Returns the address of the listener that requires a client certificate.
    #[must_use]
    pub fn mtls(&self) -> String {
        address(self.ports.mtls)
    }

    /// Returns the address of the listener for PLAIN and SCRAM-SHA-512, over TLS.
    #[must_use]
    pub fn sasl(&self) -> String {
        address(self.ports.sasl)
    }

    /// Returns the address of the listener for unsigned tokens, over TLS.
    #[must_use]
    pub fn oauth(&self) -> String {
        address(self.ports.oauth)
    }

    /// Returns the address of a listener as [`sasl`](Self::sasl) whose certificate has expired.
    #[must_use]
    pub fn expired(&self) -> String {
        address(self.ports.expired)
    }

    /// Returns the authority that the broker trusts, and that has issued its certificates.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the file with the certificate of the authority.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Returns a file with the certificate of another authority.
    #[must_use]
    pub fn other_ca_file(&self) -> PathBuf {
        self.folder.path().join("other-ca.pem")
    }

    /// Returns the folder of the certificates, for further files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a client certificate and its key, and returns the paths of both files.
    pub fn client_certificate(
        &self,
        name: &str,
        validity: std::ops::Range<i64>,
    ) -> Result<(PathBuf, PathBuf)> {
        let issued = self.authority.issue(name, validity)?;
        let unique = uuid::Uuid::new_v4();
        let certificate = self.folder.path().join(format!("{name}-{unique}.pem"));
        let key = self.folder.path().join(format!("{name}-{unique}.key"));
        fs::write(&certificate, issued.certificate).context("write a certificate")?;
        fs::write(&key, issued.key).context("write a key")?;
        Ok((certificate, key))
    }

    /// Runs shell commands in which `kafka-acls.sh` is the tool of Kafka.
    pub fn run_acl_commands(&self, logs: &Path, commands: &str) -> Result<String> {
        let java = workspace::downloaded("java/bin/java")?;
        let script = format!(
            "kafka-acls.sh() {{ '{}' -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '{}' {ACL_TOOL} \"$@\"; }}\n\
             {commands}",
            java.display(),
            classes()?.display()
        );
        let program =
            Program::shell(&script).env("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers());
        program.run(logs, "kafka-acls", Duration::from_mins(2))
    }

    /// Returns an error unless the broker processes requests.
    pub fn check_ready(&self) -> Result<()> {
        self.kafka.check_ready()
    }
}

/// Class behind `kafka-acls.sh`.
const ACL_TOOL: &str = "org.apache.kafka.tools.AclCommand";

impl Ports {
    fn listeners(self) -> [Listener; 4] {
        let listener = |name, protocol, port| Listener { name, protocol, port };
        [
            listener("MTLS", "SSL", self.mtls),
            listener("SASL", "SASL_SSL", self.sasl),
            listener("OAUTH", "SASL_SSL", self.oauth),
            listener("EXPIRED", "SASL_SSL", self.expired),
        ]
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Arguments of the tool that formats the data folder: users of SCRAM.
fn scram() -> Vec<String> {
    let user = |user: User| {
        let User { name, scram_password, .. } = user;
        let users = format!("SCRAM-SHA-512=[name={name},password={scram_password}]");
        ["--add-scram".to_owned(), users]
    };
    [CONSUMER, PRODUCER, OPERATOR].into_iter().flat_map(user).collect()
}

fn properties(folder: &Path) -> Vec<(String, String)> {
    let pem = |name: &str| folder.join(name).display().to_string();
    let mut properties = Vec::new();
    let mut set = |name: &str, value: &str| properties.push((name.to_owned(), value.to_owned()));
    set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    // Clients of the listener without encryption.
    set("super.users", "User:ANONYMOUS");
    for (listener, keystore) in
        [("mtls", "broker"), ("sasl", "broker"), ("oauth", "broker"), ("expired", "expired-broker")]
    {
        let prefix = format!("listener.name.{listener}.");
        set(&format!("{prefix}ssl.keystore.type"), "PEM");
        set(&format!("{prefix}ssl.keystore.location"), &pem(&format!("{keystore}.pem")));
        set(&format!("{prefix}ssl.truststore.type"), "PEM");
        set(&format!("{prefix}ssl.truststore.location"), &pem("ca.pem"));
    }
    set("listener.name.mtls.ssl.client.auth", "required");
    set("listener.name.mtls.ssl.principal.mapping.rules", "RULE:^CN=([^,]+).*$/$1/");
    for listener in ["sasl", "expired"] {
        let prefix = format!("listener.name.{listener}.");
        set(&format!("{prefix}sasl.enabled.mechanisms"), "PLAIN,SCRAM-SHA-512");
        set(&format!("{prefix}plain.sasl.jaas.config"), &plain_users());
        set(
            &format!("{prefix}scram-sha-512.sasl.jaas.config"),
            "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        );
    }
    set("listener.name.oauth.sasl.enabled.mechanisms", "OAUTHBEARER");
    set(
        "listener.name.oauth.oauthbearer.sasl.jaas.config",
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
    );
    properties
}

fn plain_users() -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let user = |user: User| format!(" user_{}=\"{}\"", user.name, quoted(user.password));
    let users: String = [CONSUMER, PRODUCER, OPERATOR].into_iter().map(user).collect();
    format!("org.apache.kafka.common.security.plain.PlainLoginModule required{users};")
}
