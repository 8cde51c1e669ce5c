//! A plain HTTP/1.1 client of a few lines: what it sends is exactly what the test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;

use crate::namespace::Namespace;

/// How long one exchange may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header lines as they came.
    pub head: String,
    /// The body; chunks are joined.
    pub body: String,
}

impl Answer {
    /// One header's value, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }
}

/// Sends one request over a connection of its own. `headers` are whole lines without their end, such as `Origin: http://x`.
///
/// # Errors
/// When the connection fails or the answer is not HTTP.
pub fn request(addr: SocketAddr, line: &str, headers: &[&str], body: &str) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT).with_context(|| format!("connect to {addr}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
        request += &format!("Host: {addr}\r\n");
    }
    headers.iter().for_each(|header| request += &format!("{header}\r\n"));
    stream.write_all(format!("{request}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("read the answer of {addr}"))?;
    parse(&String::from_utf8_lossy(&answer)).with_context(|| format!("{line} at {addr}"))
}

/// `GET path`.
///
/// # Errors
/// As [`request`].
pub fn fetch(addr: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    request(addr, &format!("GET {path}"), &[], "")
}

impl Namespace {
    /// `GET path` from inside.
    ///
    /// # Errors
    /// As [`request`].
    pub fn fetch(&self, addr: SocketAddr, path: &str) -> anyhow::Result<Answer> {
        self.inside(|| fetch(addr, path))?
    }
}

fn parse(answer: &str) -> anyhow::Result<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("the answer was cut: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let mut answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        answer.body = join_chunks(body)?;
    }
    Ok(answer)
}

fn join_chunks(mut rest: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).context("chunk length")?;
        let chunk = after.get(..length).context("the chunk was cut")?;
        if chunk.is_empty() {
            break;
        }
        body += chunk;
        rest = after[length..].trim_start_matches("\r\n");
    }
    Ok(body)
}
