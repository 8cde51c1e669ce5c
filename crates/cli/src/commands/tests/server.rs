//! A server that gives each of its pages as it is told to, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use portolan_runtime::jobs::Jobs;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One page.
#[derive(Debug, Clone)]
pub(super) struct Page {
    status: &'static str,
    media_type: &'static str,
    body: String,
    /// More lines of the head, with their ends.
    head: String,
    /// The Last-Event-ID that the question must have. A page with this or of a stream is given once.
    last_id: Option<&'static str>,
    is_given_once: bool,
}

impl Page {
    pub(super) fn json(value: &Value) -> Page {
        Page {
            status: "200 OK",
            media_type: "application/json",
            body: value.to_string(),
            head: String::new(),
            last_id: None,
            is_given_once: false,
        }
    }

    pub(super) fn stream(body: String, last_id: Option<&'static str>) -> Page {
        Page { media_type: "text/event-stream", body, last_id, is_given_once: true, ..Page::json(&Value::Null) }
    }

    pub(super) fn problem(status: &'static str, detail: &str) -> Page {
        let body = serde_json::json!({"title": "x", "detail": detail});
        Page { status, media_type: "application/problem+json", ..Page::json(&body) }
    }

    /// The same with its index, given once.
    pub(super) fn at(self, index: u64) -> Page {
        Page { head: format!("X-Portolan-Index: {index}\r\n"), is_given_once: true, ..self }
    }
}

/// What was asked: `POST /path BODY`.
pub(super) type Asked = Arc<Mutex<Vec<String>>>;

/// Serves `pages` by their paths (`/path` is `GET /path`), one question per connection; a problem document for every other
/// path.
pub(super) async fn serve(jobs: &Jobs, pages: Vec<(String, Page)>) -> SocketAddr {
    serve_and_remember(jobs, pages).await.0
}

/// The same, with what it is asked.
pub(super) async fn serve_and_remember(jobs: &Jobs, mut pages: Vec<(String, Page)>) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Asked::default();
    let remembered = asked.clone();
    jobs.start_work("test server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (head, body) = question(&mut stream).await;
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            remembered.lock().unwrap().push(format!("{method} {path} {body}").trim_end().to_owned());
            let wanted = if method == "GET" { path.to_owned() } else { format!("{method} {path}") };
            let last_id = head.lines().find_map(|line| line.strip_prefix("last-event-id: "));
            let at = pages.iter().position(|(known, page)| *known == wanted && page.last_id == last_id);
            let page = at.map(|at| if pages[at].1.is_given_once { pages.remove(at).1 } else { pages[at].1.clone() });
            let page = page.unwrap_or_else(|| Page::problem("404 Not Found", &format!("there is no `{path}` \u{1b}")));
            let Page { status, media_type, head, body, .. } = page;
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\n{head}Connection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body.as_bytes()).await.unwrap();
        }
    });
    (addr, asked)
}

async fn question(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    let is_json = head.lines().any(|line| line == "content-type: application/json");
    assert_eq!(is_json, !body.is_empty(), "{head}");
    (head, String::from_utf8(body).unwrap())
}
