//! `/metrics`, `/healthz` (alive) and `/readyz` (would answer well).

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Problem;
use crate::metrics::{self, Metrics};

/// The three paths. `readiness` says why the program would not answer well; it is called for each question, so it only
/// looks at what is known.
pub fn health(
    metrics: Arc<Metrics>,
    readiness: impl Fn() -> Result<(), String> + Clone + Send + Sync + 'static,
) -> Router {
    let readyz = move || {
        let result = readiness();
        async move { ready(result) }
    };
    let figures = move || {
        let text = metrics.encode();
        async move { ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], text) }
    };
    Router::new()
        .route("/metrics", get(figures))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
}

fn ready(result: Result<(), String>) -> Response {
    match result {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => Problem::unavailable(reason).into_response(),
    }
}
