//! Reading with patience: `?index=N&wait=30s` answers once the resource is past N, or the wait is over.
//!
//! As Consul's clients know it: an answer does not promise a change, an index of 0 or one from the future is answered at
//! once, and a little is added to each wait, so that clients that began together do not come back together.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use portolan_core::refusal::shown;
use portolan_core::view::Readiness;
use portolan_runtime::http::Problem;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::Surface;
use super::topics::Topic;
use crate::catalog::Catalog;

/// The wait where only an index is given.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// The longest wait; a longer one is cut to it.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// A wait is lengthened by up to a sixteenth of itself.
const JITTER_PART: u32 = 16;

/// From which index on, and how long to wait for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Patience {
    /// The index that the reader has.
    index: Option<u64>,
    /// How long it waits.
    wait: Duration,
}

#[derive(Deserialize)]
struct Raw {
    index: Option<String>,
    wait: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Patience {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Patience, Problem> {
        let raw = Query::<Raw>::try_from_uri(&parts.uri);
        let Query(raw) = raw.map_err(|error| Problem::bad_field("index", error.to_string()))?;
        let index = raw.index.map(|text| index(&text)).transpose()?;
        let wait = raw.wait.map_or(Ok(WAIT_DEFAULT), |text| wait(&text))?;
        Ok(Patience { index, wait })
    }
}

fn index(text: &str) -> Result<u64, Problem> {
    let expected = || Problem::bad_field("index", format!("`{}` is not an index: a whole number", shown(text, 40)));
    text.parse().map_err(|_| expected())
}

fn wait(text: &str) -> Result<Duration, Problem> {
    let expected =
        || Problem::bad_field("wait", format!("`{}` is not a time such as 500ms, 30s or 5m", shown(text, 40)));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| expected())?;
    let wait = match &text[digits..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(expected()),
    };
    Ok(wait.min(WAIT_MAX))
}

impl Surface {
    /// The catalog, once `topic` is past the reader's index or its wait is over.
    ///
    /// # Errors
    /// When nothing is loaded yet, or too many wait already.
    pub(super) async fn patient(
        &self,
        topic: Topic,
        patience: Patience,
    ) -> Result<(std::sync::Arc<Catalog>, u64), Problem> {
        let current = || {
            let catalog = self.ready()?;
            let index = self.topics.index(&topic, &catalog);
            Ok::<_, Problem>((catalog, index))
        };
        // Before the first look, so that nothing falls between the two.
        let mut subscription = self.topics.subscribe(topic.clone());
        let (catalog, now) = current()?;
        let has = patience.index.filter(|has| *has != 0 && *has == now);
        let Some(has) = has else { return Ok((catalog, now)) };
        drop(catalog);
        let _permit = self.waiters.try_acquire().map_err(|_| {
            Problem::unavailable("too many readers wait here already; ask without `index`, or again in a few seconds")
        })?;
        let jitter = patience.wait / JITTER_PART;
        let until = Instant::now() + patience.wait + jitter.mul_f64(rand::rng().random_range(0.0..1.0));
        loop {
            // Cancel-safe: a change that is not seen here is seen by the look that follows.
            let is_over = tokio::select! {
                () = subscription.changed() => false,
                () = sleep_until(until) => true,
            };
            let (catalog, now) = current()?;
            if is_over || now != has {
                return Ok((catalog, now));
            }
        }
    }

    /// The catalog, if answers may be given.
    ///
    /// # Errors
    /// Until the first load is complete.
    pub(super) fn ready(&self) -> Result<std::sync::Arc<Catalog>, Problem> {
        let catalog = self.shown.catalog.load();
        match catalog.view.readiness {
            Readiness::Loading => Err(Problem::unavailable("services are not loaded yet; ask again in a second")),
            Readiness::Stale | Readiness::Current => Ok(catalog),
        }
    }
}

/// An answer with its index and epoch.
pub(super) fn answer<T: Serialize>(body: Result<T, Problem>, index: u64, catalog: &Catalog) -> Response {
    let mut response = match body {
        Ok(value) => Json(value).into_response(),
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().insert("x-portolan-index", index.into());
    with_epoch(response, catalog)
}

/// The same with its epoch.
pub(super) fn with_epoch(mut response: Response, catalog: &Catalog) -> Response {
    if let Ok(epoch) = HeaderValue::from_str(&catalog.epoch) {
        response.headers_mut().insert("x-portolan-epoch", epoch);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_waits_as_clients_write_them() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(wait(text).ok(), expected.map(Duration::from_millis), "{text}");
        };
        check("30s", Some(30_000));
        check("500ms", Some(500));
        check("5m", Some(300_000));
        check("600m", Some(600_000));
        check("18446744073709551615m", Some(600_000));
        check("0s", Some(0));
        for bad in ["", "s", "30", "-1s", "1h", "1 s", "99999999999999999999s", "ü"] {
            check(bad, None);
        }
    }
}
