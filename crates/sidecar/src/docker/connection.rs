//! The connection to Docker: subscribe, list, and list again every ten seconds; on any failure begin anew.
//!
//! Decides nothing: whatever Docker says goes to the witness. Every call has a deadline, because a stopped dockerd
//! accepts connections and never answers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use portolan_core::refusal::shown;
use rand::RngExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use super::facts::DockerHealth;
use super::metrics::Metrics;
use super::signal;
use super::state::{Connected, Event, EventKind, Input, Listed};

/// No call of ours may take longer (DESIGN section 2).
pub(super) const CALL_MAX: Duration = Duration::from_secs(10);
const CALL_MAX_SECONDS: u64 = 10;
/// How often the list is compared with what is known.
const LIST_EVERY: Duration = Duration::from_secs(10);
/// Waits between connections: full jitter up to this, doubled from the first to the last. The last keeps recovery
/// within 15 s of dockerd's return.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// Events are asked for from this long before the connection: what happened between two connections, and what happens
/// while the first list is made, is then told at least once.
const EVENTS_OVERLAP: Duration = Duration::from_secs(5);
/// Everything that the witness hears. `exec_*`, which every HEALTHCHECK run causes thrice, is not here.
const EVENTS: [&str; 14] = [
    "start",
    "restart",
    "kill",
    "die",
    "stop",
    "oom",
    "pause",
    "unpause",
    "destroy",
    "rename",
    "update",
    "health_status",
    "connect",
    "disconnect",
];

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("call Docker: {0}")]
    Call(&'static str, #[source] bollard::errors::Error),
    #[error("call Docker: {0} took over {CALL_MAX_SECONDS} s")]
    Slow(&'static str),
    #[error("Docker closed the stream of events")]
    EventsEnded,
    #[error("the witness is gone")]
    WitnessGone,
}

/// Keeps a connection for as long as the program runs.
pub(super) async fn run(socket: PathBuf, inputs: mpsc::Sender<Input>, metrics: Metrics) {
    let mut backoff = BACKOFF_MIN;
    let mut was_up = None;
    loop {
        let began = Instant::now();
        let error = match serve(&socket, &inputs, &metrics).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        metrics.is_up.set(0);
        let reason = chain(&error);
        if was_up != Some(false) {
            warn!(socket = %socket.display(), "Docker is out of reach, what is known stands: {reason}");
        }
        was_up = Some(false);
        if inputs.send(Input::Lost(shown(&reason, 300))).await.is_err() {
            return;
        }
        // A connection that lasted proves that Docker is well: begin with short waits again.
        if began.elapsed() > 2 * CALL_MAX {
            backoff = BACKOFF_MIN;
        }
        let wait = rand::rng().random_range(Duration::ZERO..=backoff);
        sleep(wait).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One connection, until it fails.
async fn serve(
    socket: &std::path::Path,
    inputs: &mpsc::Sender<Input>,
    metrics: &Metrics,
) -> Result<std::convert::Infallible, ConnectionError> {
    let path = socket.to_string_lossy();
    let client = Docker::connect_with_unix(&path, CALL_MAX_SECONDS, API_DEFAULT_VERSION)
        .map_err(|error| ConnectionError::Call("open its socket", error))?;
    // It only ever lowers the version, so each connection begins from the newest one.
    let client = called("version", client.negotiate_version()).await?;
    let version = client.client_version();
    let api_version = format!("{}.{}", version.major_version, version.minor_version);
    let mut events = Box::pin(subscribe(&client));
    send(inputs, Input::Connected(Box::new(Connected { client: client.clone(), api_version: api_version.clone() })))
        .await?;
    info!(socket = %socket.display(), "watching Docker, API {api_version}");
    metrics.is_up.set(1);
    let mut ticks = interval(LIST_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listing: Option<Call<Vec<Listed>>> = None;
    loop {
        // All branches are cancel-safe: a stream, an interval and a call in its box keep their place.
        tokio::select! {
            message = events.next() => {
                metrics.events.inc();
                let message = message.ok_or(ConnectionError::EventsEnded)?;
                let message = message.map_err(|error| ConnectionError::Call("events", error))?;
                if let Some(event) = read_event(message) {
                    send(inputs, Input::Event(event)).await?;
                }
            }
            _ = ticks.tick(), if listing.is_none() => listing = Some(Box::pin(list(client.clone()))),
            listed = pending(&mut listing), if listing.is_some() => {
                listing = None;
                send(inputs, Input::Listed(listed?)).await?;
            }
        }
    }
}

/// A call under way.
type Call<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send>>;

/// Waits for the call under way, if there is one.
async fn pending<T>(call: &mut Option<Call<T>>) -> Result<T, ConnectionError> {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

async fn send(inputs: &mpsc::Sender<Input>, input: Input) -> Result<(), ConnectionError> {
    inputs.send(input).await.map_err(|_| ConnectionError::WitnessGone)
}

async fn called<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, ConnectionError> {
    let outcome = timeout(CALL_MAX, call).await.map_err(|_| ConnectionError::Slow(what))?;
    outcome.map_err(|error| ConnectionError::Call(what, error))
}

fn subscribe(client: &Docker) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + use<> {
    let since = jiff::Timestamp::now() - jiff::SignedDuration::try_from(EVENTS_OVERLAP).unwrap_or_default();
    let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let filters =
        HashMap::from([("type".to_owned(), texts(&["container", "network"])), ("event".to_owned(), texts(&EVENTS))]);
    let since = format!("{}.{:09}", since.as_second(), since.subsec_nanosecond());
    client.events(Some(EventsOptions { since: Some(since), until: None, filters: Some(filters) }))
}

async fn list(client: Docker) -> Result<Vec<Listed>, ConnectionError> {
    let listed = called("list containers", client.list_containers(None::<ListContainersOptions>)).await?;
    Ok(listed.into_iter().filter_map(read_row).collect())
}

fn read_row(row: ContainerSummary) -> Option<Listed> {
    let status = row.status.unwrap_or_default();
    let health = match () {
        () if status.contains("(healthy)") => DockerHealth::Healthy,
        () if status.contains("(unhealthy)") => DockerHealth::Unhealthy,
        () if status.contains("(health: starting)") => DockerHealth::Starting,
        () => DockerHealth::Absent,
    };
    Some(Listed { id: row.id?, is_paused: row.state == Some(ContainerSummaryStateEnum::PAUSED), health })
}

/// What an event means for a container. Anything unknown asks for an inspection at most.
fn read_event(message: EventMessage) -> Option<Event> {
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    let at_ns = message.time_nano.and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
    if message.typ == Some(EventMessageTypeEnum::NETWORK) {
        return Some(Event { id: attributes.get("container")?.clone(), kind: EventKind::Network, at_ns });
    }
    let kind = match message.action?.as_str() {
        "kill" => EventKind::Kill(attributes.get("signal").and_then(|text| signal::number(text)).unwrap_or(0)),
        "die" => EventKind::Die(attributes.get("exitCode").and_then(|text| text.parse().ok())),
        "destroy" => EventKind::Destroy,
        _ => EventKind::Changed,
    };
    Some(Event { id: actor.id?, kind, at_ns })
}

/// An error with its causes, for people.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
