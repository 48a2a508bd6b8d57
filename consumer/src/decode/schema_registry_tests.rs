//! The client with a registry of fixed answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use ducktide_protocol::table::{AvroType, TableShape, UnionAs};

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
    fn start(answer: fn(&str) -> (u16, &'static str)) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, asked) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming() {
                let _ = serve(&client.unwrap(), answer, &requests);
            }
        });
        Self { url, asked }
    }

    fn client(&self, arguments: &[&str]) -> SchemaRegistry {
        let line = ["test", "--schema-registry-url", &self.url];
        let line = Line::try_parse_from(line.iter().chain(arguments)).unwrap();
        SchemaRegistry::new(&line.registry).unwrap()
    }
}

fn serve(
    client: &TcpStream,
    answer: fn(&str) -> (u16, &'static str),
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

#[test]
fn only_an_error_code_of_the_registry_means_that_a_schema_does_not_exist() {
    for (answer, is_unknown) in [
        ((|_| (404, r#"{"error_code":40403,"message":"no"}"#)) as fn(&str) -> _, true),
        (|_| (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#), false),
        (|_| (404, "<html>where are you?</html>"), false),
        (|_| (200, "<html>welcome</html>"), false),
        (|_| (500, r#"{"error_code":50001,"message":"no"}"#), false),
    ] {
        let registry = Canned::start(answer);

        let error = ask(&registry.client(&[])).unwrap_err();

        let said = matches!(error, RegistryError::Unknown(_));
        assert_eq!(said, is_unknown, "{error}");
        let text = error.to_string();
        let is_other_api = !is_unknown && !text.contains("status 500");
        assert_eq!(text.contains("--schema-registry-url"), is_other_api, "{text}");
    }
}

#[test]
fn requests_are_authenticated_by_the_settings() {
    let registry = Canned::start(|_| (401, r#"{"error_code":401,"message":"who?"}"#));

    let error = ask(&registry.client(&[])).unwrap_err();
    assert!(matches!(error, RegistryError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("--schema-registry-token"), "{error}");
    assert!(!registry.asked.recv().unwrap().contains("authorization"));

    let basic = ["--schema-registry-user", "me", "--schema-registry-password", "open sesame"];
    let _ = ask(&registry.client(&basic));
    assert!(registry.asked.recv().unwrap().contains("authorization: Basic bWU6b3BlbiBzZXNhbWU="));

    let _ = ask(&registry.client(&["--schema-registry-token", "let-me-in"]));
    assert!(registry.asked.recv().unwrap().contains("authorization: Bearer let-me-in"));
}

#[test]
fn secrets_are_not_shown() {
    let line = ["test", "--schema-registry-token", "let-me-in"];
    let line = Line::try_parse_from(line).unwrap();

    assert!(!format!("{:?}", line.registry).contains("let-me-in"));
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
    assert!(matches!(ask(Uuid::nil()), Err(RegistryError::Unknown(_))));
    // The answer of an older registry.
    let older = ask(Uuid::max()).unwrap_err();
    assert!(matches!(&older, RegistryError::Unavailable(text) if text.contains("Platform 8")));
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
    let line = Line::try_parse_from(["test", "--schema-registry-url", &urls]).unwrap();

    let schema = ask(&SchemaRegistry::new(&line.registry).unwrap()).unwrap();

    assert_eq!(schema, AvroSchema::parse("\"string\"").unwrap());
}

#[test]
fn an_invalid_url_is_rejected_and_not_printed() {
    for address in [
        "localhost:8081",
        "http://",
        "http//a:1",
        "http://a:x",
        "http://a b",
        "ftp://a",
        "",
        "http://a,",
    ] {
        let error = Line::try_parse_from(["line", "--schema-registry-url", address]).unwrap_err();
        assert!(error.to_string().contains("SCHEMA_REGISTRY_URL"), "{error}");
    }
    let secret = ["line", "--schema-registry-url", "http://me:s3cret@a:x"];
    assert!(!Line::try_parse_from(secret).unwrap_err().to_string().contains("s3cret"));
    for address in [
        "http://a:1/apis/ccompat/v7",
        "https://a,http://b:2/",
        "http://[::1]:8081",
        "http://me:x@a",
    ] {
        Line::try_parse_from(["line", "--schema-registry-url", address]).unwrap();
    }
}
