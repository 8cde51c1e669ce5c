//! Streams of changes.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt;

use super::*;
use crate::catalog::EVENTS_MAX;

/// A stream, and what came of it that was not yet looked at.
struct Heard {
    body: BodyDataStream,
}

async fn watch(setup: &Setup, query: &str, last_id: Option<u64>) -> Heard {
    let mut request = Request::get(format!("/api/watch{query}"));
    if let Some(id) = last_id {
        request = request.header("Last-Event-ID", id);
    }
    let response = setup.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    Heard { body: response.into_body().into_data_stream() }
}

impl Heard {
    /// The next event as `NAME ID SERVICE FROM->TO`; waits for it.
    async fn next(&mut self) -> String {
        let bytes = tokio::time::timeout(Duration::from_secs(3_600), self.body.next()).await.expect("an event in time");
        let text = String::from_utf8(bytes.unwrap().unwrap().to_vec()).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("-").trim().to_owned();
        let data: Value = serde_json::from_str(&field("data:")).unwrap_or_default();
        let mut words = vec![field("event:"), field("id:")];
        if let Some(service) = data["service"].as_str() {
            words.push(service.to_owned());
            words.push(format!("{}->{}", data["from"].as_str().unwrap_or("new"), data["to"].as_str().unwrap()));
        }
        if text.starts_with(':') { text.trim().to_owned() } else { words.join(" ") }
    }
}

#[tokio::test(start_paused = true)]
async fn tells_changes_of_the_service_alone_and_lives_meanwhile() {
    let setup = setup(fixture::catalog());
    setup.settled().await;
    let mut heard = watch(&setup, "?cluster=prod&service=es", None).await;
    assert_eq!(heard.next().await, "start 1000");
    setup.change(|catalog| put(catalog, &key("web", "prod"), &[(7, Word::Starting)], FIRST + 1));
    let began = tokio::time::Instant::now();
    assert_eq!(heard.next().await, ": alive");
    assert_eq!(began.elapsed(), Duration::from_secs(15));
    setup.change(|catalog| put(catalog, &key("es", "prod"), &[(1, Word::Failing)], FIRST + 2));
    assert_eq!(heard.next().await, "change 1002 es usable->unusable");
}

#[tokio::test(start_paused = true)]
async fn goes_on_after_the_last_id() {
    let setup = setup(fixture::catalog());
    setup.change(|catalog| put(catalog, &key("es", "prod"), &[(1, Word::Failing)], FIRST + 1));
    setup.change(|catalog| put(catalog, &key("es", "prod"), &[(1, Word::Passing), (8, Word::Starting)], FIRST + 2));
    setup.settled().await;
    let mut heard = watch(&setup, "", Some(FIRST + 1)).await;
    assert_eq!(heard.next().await, "change - es unusable->usable", "the first of an index carries no id");
    assert_eq!(heard.next().await, "change 1002 es new->starting");
    let mut heard = watch(&setup, "?cluster=prod", Some(FIRST)).await;
    assert_eq!(heard.next().await, "change 1001 es usable->unusable");
    let mut elsewhere = watch(&setup, "?cluster=test", Some(FIRST)).await;
    assert_eq!(elsewhere.next().await, ": alive");
}

#[tokio::test(start_paused = true)]
async fn says_when_changes_are_missing() {
    let setup = setup(fixture::catalog());
    let mut ahead = watch(&setup, "", Some(FIRST + 77)).await;
    assert_eq!(ahead.next().await, "reset 1000");
    let mut before = watch(&setup, "", Some(FIRST - 1)).await;
    assert_eq!(before.next().await, "reset 1000");
    let mut slow = watch(&setup, "", Some(FIRST)).await;
    setup.change(|catalog| {
        put(catalog, &key("es", "prod"), &[(1, Word::Failing)], FIRST + 1);
        let one = catalog.events.back().unwrap().clone();
        for step in 2..=EVENTS_MAX as u64 + 5 {
            catalog.events.push_back(Arc::new(crate::catalog::Event { index: FIRST + step, ..(*one).clone() }));
        }
        while catalog.events.len() > EVENTS_MAX {
            catalog.events.pop_front();
        }
        catalog.view.index = FIRST + EVENTS_MAX as u64 + 5;
    });
    assert_eq!(slow.next().await, format!("reset {}", FIRST + EVENTS_MAX as u64 + 5));
}

#[tokio::test(start_paused = true)]
async fn streams_are_bounded_and_free_their_place() {
    let setup = setup(fixture::catalog());
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        open.push(watch(&setup, "", None).await);
    }
    assert_eq!(setup.get("/api/watch").await.status(), 503);
    open.pop();
    assert_eq!(setup.get("/api/watch").await.status(), 200);
}
