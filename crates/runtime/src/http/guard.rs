//! The guard in front of every router: whom a request may name, where it may come from, how long it may be; and errors
//! of the framework turned into problem documents.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};

use super::Problem;

/// The longest request body: 1 MiB. Longer ones are refused with 413.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest error text of the framework that is shown.
const ERROR_BYTES_MAX: usize = 4096;

/// Puts the guard around a router.
pub(super) fn guarded(router: Router, host_names: Arc<[String]>) -> Router {
    let check = move |request: Request, next: Next| {
        let host_names = host_names.clone();
        async move {
            let refused = refuse_host(request.headers(), &host_names).or_else(|| refuse_site(&request));
            let refused = refused.or_else(|| refuse_length(request.headers()));
            let response = match refused {
                Some(problem) => problem.into_response(),
                None => next.run(request.map(|body| Body::new(Limited::new(body, BODY_BYTES_MAX)))).await,
            };
            finished(response).await
        }
    };
    let router = router.fallback(|| async { Problem::not_found("no such path") });
    let not_here = || async { Problem::new(StatusCode::METHOD_NOT_ALLOWED, "another method is meant for this path") };
    router.method_not_allowed_fallback(not_here).layer(middleware::from_fn(check))
}

/// DNS rebinding needs a name that somebody else owns: addresses and `localhost` (RFC 6761) are nobody's.
fn refuse_host(headers: &HeaderMap, host_names: &[String]) -> Option<Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Some(Problem::bad_field("Host", "one Host header is needed"));
    };
    let name = host_name(host.to_str().unwrap_or_default()).to_ascii_lowercase();
    let is_address = name.parse::<Ipv4Addr>().is_ok() || name.parse::<Ipv6Addr>().is_ok();
    let is_local = name == "localhost" || name.ends_with(".localhost");
    if is_address || is_local || host_names.contains(&name) {
        return None;
    }
    let detail = "this host name is not served here: use an address, localhost, or a name that is configured";
    Some(Problem { field: Some("Host".to_owned()), ..Problem::new(StatusCode::MISDIRECTED_REQUEST, detail) })
}

/// `name:port`, `name`, `[address]:port` or `[address]`, without the port and the brackets.
fn host_name(host: &str) -> &str {
    let without_port = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    without_port.strip_suffix('.').unwrap_or(without_port)
}

/// What changes something must not come from a page of another site. Browsers say where from (Fetch, section 3.2);
/// programs that are no browsers say nothing and pass.
fn refuse_site(request: &Request) -> Option<Problem> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
        return None;
    }
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_ours = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        site.is_some_and(|site| site.eq_ignore_ascii_case(host))
    };
    let is_same_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    let from_ours = headers.get_all(header::ORIGIN).iter().all(is_ours);
    if from_ours && headers.get_all("sec-fetch-site").iter().all(is_same_site) {
        return None;
    }
    let detail = "a page of another site must not change anything here";
    Some(Problem { field: Some("Origin".to_owned()), ..Problem::new(StatusCode::FORBIDDEN, detail) })
}

/// A body that says itself that it is too long is not waited for.
fn refuse_length(headers: &HeaderMap) -> Option<Problem> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    (length > BODY_BYTES_MAX as u64).then(too_long)
}

fn too_long() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body may have {BODY_BYTES_MAX} bytes"))
}

/// Adds what every answer carries, and turns plain-text errors of extractors into problem documents.
async fn finished(response: Response) -> Response {
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let media_type = response.headers().get(header::CONTENT_TYPE);
    let is_plain = media_type.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let mut response = if is_error && is_plain { explained(response).await } else { response };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn explained(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    if parts.status == StatusCode::PAYLOAD_TOO_LARGE {
        return too_long().into_response();
    }
    let text = Limited::new(body, ERROR_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Problem::new(parts.status, String::from_utf8_lossy(&text)).into_response();
    let kept = parts.headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
    let kept = kept.filter(|(name, _)| ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name));
    response.headers_mut().extend(kept);
    response
}
