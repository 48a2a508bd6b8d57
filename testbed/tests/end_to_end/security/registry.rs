//! The schema registry behind a TLS end point: own authority, client certificate, basic and bearer
//! authentication, for producer and consumer.

use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use ducktide_testbed::catalog::CatalogKind;
use ducktide_testbed::certificates::{Authority, VALID};
use ducktide_testbed::pipeline::{Pipeline, WAIT_TIMEOUT};
use ducktide_testbed::services::{Service as _, shared_registry};
use ducktide_testbed::tls_proxy::{AcceptedClients, TlsProxy};

use super::{Settings, text, with};

/// `me:p@:/%'";s w` in base64.
const BASIC: &str = "Basic bWU6cEA6LyUnIjtzIHc=";
const PASSWORD: &str = "p@:/%'\";s w";
const TOKEN: &str = "t0ken-._~+/=";

/// TLS end points, and the settings of a client that each accepts.
struct EndPoints {
    basic: TlsProxy,
    bearer: TlsProxy,
    mtls: TlsProxy,
}

fn start(folder: &Path, authority: &Authority) -> EndPoints {
    let service = shared_registry().port();
    let ca_file = folder.join("ca.pem");
    fs::write(&ca_file, authority.pem().unwrap()).unwrap();
    let certificate = authority.issue("registry", VALID).unwrap();
    let start = |authorization: Option<&str>, with_certificate| {
        let authorization = authorization.map(str::to_owned);
        let clients = AcceptedClients { authorization, with_certificate };
        TlsProxy::start(service, &certificate, &ca_file, clients).unwrap()
    };
    EndPoints {
        basic: start(Some(BASIC), false),
        bearer: start(Some(&format!("Bearer {TOKEN}")), false),
        mtls: start(None, true),
    }
}

/// Settings of a client of one end point that trusts its authority.
fn settings(folder: &Path, proxy: &TlsProxy, more: &[(&'static str, &str)]) -> Settings {
    let mut settings = vec![
        ("SCHEMA_REGISTRY_URL", url(proxy)),
        ("SCHEMA_REGISTRY_SSL_CA_LOCATION", text(&folder.join("ca.pem"))),
    ];
    settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    settings
}

fn url(proxy: &TlsProxy) -> String {
    shared_registry().url_at(proxy.port()).replace("http://", "https://")
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn producer_and_consumer_use_a_registry_behind_tls() {
    shared_registry().check_ready().unwrap();
    let mut pipeline = Pipeline::on_shared_services("registry_tls", CatalogKind::Sqlite).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("registry-authority").unwrap();
    let points = start(folder.path(), &authority);
    let client = authority.issue("client", VALID).unwrap();
    let (certificate, key) = (folder.path().join("client.pem"), folder.path().join("client.key"));
    fs::write(&certificate, client.certificate).unwrap();
    fs::write(&key, client.key).unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, format!("{TOKEN}\n")).unwrap();

    let basic = [("SCHEMA_REGISTRY_USER", "me"), ("SCHEMA_REGISTRY_PASSWORD", PASSWORD)];
    let (certificate, key) = (text(&certificate), text(&key));
    let mtls = [
        ("SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION", &*certificate),
        ("SCHEMA_REGISTRY_SSL_KEY_LOCATION", &*key),
    ];
    let token_file = text(&token_file);
    let bearer = [("SCHEMA_REGISTRY_TOKEN_FILE", &*token_file)];
    let accepted = [
        settings(folder.path(), &points.basic, &basic),
        settings(folder.path(), &points.bearer, &bearer),
        settings(folder.path(), &points.mtls, &mtls),
    ];
    for (round, settings) in (1..).zip(&accepted) {
        settings[0].1.clone_into(&mut pipeline.schema_registry_url);
        let producer = with(pipeline.producer(&["--rows", "50"]).unwrap(), settings);
        producer.run(pipeline.logs(), "producer", WAIT_TIMEOUT).unwrap();
        let consumer = pipeline.consumer(&pipeline.catalog).unwrap().args(["--until-end"]);
        with(consumer, settings).run(pipeline.logs(), "consumer", WAIT_TIMEOUT).unwrap();
        pipeline.check_exact(50 * round).unwrap();
    }
    check_refusals(&pipeline, folder.path(), &points);
}

/// Each wrong setting is named by producer and consumer alike.
fn check_refusals(pipeline: &Pipeline, folder: &Path, points: &EndPoints) {
    let other = folder.join("other-ca.pem");
    fs::write(&other, Authority::new("other").unwrap().pem().unwrap()).unwrap();
    let other = text(&other);
    let wrong = [("SCHEMA_REGISTRY_USER", "me"), ("SCHEMA_REGISTRY_PASSWORD", "wr0ng-one")];
    let untrusted = vec![
        ("SCHEMA_REGISTRY_URL", url(&points.basic)),
        ("SCHEMA_REGISTRY_SSL_CA_LOCATION", other),
    ];
    let cases = [
        (settings(folder, &points.basic, &wrong), "SCHEMA_REGISTRY_PASSWORD"),
        (settings(folder, &points.bearer, &[]), "SCHEMA_REGISTRY_TOKEN"),
        (untrusted, "SCHEMA_REGISTRY_SSL_CA_LOCATION"),
        (settings(folder, &points.mtls, &[]), "SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION"),
    ];
    thread::scope(|scope| {
        for (number, (settings, expected)) in cases.iter().enumerate() {
            scope.spawn(move || {
                let mut pipeline = Pipeline::new(
                    &pipeline.topic,
                    &pipeline.bootstrap_servers,
                    &settings[0].1,
                    None,
                )
                .unwrap();
                pipeline.group = format!("{}-{number}", pipeline.topic);
                let producer = pipeline.producer(&["--rows", "1", "--connect-timeout", "3"]);
                let mut running = with(producer.unwrap(), settings)
                    .start(pipeline.logs(), &format!("producer-refused-{number}"))
                    .unwrap();
                let status = running.wait(Duration::from_mins(1)).unwrap().status;
                assert!(!status.success(), "{expected}");
                let log = running.log().unwrap();
                assert!(log.contains(expected) && !log.contains("wr0ng-one"), "{expected}: {log}");
                let consumer = with(pipeline.consumer(&pipeline.catalog).unwrap(), settings);
                let worker =
                    pipeline.start_worker(&format!("worker-refused-{number}"), consumer).unwrap();
                worker.await_unready(expected).unwrap();
            });
        }
    });
}
