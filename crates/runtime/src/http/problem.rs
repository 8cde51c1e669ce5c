//! Errors of every HTTP surface: problem documents (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Its media type.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, for the caller. Only for what the caller may know: causes stay in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status code of the answer.
    pub status: StatusCode,
    /// What kind of problem, the same for each of the kind.
    pub title: String,
    /// What is wrong this time, and what would be right.
    pub detail: String,
    /// The field or parameter that is wrong.
    pub field: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Problem {
    /// A problem of the kind that its status names.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Problem { status, title, detail: detail.into(), field: None }
    }

    /// 404: what was asked for is not there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 400: one field or parameter is wrong.
    pub fn bad_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Problem { field: Some(field.into()), ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    /// 503: not now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (title, detail, field) = (self.title.as_str(), self.detail.as_str(), self.field.as_deref());
        let document = Json(Document { title, status: self.status.as_u16(), detail, field });
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        (self.status, [(header::CONTENT_TYPE, media_type)], document).into_response()
    }
}
