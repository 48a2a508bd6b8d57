use clap::Parser;

use crate::args::KafkaArgs;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    kafka: KafkaArgs,
}

fn kafka(flags: &[&str]) -> KafkaArgs {
    Line::try_parse_from(["line"].iter().chain(flags)).unwrap().kafka
}

fn error(flags: &[&str]) -> String {
    kafka(flags).client_config(&[], &[]).unwrap_err().to_string()
}

/// Writes a file and returns its path.
fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

const SASL: [&str; 4] = [
    "--kafka-security-protocol=SASL_SSL",
    "--kafka-sasl-mechanism=PLAIN",
    "--kafka-sasl-username=a",
    "--kafka-sasl-password=b",
];

#[test]
fn each_setting_is_a_property_of_librdkafka() {
    let folder = tempfile::tempdir().unwrap();
    let pem = file(&folder, "any.pem", "x");
    let password = file(&folder, "password", "p@:/%'\";s w\n");
    let kafka = kafka(&[
        "--kafka-security-protocol=sasl_ssl",
        "--kafka-sasl-mechanism=scram-sha-512",
        "--kafka-sasl-username=me",
        &format!("--kafka-sasl-password-file={password}"),
        &format!("--kafka-ssl-ca-location={pem}"),
        &format!("--kafka-ssl-certificate-location={pem}"),
        &format!("--kafka-ssl-key-location={pem}"),
        "--kafka-ssl-key-password=k",
    ]);

    let native = kafka.client_config(&[], &[]).unwrap().config.create_native_config().unwrap();

    for (property, value) in [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "me"),
        ("sasl.password", "p@:/%'\";s w"),
        ("ssl.ca.location", &pem),
        ("ssl.certificate.location", &pem),
        ("ssl.key.location", &pem),
        ("ssl.key.password", "k"),
    ] {
        assert_eq!(native.get(property).unwrap(), value, "{property}");
    }
}

#[test]
fn a_printed_command_has_every_setting_but_the_secrets() {
    let flags = [&SASL[..], &["--kafka-ssl-key-password-file=/run/key"]].concat();
    let security = kafka(&flags).security;

    let options: Vec<_> = security.public_options().collect();

    assert_eq!(
        options,
        [
            ("--kafka-security-protocol", "sasl_ssl".to_owned()),
            ("--kafka-sasl-mechanism", "PLAIN".to_owned()),
            ("--kafka-sasl-username", "a".to_owned()),
            ("--kafka-ssl-key-password-file", "/run/key".to_owned()),
        ]
    );
    assert!(security.has_secrets());
}

#[test]
fn an_empty_value_is_not_set() {
    let flags = [
        "--kafka-sasl-username=",
        "--kafka-sasl-password=",
        "--kafka-ssl-ca-location=",
        "--kafka-sasl-password-file=",
        "--kafka-ssl-key-password-file=",
    ];
    kafka(&flags).client_config(&[], &[]).unwrap();
}

#[test]
fn settings_that_do_not_fit_together_are_named() {
    for (flags, expected) in [
        (&["--kafka-sasl-username=a"][..], "KAFKA_SASL_USERNAME has no effect"),
        (&["--kafka-ssl-ca-location=/"], "KAFKA_SSL_CA_LOCATION has no effect"),
        (
            &["--kafka-security-protocol=ssl", "--kafka-sasl-password=s3cret"],
            "KAFKA_SASL_PASSWORD has no effect; set KAFKA_SECURITY_PROTOCOL to sasl_ssl",
        ),
        (&SASL[..1], "set KAFKA_SASL_MECHANISM"),
        (&["--kafka-property=security.protocol=sasl_plaintext"], "set KAFKA_SASL_MECHANISM"),
        (&SASL[..2], "set KAFKA_SASL_USERNAME: the mechanism PLAIN requires it"),
        (&SASL[..3], "set KAFKA_SASL_PASSWORD: the mechanism PLAIN requires it"),
        (
            &["--kafka-security-protocol=ssl", "--kafka-ssl-certificate-location=/"],
            "set KAFKA_SSL_KEY_LOCATION",
        ),
        (
            &["--kafka-security-protocol=ssl", "--kafka-ssl-key-location=/"],
            "set KAFKA_SSL_CERTIFICATE_LOCATION",
        ),
        (
            &["--kafka-security-protocol=ssl", "--kafka-ssl-ca-location=/no/such"],
            "read KAFKA_SSL_CA_LOCATION: No such file",
        ),
        (&[&SASL[..], &["--kafka-property=sasl.mechanisms=PLAIN"]].concat(), "are both set"),
        (
            &[&SASL[..], &["--kafka-sasl-password-file=/x"]].concat(),
            "KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set",
        ),
    ] {
        let error = error(flags);
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn oauthbearer_needs_an_endpoint_and_a_client() {
    let sasl = ["--kafka-security-protocol=sasl_ssl", "--kafka-sasl-mechanism=oauthbearer"];
    let endpoint = "--kafka-sasl-oauthbearer-token-endpoint-url=https://a/token";
    let client = "--kafka-sasl-oauthbearer-client-id=me";
    let secret = "--kafka-sasl-oauthbearer-client-secret=let-me-in";
    for (flags, missing) in [
        (&[][..], "set KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: the mechanism OAUTHBEARER"),
        (&[endpoint], "set KAFKA_SASL_OAUTHBEARER_CLIENT_ID"),
        (&[endpoint, client], "set KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET"),
    ] {
        let error = error(&[&sasl[..], flags].concat());
        assert!(error.starts_with(missing), "{error}");
    }
    let connection = kafka(&[&sasl[..], &[endpoint, client, secret]].concat());
    let connection = connection.client_config(&[], &[]).unwrap();
    assert_eq!(connection.tokens.as_ref().unwrap().client_id, "me");
    assert!(!format!("{:?}", connection.tokens).contains("let-me-in"));
    let other = error(&[&SASL[..], &[endpoint]].concat());
    assert!(other.contains("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL has no effect"), "{other}");
}

#[test]
fn properties_are_a_substitute_for_settings() {
    let properties = "sasl.username=a;sasl.password=b;sasl.mechanisms=PLAIN";
    let flags = ["--kafka-security-protocol=sasl_ssl", "--kafka-property", properties];
    kafka(&flags).client_config(&[], &[]).unwrap();
}

#[test]
fn secrets_are_not_shown() {
    let kafka = kafka(&["--kafka-sasl-password=let-me-in", "--kafka-ssl-key-password=let-me-in"]);
    assert!(!format!("{kafka:?}").contains("let-me-in"));
}
