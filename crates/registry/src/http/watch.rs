//! Changes as they happen, as server-sent events (WHATWG HTML section 9.2).
//!
//! The stream begins with `start`, whose id is where to go on. A `change` tells one change; only the last one of an
//! index carries the id, so that a reader who was cut off between two of one index is told both again. `reset` says that
//! changes are missing: read everything anew. A slow reader is waited for by TCP alone, and gets a `reset` when what it
//! missed is forgotten.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use portolan_runtime::http::Problem;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::services::Wanted;
use super::topics::{Scope, Subscription};
use super::{Shared, Surface, api, convert, events, read};
use crate::catalog::Catalog;

/// How often a stream in which nothing happens says that it lives.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// How many changes are made ready at once.
const BATCH_MAX: usize = 256;

/// Changes as they happen, as server-sent events: `start`, `change`, `reset`. Ids are indexes.
#[utoipa::path(get, path = "/api/watch", tag = "changes",
    params(
        ("cluster" = Option<String>, Query, description = "Only this cluster"),
        ("service" = Option<String>, Query, description = "Only this service of it"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Go on after this index"),
    ),
    responses(
        (status = 200, body = api::Change, content_type = "text/event-stream"),
        (status = 503, description = "Not loaded yet, or too many streams"),
    ))]
pub(super) async fn stream(
    State(surface): Shared,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let scope = wanted.scope()?;
    let last_id =
        match headers.get("last-event-id") {
            None => None,
            Some(value) => {
                let id = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
                Some(id.ok_or_else(|| {
                    Problem::bad_field("Last-Event-ID", "an index is needed, such as a stream's ids are")
                })?)
            }
        };
    let catalog = surface.ready()?;
    let permit = surface.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("too many streams are open; try again in a few seconds"))?;
    let follower = Follower::new(surface, scope, permit, last_id);
    let events = follower.events().map(Ok::<_, Infallible>);
    let alive = KeepAlive::new().interval(HEARTBEAT_EVERY).text("alive");
    Ok(read::with_epoch(Sse::new(events).keep_alive(alive).into_response(), &catalog))
}

/// One reader's place in the stream of changes.
struct Follower {
    surface: Arc<Surface>,
    scope: Scope,
    subscription: Subscription,
    /// Everything up to here was told.
    told: u64,
    beginning: Beginning,
    _permit: OwnedSemaphorePermit,
}

/// What the stream says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// A new reader, from now on.
    Fresh,
    /// One that goes on where it was.
    Resumed,
    /// It was said.
    Past,
}

impl Follower {
    fn new(surface: Arc<Surface>, scope: Scope, permit: OwnedSemaphorePermit, last_id: Option<u64>) -> Follower {
        // Before the first look, so that nothing falls between the two.
        let subscription = surface.topics.subscribe(events::topic(&scope));
        let catalog = surface.shown.catalog.load();
        let told = last_id.unwrap_or_else(|| events::newest(&catalog));
        let beginning = if last_id.is_some() { Beginning::Resumed } else { Beginning::Fresh };
        Follower { surface, scope, subscription, told, beginning, _permit: permit }
    }

    fn events(self) -> impl Stream<Item = SseEvent> + Send {
        stream::unfold(self, |mut follower| async move {
            let batch = follower.next().await;
            Some((stream::iter(batch), follower))
        })
        .flatten()
    }

    /// The next events; waits for some.
    async fn next(&mut self) -> Vec<SseEvent> {
        loop {
            let catalog = self.surface.shown.catalog.load();
            let batch = self.news(&catalog);
            if !batch.is_empty() {
                return batch;
            }
            drop(catalog);
            self.subscription.changed().await;
        }
    }

    fn news(&mut self, catalog: &Catalog) -> Vec<SseEvent> {
        let beginning = std::mem::replace(&mut self.beginning, Beginning::Past);
        let mut batch = Vec::new();
        let is_lost = self.told < events::complete_after(catalog);
        let is_from_elsewhere = beginning == Beginning::Resumed && self.told > catalog.view.index;
        if is_lost || is_from_elsewhere {
            self.told = events::newest(catalog);
            let reason =
                if is_lost { "changes in between are forgotten" } else { "this registry never said that index" };
            let reset = api::Reset { index: self.told, reason: format!("{reason}: read everything anew") };
            batch.extend(event("reset", Some(self.told), &reset));
        } else if beginning == Beginning::Fresh {
            batch.extend(event("start", Some(self.told), &serde_json::json!({ "index": self.told })));
        }
        let mut news = events::after(self.told, catalog).peekable();
        while let Some(change) = news.next() {
            let next_index = news.peek().map(|next| next.index);
            // Whole indexes only, so that what was told can be one number.
            let is_last = next_index != Some(change.index);
            if self.scope.holds(&change.service) {
                batch.extend(event("change", is_last.then_some(change.index), &convert::change(change, catalog)));
            }
            if is_last {
                self.told = change.index;
                if batch.len() >= BATCH_MAX {
                    break;
                }
            }
        }
        batch
    }
}

fn event(name: &str, id: Option<u64>, data: &impl Serialize) -> Option<SseEvent> {
    let event = SseEvent::default().event(name);
    let event = id.into_iter().fold(event, |event, id| event.id(id.to_string()));
    // Our own shapes are always JSON; one that is not would be left out rather than end the stream.
    event.json_data(data).ok()
}
