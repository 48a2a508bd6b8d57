//! The client with a registry of fixed answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use ducktide_protocol::table::{AvroType, TableShape, UnionAs};
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::{X509, X509Name};

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Server that answers each request by its path, and records its headers.
struct Canned {
    url: String,
    asked: mpsc::Receiver<String>,
}

impl Canned {
    fn start(answer: Answer) -> Self {
        Self::start_with(move |path| {
            let (status, body) = answer(path);
            (status, body.to_owned())
        })
    }

    fn start_with(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, asked) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming() {
                let _ = serve(&client.unwrap(), &answer, &requests);
            }
        });
        Self { url, asked }
    }

    fn client(&self, arguments: &[&str]) -> SchemaRegistry {
        client_of(&[&["--schema-registry-url", &self.url], arguments].concat())
    }
}

fn client_of(arguments: &[&str]) -> SchemaRegistry {
    let line = Line::try_parse_from([&["test"], arguments].concat()).unwrap();
    SchemaRegistry::new(&line.registry).unwrap()
}

/// Returns whether an error is of a variant.
macro_rules! is {
    ($error:expr, $variant:ident) => {
        matches!($error, RegistryError::$variant(_))
    };
}

fn serve(
    client: &TcpStream,
    answer: &dyn Fn(&str) -> (u16, String),
    requests: &mpsc::Sender<String>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    let headers: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let _ = requests.send(headers.join("\n"));
    let (status, body) = answer(request.split(' ').nth(1).unwrap_or_default());
    let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
    let mut client = client;
    client.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes())
}

fn ask(client: &SchemaRegistry) -> Result<AvroSchema, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client.by_id(7))
}

