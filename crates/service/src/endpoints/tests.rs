use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

async fn start(token: Option<&str>) -> SocketAddr {
    let args = EndpointArgs {
        listen: "127.0.0.1:0".parse().unwrap(),
        listen_certificate: None,
        listen_key: None,
        metrics_token: token.map(|token| token.to_owned().into()),
        metrics_token_file: None,
    };
    let readiness = Readiness::starting();
    serve(&args, registry("test", &readiness), readiness).await.unwrap()
}

/// Sends a request and returns the answer; the connection must be closed within ten seconds.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may close the connection before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), reading).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(path: &str, header: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n")
}

#[tokio::test]
async fn only_metrics_need_the_token() {
    let address = start(Some("t0k:en /%")).await;

    for (path, header, status) in [
        ("/metrics", "Authorization: Bearer t0k:en /%\r\n", "200"),
        ("/metrics", "authorization: bearer t0k:en /%\r\n", "200"),
        ("/metrics", "", "401"),
        ("/metrics", "Authorization: Bearer t0k:en /\r\n", "401"),
        ("/metrics", "Authorization: Basic t0k:en /%\r\n", "401"),
        ("/healthz", "", "200"),
        ("/readyz", "", "503"),
    ] {
        let answer = ask(address, &get(path, header)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {header}: {answer}");
        assert!(!answer.contains("t0k"), "{answer}");
        let is_denied = status == "401";
        assert_eq!(answer.to_lowercase().contains("www-authenticate: bearer"), is_denied);
    }
}

#[tokio::test]
async fn without_a_token_metrics_are_open() {
    let answer = ask(start(None).await, &get("/metrics", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_rejected() {
    let header = format!("X-Large: {}\r\n", "x".repeat(100_000));
    let answer = ask(start(None).await, &get("/metrics", &header)).await;
    assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn slow_clients_are_disconnected_and_block_no_other() {
    let address = start(None).await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").await.unwrap();
        slow.push(stream);
    }
    let started = Instant::now();

    let answer = ask(address, &get("/healthz", "")).await;
    let waited = started.elapsed();
    let mut answer_to_slow = Vec::new();
    for stream in &mut slow {
        // An answer of status 408, or none.
        let _ = stream.read_to_end(&mut answer_to_slow).await;
    }

    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(waited.as_secs() < 3, "{waited:?}");
    assert!(started.elapsed().as_secs() < 15, "{:?}", started.elapsed());
}
