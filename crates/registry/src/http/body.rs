//! Bodies of writes: JSON, read field by field, so that an error names the field and what would be right.
//!
//! A body must say that it is JSON: what a form of another site can send without asking is something else, so this is a
//! second line behind the guard's.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portolan_core::refusal::shown;
use portolan_runtime::http::Problem;
use serde_json::{Map, Value};

use super::names::nearest;

/// A body that may be missing.
#[derive(Debug)]
pub(super) struct Body(pub(super) Option<Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Body, Response> {
        let is_json = says_json(request.headers());
        // Longer ones than the guard allows are refused by it.
        let bytes = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        read(&bytes, is_json).map(Body).map_err(IntoResponse::into_response)
    }
}

/// What the content type says; `None`: there is none.
fn says_json(headers: &HeaderMap) -> Option<bool> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    Some(essence.eq_ignore_ascii_case("application/json"))
}

fn read(bytes: &[u8], is_json: Option<bool>) -> Result<Option<Value>, Problem> {
    match is_json {
        None if bytes.is_empty() => return Ok(None),
        None | Some(false) => {
            let detail = "the body must be JSON, with `Content-Type: application/json`";
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
            return Err(Problem { field: Some("Content-Type".to_owned()), ..problem });
        }
        Some(true) if bytes.is_empty() => return Ok(None),
        Some(true) => {}
    }
    let value = serde_json::from_slice(bytes);
    value.map(Some).map_err(|error| Problem::bad_field("body", format!("it is not JSON: {error}")))
}

/// The fields of one object, each read by its name. `null` counts as a field that is not there.
pub(super) struct Fields<'a> {
    /// Where the object is in the body, with the dot before a field: empty, or `endpoints[3].`.
    path: String,
    map: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which is at `path`; that of the whole body is empty.
    pub(super) fn of(value: &'a Value, path: &str) -> Result<Self, Problem> {
        let field = if path.is_empty() { "body" } else { path };
        let map = value.as_object().ok_or_else(|| Problem::bad_field(field, "an object is needed: { ... }"))?;
        let path = if path.is_empty() { String::new() } else { format!("{path}.") };
        Ok(Fields { path, map, known: Vec::new() })
    }

    /// The whole name of a field, as errors tell it.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// A problem with one field.
    pub(super) fn bad(&self, name: &str, detail: impl Into<String>) -> Problem {
        Problem::bad_field(self.path(name), detail)
    }

    /// A value of any kind.
    pub(super) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, Problem> {
        let text = |value: &'a Value| value.as_str().ok_or_else(|| self.bad(name, "a text is needed"));
        let value = self.map.get(name).filter(|value| !value.is_null()).map(text).transpose();
        self.known.push(name);
        value
    }

    /// A number from `least` to 65535.
    pub(super) fn number(&mut self, name: &'static str, least: u16) -> Result<Option<u16>, Problem> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number >= least);
        let needed = || self.bad(name, format!("a whole number from {least} to 65535 is needed"));
        number.map(Some).ok_or_else(needed)
    }

    /// The elements of a list of at most `most`; none where the field is not there.
    pub(super) fn list(&mut self, name: &'static str, most: usize) -> Result<&'a [Value], Problem> {
        let Some(value) = self.value(name) else { return Ok(&[]) };
        let list = value.as_array().ok_or_else(|| self.bad(name, "a list is needed: [ ... ]"))?;
        if list.len() > most {
            return Err(self.bad(name, format!("has {} elements; at most {most} are taken", list.len())));
        }
        Ok(list)
    }

    /// To be called when every field was read: what is left is a mistake.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.map.keys().find(|name| !self.known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let nearest = nearest(name, self.known.iter().copied());
                Err(self.bad(&shown(name, 80), format!("there is no such field{nearest}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field() {
        let check = |body: &str, expected: &str| {
            let read = || -> Result<(), Problem> {
                let value = read(body.as_bytes(), Some(true))?.unwrap_or_default();
                let mut fields = Fields::of(&value, "")?;
                fields.text("name")?;
                for (at, one) in fields.list("all", 2)?.iter().enumerate() {
                    let mut fields = Fields::of(one, &format!("all[{at}]"))?;
                    fields.number("port", 1)?;
                    fields.finish()?;
                }
                fields.finish()
            };
            let problem = read().err();
            let text = problem.map(|p| format!("{}: {}", p.field.unwrap_or_default(), p.detail)).unwrap_or_default();
            assert!(text.starts_with(expected) && text.is_empty() == expected.is_empty(), "{body}: {text}");
        };
        check(r#"{"name": "x", "all": [{"port": 1}, {"port": null}]}"#, "");
        check(r#"{"name": null}"#, "");
        check("", "body: an object");
        check("[]", "body: an object");
        check("{", "body: it is not JSON");
        check(r#"{"name": 1}"#, "name: a text");
        check(r#"{"nme": "x"}"#, "nme: there is no such field; did you mean `name`?");
        check(r#"{"all": {}}"#, "all: a list");
        check(r#"{"all": [1, 2, 3]}"#, "all: has 3 elements; at most 2");
        check(r#"{"all": [1]}"#, "all[0]: an object");
        check(r#"{"all": [{"port": 0}]}"#, "all[0].port: a whole number from 1");
        check(r#"{"all": [{"port": 65536}]}"#, "all[0].port: a whole number");
        check(r#"{"all": [{"port": "80"}]}"#, "all[0].port: a whole number");
        check(r#"{"all": [{}, {"prot": 1}]}"#, "all[1].prot: there is no such field; did you mean `port`?");
    }
}