type Answer = fn(&str) -> (u16, &'static str);
type IsExpected = fn(&RegistryError) -> bool;

#[test]
fn errors_are_classified_by_status_and_error_code() {
    let cases: &[(Answer, IsExpected)] = &[
        (|_| (404, r#"{"error_code":40401,"message":"no"}"#), |e| is!(e, NotFound)),
        (|_| (404, r#"{"error_code":40403,"message":"no"}"#), |e| is!(e, NotFound)),
        (|_| (404, r#"{"error_code":40404,"message":"deleted"}"#), |e| is!(e, Rejected)),
        (|_| (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#), |e| is!(e, WrongApi)),
        (|_| (404, "<html>where are you?</html>"), |e| is!(e, WrongApi)),
        (|_| (405, ""), |e| is!(e, WrongApi)),
        (|_| (304, ""), |e| is!(e, WrongApi)),
        (|_| (400, "<html>bad</html>"), |e| is!(e, WrongApi)),
        (|_| (200, "<html>welcome</html>"), |e| is!(e, WrongApi)),
        (|_| (200, "{}"), |e| is!(e, WrongApi)),
        (|_| (401, ""), |e| is!(e, AccessDenied)),
        (|_| (403, r#"{"error_code":40301,"message":"no"}"#), |e| is!(e, AccessDenied)),
        (|_| (409, r#"{"error_code":409,"message":"incompatible"}"#), |e| is!(e, Rejected)),
        (|_| (422, r#"{"error_code":42201,"message":"invalid"}"#), |e| is!(e, Rejected)),
        (|_| (408, ""), |e| is!(e, Unavailable)),
        (|_| (429, ""), |e| is!(e, Unavailable)),
        (|_| (500, r#"{"error_code":50001,"message":"no"}"#), |e| is!(e, Unavailable)),
        // A code that contradicts the status proves nothing.
        (|_| (500, r#"{"error_code":40403,"message":"no"}"#), |e| is!(e, Unavailable)),
        (|_| (503, "<html>busy</html>"), |e| is!(e, Unavailable)),
    ];
    for (answer, is_expected) in cases {
        let registry = Canned::start(*answer);

        let error = ask(&registry.client(&[])).unwrap_err();

        assert!(is_expected(&error), "{error:?} for {:?}", answer(""));
        let is_final = matches!(error, RegistryError::NotFound(_));
        assert_eq!(error.is_recoverable(), !is_final, "{error}");
        let is_unavailable = matches!(error, RegistryError::Unavailable(_));
        assert_eq!(error.is_unavailable(), is_unavailable, "{error}");
        let settings = match error {
            RegistryError::Unavailable(_) | RegistryError::WrongApi(_) => "SCHEMA_REGISTRY_URL",
            RegistryError::AccessDenied(_) => "SCHEMA_REGISTRY_TOKEN",
            _ => "",
        };
        assert!(error.to_string().contains(settings), "{error}");
    }
}

/// Answers of registries that the tests cannot start, by their documentation and source:
/// <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>,
/// <https://docs.redpanda.com/current/manage/schema-reg/schema-reg-api/>,
/// <https://github.com/Aiven-Open/karapace>.
#[test]
fn answers_of_other_registries_are_understood() {
    const SCHEMA: &str =
        r#""{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":\"long\"}]}""#;
    for (registry, others) in [
        ("Confluent 5, Redpanda", ""),
        ("Confluent 7", r#","schemaType":"AVRO","maxId":100123"#),
        (
            "Confluent 8",
            r#","schemaType":"AVRO","subject":"s","version":1,"id":7,"references":[],"metadata":null,
            "guid":"1ad0fd9c-4cb2-4cf2-a5cd-7ef0e7d6f7b2","ruleSet":null,"ts":1764547200000,"deleted":false"#,
        ),
        ("Karapace", r#","subjects":[],"maxId":7"#),
    ] {
        let answer = format!("{{\"schema\":{SCHEMA}{others}}}");
        let registry_url = Canned::start_with(move |_| (200, answer.clone())).url;
        let schema = ask(&client_of(&["--schema-registry-url", &registry_url])).unwrap();
        let shape = TableShape::from_avro(&schema, None).unwrap();
        assert_eq!(shape.column("a").unwrap().column_type.sql(), "BIGINT", "{registry}");
    }

    let errors: &[(&str, Answer, IsExpected)] = &[
        (
            "Redpanda: no such path",
            |_| (404, r#"{"message": "Not found", "code": 404}"#),
            |e| is!(e, WrongApi),
        ),
        (
            "Confluent: no leader",
            |_| (500, r#"{"error_code":50004,"message":"Master not known."}"#),
            |e| is!(e, Unavailable),
        ),
        (
            "Redpanda: no leader",
            |_| (503, r#"{"error_code":50302,"message":"Retriable error"}"#),
            |e| is!(e, Unavailable),
        ),
    ];
    for (registry, answer, is_expected) in errors {
        let error = ask(&Canned::start(*answer).client(&[])).unwrap_err();
        assert!(is_expected(&error), "{registry}: {error:?}");
    }
}

#[test]
fn an_error_names_status_code_message_and_url_without_credentials() {
    let registry = Canned::start(|_| (500, r#"{"error_code":50001,"message":"store"}"#));
    let url = registry.url.replace("http://", "http://me:let-me-in@");

    let error = ask(&client_of(&["--schema-registry-url", &url])).unwrap_err().to_string();

    assert!(registry.asked.recv().unwrap().contains("authorization: Basic"));
    assert!(!error.contains("let-me-in"), "{error}");
    let request = format!("url=`{}/schemas/ids/7", registry.url);
    for part in ["status=`500", "error_code=`50001`", "message=`store`", &request] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_registry_that_does_not_answer_is_unavailable() {
    // A port on which nothing listens, and a server that closes the connection or an answer early.
    let closing = |answer: &'static [u8]| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let lines = BufReader::new(client.try_clone().unwrap()).lines();
                let _ = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
                let _ = client.write_all(answer);
            }
        });
        url
    };
    for (url, reason) in [
        ("http://127.0.0.1:1".to_owned(), "Connection refused"),
        (closing(b""), "connection closed before message completed"),
        (closing(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "end of file"),
    ] {
        let error = ask(&client_of(&["--schema-registry-url", &url])).unwrap_err();

        assert!(is!(&error, Unavailable), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains(&format!("url=`{url}/")), "{text}");
    }
}

/// Certificate for 127.0.0.1 that no authority has signed, and its key.
fn self_signed() -> Result<(X509, PKey<Private>), ErrorStack> {
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", "registry")?;
    let name = name.build();
    let mut certificate = X509::builder()?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    certificate.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    certificate.set_not_after(Asn1Time::days_from_now(1)?.as_ref())?;
    certificate.set_pubkey(&key)?;
    certificate.sign(&key, MessageDigest::sha256())?;
    Ok((certificate.build(), key))
}

#[test]
fn a_failed_tls_connection_names_the_certificate_file() {
    let (certificate, key) = self_signed().unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    acceptor.set_private_key(&key).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let untrusted = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let _ = acceptor.accept(client.unwrap());
        }
    });
    let without_tls = Canned::start(|_| (200, "")).url.replace("http://", "https://");
    for url in [untrusted, without_tls] {
        let error = ask(&client_of(&["--schema-registry-url", &url])).unwrap_err();

        assert!(is!(&error, Tls), "{error:?}");
        assert!(error.is_unavailable() && error.is_recoverable());
        assert!(error.to_string().contains("SCHEMA_REGISTRY_SSL_CA_LOCATION"), "{error}");
    }
}

#[test]
fn a_schema_is_registered_under_its_subject() {
    let registry = Canned::start(|path| match path {
        "/subjects/events-value/versions" => (200, r#"{"id": 7}"#),
        _ => (404, "{}"),
    });
    let client = registry.client(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let id = runtime.block_on(client.register("events-value", "\"string\"")).unwrap();

    assert_eq!(id, 7);
}

#[test]
fn a_schema_that_is_not_avro_cannot_be_used() {
    let answers: &[Answer] = &[
        |_| (200, r#"{"schema": "{}", "schemaType": "JSON"}"#),
        |_| (200, r#"{"schema": "not Avro"}"#),
    ];
    for answer in answers {
        let error = ask(&Canned::start(*answer).client(&[])).unwrap_err();

        assert!(is!(&error, Unusable), "{error:?}");
        assert!(!error.is_recoverable() && !error.is_unavailable());
    }
}

#[test]
fn requests_are_authenticated_by_the_settings() {
    let registry = Canned::start(|_| (401, r#"{"error_code":401,"message":"who?"}"#));

    let error = ask(&registry.client(&[])).unwrap_err();
    assert!(is!(&error, AccessDenied), "{error:?}");
    assert!(error.to_string().contains("--schema-registry-token"), "{error}");
    assert!(!registry.asked.recv().unwrap().contains("authorization"));

    let basic = ["--schema-registry-user", "me", "--schema-registry-password", "open sesame"];
    let _ = ask(&registry.client(&basic));
    assert!(registry.asked.recv().unwrap().contains("authorization: Basic bWU6b3BlbiBzZXNhbWU="));

    let _ = ask(&registry.client(&["--schema-registry-token", "let-me-in"]));
    assert!(registry.asked.recv().unwrap().contains("authorization: Bearer let-me-in"));
}

#[test]
fn references_of_a_schema_are_resolved() {
    let registry = Canned::start(|path| match path.split('?').next().unwrap_or_default() {
        "/schemas/ids/7" => (
            200,
            r#"{"schema": "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"at\",\"type\":\"geo.Place\"},{\"name\":\"from\",\"type\":\"geo.Place\"}]}",
                "references": [{"name": "geo.Place", "subject": "place", "version": 2}]}"#,
        ),
        "/subjects/place/versions/2" => (
            200,
            r#"{"id": 5, "version": 2, "subject": "place",
                "schema": "{\"type\":\"record\",\"name\":\"geo.Place\",\"fields\":[{\"name\":\"land\",\"type\":\"geo.Land\"}]}",
                "references": [{"name": "geo.Land", "subject": "land", "version": 1}]}"#,
        ),
        "/subjects/land/versions/1" => (
            200,
            r#"{"id": 4, "version": 1, "subject": "land",
                "schema": "{\"type\":\"enum\",\"name\":\"geo.Land\",\"symbols\":[\"A\"]}"}"#,
        ),
        _ => (404, "{}"),
    });

    let schema = ask(&registry.client(&[])).unwrap();

    let shape = TableShape::from_avro(&schema, None).unwrap();
    let column = shape.column("from").unwrap();
    assert_eq!(column.column_type.sql(), "STRUCT(\"land\" VARCHAR)");
}

#[test]
fn a_schema_is_found_by_its_guid() {
    let registry = Canned::start(|path| match path.split('?').next().unwrap_or_default() {
        "/schemas/guids/00010203-0405-0607-0809-0a0b0c0d0e0f" => {
            (200, r#"{"schema": "\"string\""}"#)
        }
        "/schemas/guids/00000000-0000-0000-0000-000000000000" => {
            (404, r#"{"error_code": 40403, "message": "no"}"#)
        }
        _ => (404, r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#),
    });
    let client = registry.client(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |guid| runtime.block_on(client.by_guid(guid));

    let found = ask(Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f)).unwrap();
    assert_eq!(found, AvroSchema::parse("\"string\"").unwrap());
    assert!(matches!(ask(Uuid::nil()), Err(RegistryError::NotFound(_))));
    // The answer of an older registry.
    let older = ask(Uuid::max()).unwrap_err();
    assert!(matches!(&older, RegistryError::WrongApi(text) if text.contains("Platform 8")));
}

#[test]
fn the_first_of_two_versions_of_a_name_is_used_everywhere() {
    // As the Java library of Confluent resolves them.
    let registry = Canned::start(|path| match path.split('?').next().unwrap_or_default() {
        "/schemas/ids/7" => (
            200,
            r#"{"schema": "[\"A\",\"B\"]", "references": [
                {"name": "A", "subject": "a", "version": 1},
                {"name": "B", "subject": "b", "version": 1}]}"#,
        ),
        "/subjects/a/versions/1" => (
            200,
            r#"{"id": 1, "version": 1, "subject": "a",
                "schema": "{\"type\":\"record\",\"name\":\"A\",\"fields\":[{\"name\":\"s\",\"type\":\"Shared\"}]}",
                "references": [{"name": "Shared", "subject": "shared", "version": 2}]}"#,
        ),
        "/subjects/b/versions/1" => (
            200,
            r#"{"id": 2, "version": 1, "subject": "b",
                "schema": "{\"type\":\"record\",\"name\":\"B\",\"fields\":[{\"name\":\"s\",\"type\":\"Shared\"}]}",
                "references": [{"name": "Shared", "subject": "shared", "version": 1}]}"#,
        ),
        "/subjects/shared/versions/2" => (
            200,
            r#"{"id": 3, "version": 2, "subject": "shared",
                "schema": "{\"type\":\"record\",\"name\":\"Shared\",\"fields\":[{\"name\":\"x\",\"type\":\"string\"}]}"}"#,
        ),
        _ => (404, "{}"),
    });

    let schema = ask(&registry.client(&[])).unwrap();

    let fields = AvroType::record_fields(&schema, UnionAs::Struct).unwrap();
    let shape = TableShape::of_record(&fields, None).unwrap();
    let of = r#"STRUCT("s" STRUCT("x" VARCHAR))"#;
    let sql = format!(r#"STRUCT("A" {of}, "B" {of})"#);
    assert_eq!(shape.columns[0].column_type.sql(), sql);
}

#[test]
fn the_next_registry_is_used_when_one_is_unavailable() {
    let registry = Canned::start(|_| (200, r#"{"schema": "\"string\""}"#));
    let urls = format!("http://127.0.0.1:1, {}/", registry.url);

    let schema = ask(&client_of(&["--schema-registry-url", &urls])).unwrap();

    assert_eq!(schema, AvroSchema::parse("\"string\"").unwrap());
}
