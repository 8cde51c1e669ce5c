//! The HTTP client: one request at a time, bounded in time and size. It follows no redirect and sends no credential.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use portolan_core::refusal::shown;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;

/// More than a full answer of a large cluster; what exceeds it is not ours.
const BODY_OCTETS_MAX: usize = 16 << 20;
/// A registry on the same continent connects in a tenth of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the whole answer of a plain request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a server is: `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    authority: String,
}

/// Why a text is no server.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not an address such as http://127.0.0.1:8500 (TLS is not there yet)")]
pub(crate) struct ServerError(String);

impl Server {
    /// Reads `http://HOST:PORT` or `HOST:PORT`.
    pub(crate) fn parse(text: &str) -> Result<Server, ServerError> {
        let error = || ServerError(shown(text, 200));
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        if bare.is_empty() || bare.contains(['/', '?', '#', '@', '%']) {
            return Err(error());
        }
        let authority: Authority = bare.parse().map_err(|_| error())?;
        Ok(Server { authority: authority.to_string() })
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// Nobody there, or it hung up.
    #[error("ask {url}")]
    Connect {
        /// What was asked.
        url: String,
        /// What happened.
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    /// It took too long.
    #[error("ask {url}: no answer within {} s", .after.as_secs())]
    Timeout {
        /// What was asked.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// Its body broke off, or is too large.
    #[error("read the answer of {url}")]
    Body {
        /// What was asked.
        url: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It said no.
    #[error("{url} says: {detail}")]
    Refused {
        /// What was asked.
        url: String,
        /// Its status.
        status: StatusCode,
        /// Its words, made harmless.
        detail: String,
    },
    /// It is no Portolan, or not of this version.
    #[error("the answer of {url} is not what this version of portolan reads; is that a Portolan server?")]
    Shape {
        /// What was asked.
        url: String,
        /// What was missing.
        #[source]
        source: serde_json::Error,
    },
    /// The path cannot stand in a URL.
    #[error("`{path}` cannot be asked for")]
    Path {
        /// The path, made harmless.
        path: String,
        /// What is wrong with it.
        #[source]
        source: hyper::http::Error,
    },
}

impl ClientError {
    /// Whether nobody answered at all: another server may.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Connect { .. } | ClientError::Timeout { .. })
    }
}

/// An answer: JSON as it came, and what it says.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// As it came.
    pub(crate) raw: Bytes,
    /// What it says.
    pub(crate) value: T,
}

/// The client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: HyperClient<HttpConnector, Empty<Bytes>>,
}

impl Client {
    /// A client without connections.
    pub(crate) fn new() -> Client {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        Client { http: HyperClient::builder(TokioExecutor::new()).build(connector) }
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// When nobody answers in time, the server refuses, or the answer is not of this shape.
    pub(crate) async fn get<T: DeserializeOwned>(&self, server: &Server, path: &str) -> Result<Answer<T>, ClientError> {
        self.get_within(server, path, ANSWER_TIMEOUT).await
    }

    /// As [`Client::get`], within `limit`.
    pub(crate) async fn get_within<T: DeserializeOwned>(
        &self,
        server: &Server,
        path: &str,
        limit: Duration,
    ) -> Result<Answer<T>, ClientError> {
        let url = shown(&format!("{server}{path}"), 300);
        let whole = async {
            let response = self.send(server, path, &[]).await?;
            let status = response.status();
            let raw = body(response, &url).await?;
            if !status.is_success() {
                return Err(refused(status, &raw, url.clone()));
            }
            Ok(raw)
        };
        let raw = match timeout(limit, whole).await {
            Ok(raw) => raw?,
            Err(_) => return Err(ClientError::Timeout { url, after: limit }),
        };
        match serde_json::from_slice(&raw) {
            Ok(value) => Ok(Answer { raw, value }),
            Err(source) => Err(ClientError::Shape { url, source }),
        }
    }

    /// Opens a stream of events; the caller reads the body, and bounds the waiting.
    ///
    /// # Errors
    /// When nobody answers in time or the server refuses.
    pub(crate) async fn open(
        &self,
        server: &Server,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Incoming, ClientError> {
        let url = shown(&format!("{server}{path}"), 300);
        let opened = timeout(ANSWER_TIMEOUT, self.send(server, path, headers)).await;
        let response = opened.map_err(|_| ClientError::Timeout { url: url.clone(), after: ANSWER_TIMEOUT })??;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let raw = timeout(ANSWER_TIMEOUT, body(response, &url)).await;
        let raw = raw.map_err(|_| ClientError::Timeout { url: url.clone(), after: ANSWER_TIMEOUT })??;
        Err(refused(status, &raw, url))
    }

    async fn send(
        &self,
        server: &Server,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::get(format!("{server}{path}"))
            .header(ACCEPT, "application/json, application/problem+json, text/event-stream")
            .body(Empty::new())
            .map_err(|source| ClientError::Path { path: shown(path, 200), source })?;
        request.headers_mut().extend(headers.iter().cloned());
        let url = || shown(&format!("{server}{path}"), 300);
        self.http.request(request).await.map_err(|source| ClientError::Connect { url: url(), source })
    }
}

async fn body(response: Response<Incoming>, url: &str) -> Result<Bytes, ClientError> {
    let limited = Limited::new(response.into_body(), BODY_OCTETS_MAX);
    let collected = limited.collect().await;
    collected.map(|all| all.to_bytes()).map_err(|source| ClientError::Body { url: url.to_owned(), source })
}

/// The part of problem+json that a person reads.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: Option<String>,
}

fn refused(status: StatusCode, raw: &[u8], url: String) -> ClientError {
    let problem: Option<Problem> = serde_json::from_slice(raw).ok();
    let words = problem.map(|p| p.detail.unwrap_or(p.title)).filter(|words| !words.is_empty());
    let detail = words.map_or_else(|| format!("status {status}"), |words| shown(&words, 500));
    ClientError::Refused { url, status, detail }
}

/// One part of a path or a value of a query, with everything escaped that has a meaning there (RFC 3986 section 2.3).
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_servers_as_people_write_them() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Server::parse(text).ok().map(|s| s.to_string()).as_deref(), expected, "{text}");
        };
        check("http://127.0.0.1:8500", Some("http://127.0.0.1:8500"));
        check("http://registry.internal:8500/", Some("http://registry.internal:8500"));
        check("[::1]:8500", Some("http://[::1]:8500"));
        check("localhost:8500", Some("http://localhost:8500"));
        check("https://registry:8500", None);
        check("ftp://registry", None);
        check("http://user@registry", None);
        check("http://registry/v1?x", None);
        check("", None);
        check("a b", None);
    }

    #[test]
    fn escapes_parts_of_paths() {
        assert_eq!(escaped("../a b?c#d%"), "..%2Fa%20b%3Fc%23d%25");
    }
}
