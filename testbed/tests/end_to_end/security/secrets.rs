//! No secret is printed: logs at the most detailed level, standard output, help, metrics, process
//! list, catalog and the output of a crash are searched for them.

use std::path::Path;
use std::time::Duration;
use std::{fs, iter};

use ducktide_testbed::certificates::VALID;
use ducktide_testbed::pipeline::{Pipeline, WAIT_TIMEOUT};
use ducktide_testbed::program::Program;
use ducktide_testbed::services::{
    CONSUMER, OPERATOR, PRODUCER, SecureKafka, User, log_folder, shared_postgres, shared_registry,
};
use ducktide_testbed::tls_proxy::{AcceptedClients, TlsProxy};
use openssl::base64;

use super::token_server::{SECRET, TokenServer};
use super::{Settings, documented_commands, oauth, plain, scram, text, with};

/// Password for PostgreSQL, which accepts any.
const CATALOG_PASSWORD: &str = "pgs3c1@:/%'\"; pgs3c2";
const REGISTRY_USER: &str = "me";
const REGISTRY_PASSWORD: &str = "regs3c1@:/%'\"; regs3c2";
const METRICS_TOKEN: &str = "mets3c1@:/%'\"; mets3c2";

/// Returns texts that no output may contain: the parts of a secret without special characters, which
/// no quoting changes, and the secret in base64.
fn forbidden() -> Vec<String> {
    let users = [CONSUMER, PRODUCER, OPERATOR];
    let passwords = users.iter().flat_map(|user| [user.password, user.scram_password]);
    let others = [CATALOG_PASSWORD, REGISTRY_PASSWORD, METRICS_TOKEN, SECRET];
    let mut texts = Vec::new();
    for secret in passwords.chain(others) {
        let parts = secret.split(|character: char| !character.is_ascii_alphanumeric());
        texts.extend(parts.filter(|part| part.len() >= 6).map(str::to_owned));
        let encoded = base64::encode_block(secret.as_bytes());
        texts.push(encoded.trim_end_matches('=').to_owned());
    }
    let basic = base64::encode_block(format!("{REGISTRY_USER}:{REGISTRY_PASSWORD}").as_bytes());
    texts.push(basic.trim_end_matches('=').to_owned());
    texts
}

/// Settings of every program: the most detailed log, backtraces, all secrets in variables.
fn settings(kafka: Settings, proxy: &TlsProxy, ca_file: &Path, postgres: &str) -> Settings {
    let registry = shared_registry().url_at(proxy.port()).replace("http://", "https://");
    let mut settings = kafka;
    settings.extend([
        ("RUST_LOG", "trace".to_owned()),
        ("RUST_BACKTRACE", "full".to_owned()),
        // The most detailed log of librdkafka.
        ("KAFKA_PROPERTIES", "debug=all".to_owned()),
        ("SCHEMA_REGISTRY_URL", registry),
        ("SCHEMA_REGISTRY_SSL_CA_LOCATION", text(ca_file)),
        ("SCHEMA_REGISTRY_USER", REGISTRY_USER.to_owned()),
        ("SCHEMA_REGISTRY_PASSWORD", REGISTRY_PASSWORD.to_owned()),
        ("DUCKTIDE_METRICS_TOKEN", METRICS_TOKEN.to_owned()),
        ("DUCKLAKE_CATALOG", postgres.to_owned()),
    ]);
    settings
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn no_secret_is_printed() {
    let logs = log_folder().unwrap().join("secrets");
    let kafka = SecureKafka::start(&logs.join("broker")).unwrap();
    let tokens = TokenServer::start().unwrap();
    kafka.run_acl_commands(&logs.join("broker"), &documented_commands("## ACLs")).unwrap();
    let clients = AcceptedClients {
        authorization: Some(format!(
            "Basic {}",
            base64::encode_block(format!("{REGISTRY_USER}:{REGISTRY_PASSWORD}").as_bytes())
        )),
        with_certificate: false,
    };
    let certificate = kafka.authority().issue("registry", VALID).unwrap();
    let proxy =
        TlsProxy::start(shared_registry().port(), &certificate, &kafka.ca_file(), clients).unwrap();
    let database = shared_postgres().create_database("secrets").unwrap();
    let encoded = CATALOG_PASSWORD.bytes().map(|byte| format!("%{byte:02X}"));
    let encoded = encoded.collect::<Vec<_>>().concat();
    let catalog = with_password(&database, &encoded);
    let pipeline = Pipeline::new("events", "", "", Some(catalog.clone())).unwrap();

    let of = |user: User, kafka_settings: fn(&SecureKafka, User) -> Settings| {
        settings(kafka_settings(&kafka, user), &proxy, &kafka.ca_file(), &catalog)
    };
    let oauth = settings(
        oauth(&kafka, &tokens.endpoint, CONSUMER.name, SECRET),
        &proxy,
        &kafka.ca_file(),
        &catalog,
    );
    let run = Run { logs: &logs, pipeline: &pipeline };
    run.producer("producer-plain", &of(PRODUCER, plain));
    run.producer("producer-scram", &of(PRODUCER, scram));
    run.worker("worker-plain", &of(CONSUMER, plain));
    run.until_end("consumer-scram", &of(CONSUMER, scram));
    run.until_end("consumer-oauth", &oauth);
    run.failures(&of(CONSUMER, plain), &oauth);
    run.tools(&of(OPERATOR, plain));
    search(&logs, &database);
}

/// Adds a password to a URL such as `postgres://user@host/database`.
fn with_password(url: &str, password: &str) -> String {
    let (user, rest) = url.split_once('@').unwrap();
    let user = user.rsplit_once("//").map_or(user, |(_, user)| user);
    let user = user.split(':').next().unwrap();
    format!("postgres://{user}:{password}@{rest}")
}

struct Run<'a> {
    logs: &'a Path,
    pipeline: &'a Pipeline,
}

