use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::thread;

use super::*;

/// Serves one answer for each request. Returns the endpoint, and the requests.
fn serve(status: u16, body: &'static str) -> (Url, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = format!("http://{}/token", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = BufReader::new(client.unwrap());
            let (mut request, mut length) = (String::new(), 0);
            while client.read_line(&mut request).unwrap() > 2 {
                let line = request.lines().last().unwrap().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
            }
            let mut fields = vec![0; length];
            client.read_exact(&mut fields).unwrap();
            request.push_str(&String::from_utf8(fields).unwrap());
            let _ = sender.send(request);
            let size = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n{body}"
            );
            client.into_inner().write_all(answer.as_bytes()).unwrap();
        }
    });
    (Url::parse(&endpoint).unwrap(), requests)
}

fn tokens(endpoint: Url) -> OAuthTokens {
    OAuthTokens {
        endpoint,
        client_id: "me@x".to_owned(),
        client_secret: Some(Secret::from("let me:in".to_owned())),
        client_secret_file: None,
        scope: Some("kafka read".to_owned()),
        ca_file: None,
        current: Mutex::default(),
    }
}

#[test]
fn a_token_is_requested_once_in_its_lifetime() {
    let answer = r#"{"access_token":"t0ken","token_type":"Bearer","expires_in":3600}"#;
    let (endpoint, requests) = serve(200, answer);
    let tokens = tokens(endpoint);

    let token = tokens.token().unwrap();
    tokens.token().unwrap();

    assert_eq!(token.value.expose(), "t0ken");
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis());
    assert!((3_500_000..=3_600_000).contains(&(token.expires_ms - now.unwrap())));
    let request = requests.recv().unwrap();
    assert!(request.ends_with("grant_type=client_credentials&scope=kafka+read"), "{request}");
    // me%40x:let+me%3Ain
    let credentials = "authorization: basic bwulndb4omxldcttzsuzqwlu";
    assert!(request.to_ascii_lowercase().contains(credentials), "{request}");
    assert!(requests.try_recv().is_err(), "a second request");
}

#[test]
fn a_short_lived_token_is_replaced() {
    let (endpoint, requests) = serve(200, r#"{"access_token":"t","expires_in":1}"#);
    let tokens = tokens(endpoint);
    tokens.token().unwrap();

    thread::sleep(Duration::from_millis(850));
    tokens.token().unwrap();

    assert_eq!(requests.try_iter().count(), 2);
}

#[test]
fn errors_name_the_setting_and_no_secret() {
    for (status, body, is_refusal, expected) in [
        (401, r#"{"error":"invalid_client"}"#, true, "error=`invalid_client`"),
        (400, "let me:in", true, "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET"),
        (401, r#"{"error":"let me:in"}"#, true, "KAFKA_SASL_OAUTHBEARER_CLIENT_ID"),
        (404, "<html>", true, "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"),
        (200, "<html>", true, "no access_token"),
        (503, "busy", false, "unavailable"),
    ] {
        let error = tokens(serve(status, body).0).token().unwrap_err();

        assert_eq!(error.is_refusal(), is_refusal, "{error}");
        let text = error.to_string();
        assert!(text.contains(expected) && !text.contains("let me:in"), "{text}");
    }
    let away = tokens(Url::parse("http://127.0.0.1:1/token").unwrap()).token().unwrap_err();
    assert!(away.to_string().contains("refused") && !away.is_refusal(), "{away}");
}
