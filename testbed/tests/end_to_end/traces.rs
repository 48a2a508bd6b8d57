//! Export of traces to a collector.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use ducktide_testbed::catalog::CatalogKind;
use ducktide_testbed::pipeline::{Pipeline, WAIT_TIMEOUT};
use ducktide_testbed::services::free_port;

/// Collector of OTLP over HTTP. It runs until the process ends.
struct Collector {
    port: u16,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, requests) = (listener.local_addr().unwrap().port(), Arc::default());
        let received = Arc::clone(&requests);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let received = Arc::clone(&received);
                thread::spawn(move || receive(client, &received));
            }
        });
        Self { port, requests }
    }

    /// Returns whether one request has all of these.
    fn has_received(&self, parts: &[&[u8]]) -> bool {
        let requests = self.requests.lock().unwrap();
        let contains =
            |body: &[u8], part: &[u8]| body.windows(part.len()).any(|found| found == part);
        requests.iter().any(|body| parts.iter().all(|part| contains(body, part)))
    }
}

/// Receives the requests of one connection.
fn receive(client: TcpStream, received: &Mutex<Vec<Vec<u8>>>) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    loop {
        let (mut line, mut length, mut is_export) = (String::new(), 0, false);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.trim_end().to_ascii_lowercase();
            is_export |= lower.starts_with("post /v1/traces ");
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if lower.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if is_export {
            received.lock().unwrap().push(body);
        }
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

/// Returns the bytes of an identifier in hexadecimal digits.
fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn traces_of_batches_and_maintenance_are_exported() {
    let pipeline = Pipeline::on_shared_services("traces", CatalogKind::Sqlite).unwrap();
    let collector = Collector::start();
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    pipeline.produce(1_000, &[]).unwrap();
    let consumer = pipeline.consumer(&pipeline.catalog).unwrap().args(["--until-end"]);

    let consumer = consumer.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    let mut worker = pipeline.start_worker("worker", consumer).unwrap();
    worker.succeed().unwrap();
    let committed = worker.logged("batch committed").unwrap().expect("a batch was committed");
    let compactor = pipeline.compactor(&["once"]).unwrap();
    let compactor = compactor.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    compactor.run(pipeline.logs(), "compactor", WAIT_TIMEOUT).unwrap();

    let id = bytes(committed["trace_id"].as_str().unwrap());
    let spans: [&[u8]; 5] = [b"batch", b"fill", b"write", b"identify", b"commit"];
    let parts = [&spans[..], &[&id, b"ducktide-consumer"]].concat();
    assert!(collector.has_received(&parts), "{committed}");
    assert!(collector.has_received(&[b"ducktide-compactor", b"expire_snapshots"]));
    pipeline.check_exact(1_000).unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_collector_that_is_not_available_does_not_delay_commits() {
    let pipeline = Pipeline::on_shared_services("no_collector", CatalogKind::Sqlite).unwrap();
    let endpoint = format!("http://127.0.0.1:{}", free_port().unwrap());
    pipeline.produce(1_000, &[]).unwrap();
    let consumer = pipeline.consumer(&pipeline.catalog).unwrap();

    let consumer = consumer.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    let mut worker = pipeline.start_worker("worker", consumer).unwrap();

    pipeline.await_committed(1_000).unwrap();
    worker.await_logged("traces not exported").unwrap();
    worker.stop().unwrap();
    let log = worker.log().unwrap();
    let warnings = log.iter().filter(|line| line.to_string().contains("traces not exported"));
    assert_eq!(warnings.count(), 1, "the reason is logged once");
    pipeline.check_exact(1_000).unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn an_invalid_collector_is_refused() {
    let pipeline = Pipeline::on_shared_services("bad_collector", CatalogKind::Sqlite).unwrap();
    let consumer = pipeline.consumer(&pipeline.catalog).unwrap();

    let consumer = consumer.env("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url");
    let mut worker = pipeline.start_worker("worker", consumer).unwrap();

    assert_eq!(worker.exit_code().unwrap(), 2);
    let log = worker.log().unwrap();
    let error = log.iter().find(|line| line["level"] == "ERROR").expect("an error").to_string();
    assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{error}");
}
