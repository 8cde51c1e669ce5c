//! A server that answers as it is told to, one request per connection, and keeps what it was asked.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use portolan_runtime::jobs::Jobs;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// How many bytes it says it has, where that is not what it has.
    said_length: Option<usize>,
    is_silent: bool,
}

impl Reply {
    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        Reply { status, headers: Vec::new(), body: body.into(), said_length: None, is_silent: false }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, body.to_string()).with("Content-Type", "application/x-amz-json-1.1")
    }

    /// No answer, on an open connection.
    pub(super) fn silence() -> Self {
        Reply { is_silent: true, ..Self::text(200, "") }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The connection ends when this answer is half through.
    pub(super) fn cut(mut self) -> Self {
        self.said_length = Some(self.body.len() * 2);
        self
    }

    async fn give(self, stream: &mut TcpStream) {
        if self.is_silent {
            std::future::pending::<()>().await;
        }
        let length = self.said_length.unwrap_or(self.body.len());
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\nConnection: close\r\n", self.status);
        for (name, value) in self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        // A client that has read enough may be gone already.
        stream.write_all(format!("{head}\r\n{}", self.body).as_bytes()).await.ok();
    }
}

/// What it was asked: the head, in lower case, and the body.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) head: String,
    pub(super) body: String,
}

impl Question {
    pub(super) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    asked: Arc<Mutex<Vec<Question>>>,
}

impl Server {
    /// Gives `replies` in turn, and then the last one again and again.
    pub(super) async fn start(jobs: &Jobs, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let keep = asked.clone();
        jobs.start_work("test server", async move {
            let mut turn = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(question) = read(&mut stream).await else { continue };
                keep.lock().unwrap().push(question);
                replies[turn.min(replies.len() - 1)].clone().give(&mut stream).await;
                turn += 1;
            }
        });
        Server { addr, asked }
    }

    pub(super) fn asked(&self) -> Vec<Question> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Question> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let mut question = Question { head, body: String::new() };
    let mut body = vec![0; question.header("content-length").parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    question.body = String::from_utf8(body).unwrap();
    Some(question)
}
