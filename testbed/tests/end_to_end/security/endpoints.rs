//! Encryption of the endpoints.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::{fs, io};

use ducktide_testbed::catalog::CatalogKind;
use ducktide_testbed::certificates::{Authority, VALID};
use ducktide_testbed::pipeline::{Pipeline, WAIT_TIMEOUT};
use ducktide_testbed::services::free_port;
use ducktide_testbed::wait;
use openssl::ssl::{SslConnector, SslMethod};

use super::text;

/// Returns the answer to a request for `/metrics` from a server whose certificate an authority has issued.
fn metrics(port: u16, ca_file: &Path) -> io::Result<String> {
    let mut connector = SslConnector::builder(SslMethod::tls()).map_err(io::Error::other)?;
    connector.set_ca_file(ca_file).map_err(io::Error::other)?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let mut stream = connector
        .build()
        .connect("localhost", stream)
        .map_err(|error| io::Error::other(error.to_string()))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn await_metrics(port: u16, ca_file: &Path) {
    wait::until("/metrics answers by https", WAIT_TIMEOUT, || {
        Ok(metrics(port, ca_file).is_ok_and(|answer| answer.contains("ducktide_ready")))
    })
    .unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn endpoints_are_encrypted_and_use_a_replaced_certificate() {
    let pipeline = Pipeline::on_shared_services("https", CatalogKind::Sqlite).unwrap();
    pipeline.produce(10, &[]).unwrap();
    let authorities = ["first", "second"].map(|name| {
        let authority = Authority::new(name).unwrap();
        let file = pipeline.file(&format!("{name}.pem"));
        fs::write(&file, authority.pem().unwrap()).unwrap();
        (authority, file)
    });
    let [(first, first_file), (second, second_file)] = &authorities;
    let (certificate, key) = (pipeline.file("listen.pem"), pipeline.file("listen.key"));
    let issue = |authority: &Authority| {
        let issued = authority.issue("worker", VALID).unwrap();
        // The key first: a pair that does not match is not used.
        fs::write(&key, issued.key).unwrap();
        fs::write(&certificate, issued.certificate).unwrap();
    };
    issue(first);
    let port = free_port().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let consumer = || pipeline.consumer(&pipeline.catalog).unwrap().args(["--listen", &listen]);
    let with_key = consumer().args(["--listen-key", &text(&key)]);

    let mut worker = with_key
        .args(["--listen-certificate", &text(&certificate)])
        .start(pipeline.logs(), "worker")
        .unwrap();
    await_metrics(port, first_file);
    assert!(metrics(port, second_file).is_err(), "the certificate is another authority's");
    issue(second);
    await_metrics(port, second_file);
    assert!(metrics(port, first_file).is_err(), "the certificate was replaced");
    fs::write(&certificate, "unusable").unwrap();
    await_metrics(port, second_file);
    worker.terminate().unwrap();
    worker.succeed(WAIT_TIMEOUT).unwrap();
    assert!(worker.log().unwrap().contains("certificate of the endpoints not replaced"));

    for (name, files, error) in [
        ("alone", vec![("--listen-key", &key)], "need each other"),
        (
            "unusable",
            vec![("--listen-key", &key), ("--listen-certificate", &certificate)],
            "no certificate in PEM format: --listen-certificate=",
        ),
    ] {
        let files = files.into_iter().flat_map(|(flag, file)| [flag.to_owned(), text(file)]);
        let mut refused = consumer().args(files).start(pipeline.logs(), name).unwrap();
        assert_eq!(refused.wait(WAIT_TIMEOUT).unwrap().status.code(), Some(2));
        let log = refused.log().unwrap();
        assert!(log.contains(error), "{log}");
    }
}
