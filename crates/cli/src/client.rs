//! The HTTP client: one request at a time, bounded in time and size. It follows no redirect and sends no credential.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
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
    /// Something is there that does not speak HTTP/1.
    #[error("ask {url}: what answers there does not speak HTTP/1")]
    NotHttp {
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
        /// The index of what was asked for, all the same.
        index: Option<u64>,
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

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    method: Method,
    path: &'a str,
    body: Option<Bytes>,
    /// How long the whole answer may take.
    limit: Duration,
}

impl<'a> Question<'a> {
    /// A read.
    pub(crate) fn get(path: &'a str) -> Question<'a> {
        Question { method: Method::GET, path, body: None, limit: ANSWER_TIMEOUT }
    }

    /// A write, with JSON.
    pub(crate) fn write(method: Method, path: &'a str, body: Option<Vec<u8>>) -> Question<'a> {
        Question { method, body: body.map(Bytes::from), ..Question::get(path) }
    }

    /// The same, with as much time for the answer.
    pub(crate) fn within(self, limit: Duration) -> Question<'a> {
        Question { limit, ..self }
    }
}

/// An answer: JSON as it came, and what it says.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// As it came.
    pub(crate) raw: Bytes,
    /// What it says.
    pub(crate) value: T,
    /// The index of what was asked for, if it has one.
    pub(crate) index: Option<u64>,
}

/// The client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: HyperClient<HttpConnector, Full<Bytes>>,
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
        self.ask(server, Question::get(path)).await
    }

    /// Asks anything.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        server: &Server,
        question: Question<'_>,
    ) -> Result<Answer<T>, ClientError> {
        let (url, limit) = (url(server, question.path), question.limit);
        let whole = async {
            let response = self.send(server, question, &[]).await?;
            let (status, index) = (response.status(), index(response.headers()));
            let raw = body(response, &url).await?;
            if !status.is_success() {
                return Err(refused(status, &raw, (url.clone(), index)));
            }
            Ok((raw, index))
        };
        let (raw, index) = match timeout(limit, whole).await {
            Ok(whole) => whole?,
            Err(_) => return Err(ClientError::Timeout { url, after: limit }),
        };
        match serde_json::from_slice(&raw) {
            Ok(value) => Ok(Answer { raw, value, index }),
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
        let url = url(server, path);
        let opened = timeout(ANSWER_TIMEOUT, self.send(server, Question::get(path), headers)).await;
        let response = opened.map_err(|_| ClientError::Timeout { url: url.clone(), after: ANSWER_TIMEOUT })??;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let raw = timeout(ANSWER_TIMEOUT, body(response, &url)).await;
        let raw = raw.map_err(|_| ClientError::Timeout { url: url.clone(), after: ANSWER_TIMEOUT })??;
        Err(refused(status, &raw, (url, None)))
    }

    async fn send(
        &self,
        server: &Server,
        question: Question<'_>,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, ClientError> {
        let Question { method, path, body, .. } = question;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{server}{path}"))
            .header(ACCEPT, "application/json, application/problem+json, text/event-stream");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let mut request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|source| ClientError::Path { path: shown(path, 200), source })?;
        request.headers_mut().extend(headers.iter().cloned());
        self.http.request(request).await.map_err(|source| {
            let url = url(server, path);
            if is_no_http(&source) {
                ClientError::NotHttp { url, source }
            } else {
                ClientError::Connect { url, source }
            }
        })
    }
}

fn url(server: &Server, path: &str) -> String {
    shown(&format!("{server}{path}"), 300)
}

fn index(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-portolan-index")?.to_str().ok()?.parse().ok()
}

/// Whether bytes came back that are no HTTP/1: a gRPC server answers with frames of HTTP/2.
fn is_no_http(error: &hyper_util::client::legacy::Error) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let mut causes = causes.filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    // It speaks first, which hyper tells in words alone.
    causes.any(|cause| cause.is_parse() || cause.to_string().contains("received unexpected message"))
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
    #[serde(default)]
    field: Option<String>,
}

fn refused(status: StatusCode, raw: &[u8], (url, index): (String, Option<u64>)) -> ClientError {
    let problem: Option<Problem> = serde_json::from_slice(raw).ok();
    let (field, words) = problem.map(|p| (p.field, p.detail.unwrap_or(p.title))).unwrap_or_default();
    let field = field.map(|field| format!("`{field}`: ")).unwrap_or_default();
    let detail = if words.is_empty() { format!("status {status}") } else { shown(&format!("{field}{words}"), 500) };
    ClientError::Refused { url, status, index, detail }
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
