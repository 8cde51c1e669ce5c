//! A server that gives each of its pages as it is told to.

use std::net::SocketAddr;

use portolan_runtime::jobs::Jobs;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// One page.
#[derive(Debug, Clone)]
pub(super) struct Page {
    media_type: &'static str,
    body: String,
    /// The Last-Event-ID that the question must have. A page with this or of a stream is given once.
    last_id: Option<&'static str>,
    is_given_once: bool,
}

impl Page {
    pub(super) fn json(value: &Value) -> Page {
        Page { media_type: "application/json", body: value.to_string(), last_id: None, is_given_once: false }
    }

    pub(super) fn stream(body: String, last_id: Option<&'static str>) -> Page {
        Page { media_type: "text/event-stream", body, last_id, is_given_once: true }
    }
}

/// Serves `pages` by their paths, one question per connection; a problem document for every other path.
pub(super) async fn serve(jobs: &Jobs, mut pages: Vec<(String, Page)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    jobs.start_work("test server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let last_id = head.lines().find_map(|line| line.strip_prefix("last-event-id: "));
            let at = pages.iter().position(|(known, page)| *known == path && page.last_id == last_id);
            let page = at.map(|at| if pages[at].1.is_given_once { pages.remove(at).1 } else { pages[at].1.clone() });
            let (status, media_type, body) = match page {
                Some(page) => ("200 OK", page.media_type, page.body),
                None => {
                    let problem = serde_json::json!({"title": "x", "detail": format!("there is no `{path}` \u{1b}")});
                    ("404 Not Found", "application/problem+json", problem.to_string())
                }
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body.as_bytes()).await.unwrap();
        }
    });
    addr
}
