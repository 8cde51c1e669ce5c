//! `portolan watch`: a line per change, as it happens. A lost connection is taken up again where it ended.

mod events;

use std::io::Write;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use portolan_registry::http::api::{Change, Reset};
use rand::RngExt;
use tokio::time::{sleep, timeout};

use crate::arguments::Output;
use crate::client::{Client, ClientError, escaped};
use crate::commands::{Failure, Key, Verdict};
use crate::locate::Registry;
use crate::show::{self, Cell, Screen, Tone};
use events::{Event, Parser};

/// Three of the server's heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// The first pause before another connection; doubles, with full jitter, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// A person looks on.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What to follow.
pub(crate) struct Watch<'a> {
    /// Asks.
    pub(crate) client: &'a Client,
    /// Whom.
    pub(crate) registry: &'a Registry,
    /// For what.
    pub(crate) path: String,
    /// How to show it.
    pub(crate) output: Output,
}

/// Where the changes of `key`, or of everything, are.
pub(crate) fn path(key: Option<&Key>) -> String {
    match key {
        Some(key) => format!("/api/watch?cluster={}&service={}", escaped(&key.cluster), escaped(&key.service)),
        None => "/api/watch".to_owned(),
    }
}

impl Watch<'_> {
    /// Shows changes until the output ends.
    ///
    /// # Errors
    /// When the first connection fails, the server refuses, or the output cannot be written.
    pub(crate) async fn run<W: Write>(&self, screen: &mut Screen<W>) -> Result<Verdict, Failure> {
        let mut last_id: Option<String> = None;
        let mut body = self.connect(None).await.map_err(|source| self.failure(source))?;
        loop {
            let end = self.follow(body, &mut last_id, screen).await?;
            let mut pause = PAUSE_MIN;
            body = loop {
                note(&format!("{end}; connecting again to {}", self.registry.server));
                sleep(pause.mul_f64(rand::rng().random_range(0.0..1.0))).await;
                match self.connect(last_id.as_deref()).await {
                    Ok(body) => break body,
                    Err(error @ ClientError::Refused { .. }) if !is_passing(&error) => return Err(self.failure(error)),
                    Err(error) => note(&show::chain(&error)),
                }
                pause = (pause * 2).min(PAUSE_MAX);
            };
        }
    }

    async fn connect(&self, last_id: Option<&str>) -> Result<Incoming, ClientError> {
        let id = last_id.and_then(|id| HeaderValue::from_str(id).ok());
        let headers: Vec<_> = id.map(|id| (HeaderName::from_static("last-event-id"), id)).into_iter().collect();
        self.client.open(&self.registry.server, &self.path, &headers).await
    }

    fn failure(&self, source: ClientError) -> Failure {
        Failure::Registry { how: self.registry.how.text(), source }
    }

    /// Shows what comes, and says how it ended.
    async fn follow<W: Write>(
        &self,
        mut body: Incoming,
        last_id: &mut Option<String>,
        screen: &mut Screen<W>,
    ) -> Result<&'static str, Failure> {
        let mut parser = Parser::default();
        loop {
            let bytes = match timeout(SILENCE_MAX, body.frame()).await {
                Err(_) => return Ok("the registry fell silent"),
                Ok(None) => return Ok("the registry ended the stream"),
                Ok(Some(Err(_))) => return Ok("the connection broke"),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            let Some(events) = parser.push(&bytes) else { return Ok("the registry sent what is no stream of events") };
            for event in events {
                self.show(&event, screen)?;
                if !event.id.is_empty() {
                    *last_id = Some(event.id);
                }
            }
            screen.flush()?;
        }
    }

    fn show<W: Write>(&self, event: &Event, screen: &mut Screen<W>) -> Result<(), Failure> {
        if self.output == Output::Json {
            return Ok(screen.json(event.data.as_bytes())?);
        }
        match event.name.as_str() {
            "change" => match serde_json::from_str::<Change>(&event.data) {
                Ok(change) => show_change(&change, screen),
                Err(_) => {
                    note("left out a change that this version cannot read");
                    Ok(())
                }
            },
            "reset" => {
                let reason = serde_json::from_str::<Reset>(&event.data).map(|r| r.reason).unwrap_or_default();
                Ok(screen.cells(&[Cell::toned("changes are missing here:", Tone::Doubtful), reason.into()])?)
            }
            // A newer registry may say more.
            _ => Ok(()),
        }
    }
}

fn show_change<W: Write>(change: &Change, screen: &mut Screen<W>) -> Result<(), Failure> {
    let id = &change.id;
    let place = match (change.address, change.port) {
        (Some(address), Some(port)) => format!("{} ", std::net::SocketAddr::new(address, port)),
        _ => String::new(),
    };
    Ok(screen.cells(&[
        Cell::toned(&change.at, Tone::Faint),
        Cell::toned(format!("{}.{}", change.service, change.cluster), Tone::Strong),
        format!("{} on {} {place}({}/{})", id.container, id.node, id.container_port, id.protocol).into(),
        Cell::word(change.from.as_deref().unwrap_or("new")),
        "->".into(),
        Cell::word(&change.to),
        Cell::toned(&change.reason, Tone::Faint),
    ])?)
}

/// Whether a refusal is over soon: the registry is loading, or has too many streams.
fn is_passing(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status, .. } if status.is_server_error() || status.as_u16() == 429)
}

/// For the person, not for the pipe.
fn note(text: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "portolan: {text}");
}