impl Run<'_> {
    fn program(&self, name: &str, settings: &Settings, arguments: &[&str]) -> Program {
        let program = Program::named(name).unwrap().args(arguments);
        let program = program.env("DUCKLAKE_DATA_PATH", self.pipeline.data_path());
        with(program, settings)
    }

    fn producer(&self, label: &str, settings: &Settings) {
        let arguments = ["--topic", "events", "--partitions", "2", "--rows", "20"];
        let producer = self.program("ducktide-producer", settings, &arguments);
        producer.run(self.logs, label, WAIT_TIMEOUT).unwrap();
    }

    fn consumer(&self, settings: &Settings, arguments: &[&str]) -> Program {
        let fixed = ["--topics", "events", "--group-id", "ducktide"];
        self.program("ducktide-consumer", settings, &[&fixed, arguments].concat())
    }

    fn until_end(&self, label: &str, settings: &Settings) {
        self.consumer(settings, &["--until-end"]).run(self.logs, label, WAIT_TIMEOUT).unwrap();
    }

    /// Stores the metrics and the process list of a running worker, and ends it by a crash.
    fn worker(&self, label: &str, settings: &Settings) {
        let consumer = self.consumer(settings, &[]);
        let consumer = consumer.env("DUCKTIDE_FAILPOINTS", "commit_answered=crash");
        let mut worker = self.pipeline.start_worker(label, consumer).unwrap();
        let id = worker.process().id();
        let command_line = fs::read(format!("/proc/{id}/cmdline")).unwrap();
        fs::write(self.logs.join(format!("{label}.cmdline")), command_line).unwrap();
        worker.process().wait(WAIT_TIMEOUT).unwrap();
        let consumer = self.consumer(settings, &[]);
        let mut worker = self.pipeline.start_worker(label, consumer).unwrap();
        worker.await_ready(true).unwrap();
        assert!(worker.metrics().unwrap_err().to_string().contains("401"));
        worker.stop().unwrap();
        // Their logs are in the folder of the pipeline.
        let log = fs::read(self.pipeline.logs().join(format!("{label}.log"))).unwrap();
        fs::write(self.logs.join(format!("{label}.log")), log).unwrap();
    }

    /// Programs that fail with all secrets set.
    fn failures(&self, plain: &Settings, oauth: &Settings) {
        let replaced = |settings: &Settings, name: &'static str, value: &str| -> Settings {
            let kept = settings.iter().filter(|(existing, _)| *existing != name).cloned();
            kept.chain(iter::once((name, value.to_owned()))).collect()
        };
        let away = "127.0.0.1:1";
        for (label, settings) in [
            ("failed-kafka", replaced(plain, "KAFKA_BOOTSTRAP_SERVERS", away)),
            ("failed-registry", replaced(plain, "SCHEMA_REGISTRY_URL", "https://127.0.0.1:1")),
            ("failed-ca", replaced(plain, "KAFKA_SSL_CA_LOCATION", "/no/such/file")),
            (
                "failed-token",
                replaced(oauth, "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "http://127.0.0.1:1"),
            ),
            ("failed-both", replaced(plain, "KAFKA_SASL_PASSWORD_FILE", "/no/such/file")),
            ("failed-catalog", {
                let (head, _) = plain
                    .iter()
                    .find(|(name, _)| *name == "DUCKLAKE_CATALOG")
                    .and_then(|(_, url)| url.rsplit_once('@'))
                    .unwrap();
                replaced(plain, "DUCKLAKE_CATALOG", &format!("{head}@127.0.0.1:1/none"))
            }),
            (
                "failed-url",
                replaced(plain, "DUCKLAKE_CATALOG", &format!("postgres://a:{CATALOG_PASSWORD}")),
            ),
        ] {
            let consumer = self.consumer(&settings, &["--until-end"]);
            let mut running = consumer.start(self.logs, label).unwrap();
            // Some wait for an outage to end.
            if running.wait(Duration::from_secs(8)).is_err() {
                running.kill().unwrap();
            }
            let producer =
                self.program("ducktide-producer", &settings, &["--connect-timeout", "2"]);
            let producer = producer.args(["--topic", "events", "--rows", "1"]);
            let label = format!("{label}-producer");
            producer.start(self.logs, &label).unwrap().wait(WAIT_TIMEOUT).unwrap();
        }
    }

    fn tools(&self, settings: &Settings) {
        for (number, arguments) in [
            &["status"][..],
            &["status", "--json"],
            &["verify", "--deep"],
            &["attach"],
            &["sql", "SELECT * FROM duckdb_databases()"],
            &["sql", "SELECT * FROM duckdb_secrets()"],
            &["sql", "not SQL"],
            &["replay", "--topic", "events", "--from-beginning", "--into", "other", "--dry-run"],
            &["skip", "--help"],
            &["replay", "--help"],
            &["status", "--no-such-flag"],
        ]
        .iter()
        .enumerate()
        {
            let tool = self.program("ducktide", settings, arguments);
            let mut running = tool.start(self.logs, &format!("ducktide-{number}")).unwrap();
            running.wait(WAIT_TIMEOUT).unwrap();
        }
        for (label, name, arguments) in [
            ("compactor", "ducktide-compactor", &["once"][..]),
            ("help-compactor", "ducktide-compactor", &["run", "--help"]),
            ("help-consumer", "ducktide-consumer", &["--help"]),
            ("help-producer", "ducktide-producer", &["--help"]),
        ] {
            let program = self.program(name, settings, arguments);
            program.run(self.logs, label, WAIT_TIMEOUT).unwrap();
        }
    }
}

/// Searches all files of the folder, and a dump of the catalog.
fn search(logs: &Path, database: &str) {
    let forbidden = forbidden();
    let mut searched = 0;
    let mut found = Vec::new();
    let mut check = |source: String, text: &str| {
        searched += text.len();
        let secrets = forbidden.iter().filter(|secret| text.contains(secret.as_str()));
        found.extend(secrets.map(|secret| {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            let line: String = line.unwrap_or_default().chars().take(300).collect();
            format!("{source}: {secret}: {line}")
        }));
    };
    for entry in fs::read_dir(logs).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            check(path.display().to_string(), &String::from_utf8_lossy(&bytes));
        }
    }
    let mut client = postgres::Client::connect(database, postgres::NoTls).unwrap();
    let tables = client
        .query("SELECT schemaname || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'", &[])
        .unwrap();
    for table in tables {
        let table: String = table.get(0);
        for row in client.query(&format!("SELECT t::text FROM {table} t"), &[]).unwrap() {
            check(table.clone(), row.get(0));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(searched > 1_000_000, "only {searched} bytes were printed");
}
