//! The guard as rows of requests and answers, over a real connection on port 0.

use axum::body::Bytes;
use axum::extract::Query;
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::metrics::Metrics;

#[derive(Deserialize)]
struct Page {
    number: u8,
}

async fn served(jobs: &Jobs) -> SocketAddr {
    let listener = Listener::bind("test", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.addr();
    let metrics = Arc::new(Metrics::new("test", "0"));
    let router = Router::new()
        .route("/page", get(|Query(page): Query<Page>| async move { page.number.to_string() }))
        .route("/drain", post(|body: Bytes| async move { body.len().to_string() }))
        .merge(health(metrics, || Err("the store was not loaded".to_owned())));
    listener.with_host_names(["Portolan.example".to_owned()]).serve(jobs, router);
    addr
}

/// Sends `request` as it stands, with `\n` for the ends of its lines; gives the whole answer.
async fn exchange(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_of_other_hosts_and_other_sites_are_refused() {
    let jobs = Jobs::new();
    let addr = served(&jobs).await;
    let rows = [
        ("GET /healthz", "Host: localhost:8500", 200),
        ("GET /healthz", "Host: LOCALHOST.", 200),
        ("GET /healthz", "Host: 127.0.0.1:1", 200),
        ("GET /healthz", "Host: [::1]:8500", 200),
        ("GET /healthz", "Host: portolan.EXAMPLE", 200),
        ("GET /healthz", "Host: evil.example", 421),
        ("GET /healthz", "Host: 127.0.0.1.evil.example", 421),
        ("GET /healthz", "Host: localhost@evil.example", 421),
        ("GET /healthz", "Host: localhost\nHost: evil.example", 400),
        ("GET /healthz", "X: y", 400),
        ("GET /healthz", "Host: localhost\nOrigin: http://evil.example", 200),
        ("POST /drain", "Host: localhost", 200),
        ("POST /drain", "Host: localhost:1\nOrigin: http://localhost:1", 200),
        ("POST /drain", "Host: localhost:1\nOrigin: http://localhost:2", 403),
        ("POST /drain", "Host: localhost\nOrigin: http://evil.example", 403),
        ("POST /drain", "Host: localhost\nOrigin: null", 403),
        ("POST /drain", "Host: localhost\nSec-Fetch-Site: cross-site", 403),
        ("POST /drain", "Host: localhost\nSec-Fetch-Site: same-origin", 200),
        ("POST /drain", "Host: localhost\nContent-Length: 1048577", 413),
        ("POST /drain", "Host: localhost\nTransfer-Encoding: chunked", 200),
        ("GET /drain", "Host: localhost", 405),
        ("GET /nowhere", "Host: localhost", 404),
        ("GET /page?number=7", "Host: localhost", 200),
        ("GET /page?number=700", "Host: localhost", 400),
        ("GET /readyz", "Host: localhost", 503),
    ];
    for (line, headers, expected) in rows {
        let body = if headers.contains("chunked") { "0\n\n" } else { "" };
        let answer = exchange(addr, &format!("{line} HTTP/1.1\n{headers}\nConnection: close\n\n{body}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{line} {headers}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
        assert_eq!(answer.contains("application/problem+json"), expected >= 400, "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_grows_too_long_is_refused() {
    let jobs = Jobs::new();
    let addr = served(&jobs).await;
    let chunk = format!("{:x}\n{}\n", BODY_BYTES_MAX + 1, "x".repeat(BODY_BYTES_MAX + 1));
    let head = "POST /drain HTTP/1.1\nHost: localhost\nConnection: close\nTransfer-Encoding: chunked\n\n";
    let answer = exchange(addr, &format!("{head}{chunk}0\n\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn problems_name_the_field_and_the_reason() {
    let jobs = Jobs::new();
    let addr = served(&jobs).await;
    let readyz = exchange(addr, "GET /readyz HTTP/1.1\nHost: localhost\nConnection: close\n\n").await;
    let expected = r#"{"title":"Service Unavailable","status":503,"detail":"the store was not loaded"}"#;
    assert!(readyz.ends_with(expected), "{readyz}");
    let misdirected = exchange(addr, "GET / HTTP/1.1\nHost: evil.example\nConnection: close\n\n").await;
    assert!(misdirected.ends_with(r#","field":"Host"}"#), "{misdirected}");
    let metrics = exchange(addr, "GET /metrics HTTP/1.1\nHost: localhost\nConnection: close\n\n").await;
    assert!(metrics.contains("portolan_build_info{program=\"test\",version=\"0\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_let_go() {
    let jobs = Jobs::new();
    let addr = served(&jobs).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    tokio::time::pause();
    let mut answer = Vec::new();
    let began = tokio::time::Instant::now();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(began.elapsed() >= HEAD_TIMEOUT, "{:?}", began.elapsed());
}

#[test]
fn only_loopback_needs_no_protection() {
    for good in ["127.0.0.1:8500", "127.9.9.9:1", "[::1]:8500", "[::ffff:127.0.0.1]:1"] {
        assert!(require_loopback("http.listen", good.parse().unwrap()).is_ok(), "{good}");
    }
    for bad in ["0.0.0.0:8500", "[::]:8500", "10.0.0.1:8500", "169.254.53.53:8500"] {
        let error = require_loopback("http.listen", bad.parse().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("setting `http.listen`: {bad} can be reached")), "{error}");
    }
}
