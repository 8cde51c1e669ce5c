//! Register: hears one sidecar. What it reports is durable when it is acknowledged.
//!
//! A sidecar that can try connections has a line on the switchboard for as long as its stream lasts.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use portolan_core::name::ServiceKey;
use portolan_proto::exchange::service_name_in;
use portolan_proto::node_report::node_key;
use portolan_proto::probe::{self, Probe, probe_out, result_in};
use portolan_proto::release::{self, Released, released_out};
use portolan_proto::wire::{self, register_request, register_response::Kind};
use portolan_proto::{FEATURES, FieldError};
use portolan_runtime::published::Reader;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::{HEARTBEAT_EVERY, Joined, SILENCE_MAX};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::intake::{Hello, Intake, OpenError, Session, Standing};
use crate::neighbours::switchboard::Line;
use crate::releases::Owning;

/// How long a new call may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

type Down = mpsc::Sender<Result<wire::RegisterResponse, Status>>;
type Up = Streaming<wire::RegisterRequest>;

/// Serves one registration until either side ends it.
pub(super) async fn converse(joined: Joined, down: Down, mut up: Up) {
    let Joined { intake, catalog, switchboard, releases, clock, http_port } = joined;
    let (hello, can) = match timeout(HELLO_WITHIN, hello(&mut up)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(reason)) => return refuse(&down, reason).await,
        Err(_) => return refuse(&down, "no hello came".to_owned()).await,
    };
    let node = hello.node.clone();
    let session = match intake.open_session(hello, clock.now()).await {
        Ok(session) => session,
        Err(error) => {
            let is_told = matches!(error, OpenError::Refused(_));
            let reason = format!("{:#}", anyhow::Error::from(error));
            if !is_told {
                warn!(%node, "node {node} gets no session: {reason}");
            }
            return refuse(&down, reason).await;
        }
    };
    let number = session.number;
    info!(%node, session = number, "node {node} speaks, session {number}");
    let line = can.probe.then(|| switchboard.join(session.clone()));
    let owning = can.release.then(|| releases.own(node.clone()));
    let call = Call { intake, catalog, clock, http_port, session, down };
    call.serve(up, (line, owning)).await;
    info!(%node, session = number, "node {node}'s stream ended, session {number}");
    if let Err(error) = call.intake.end_session(&call.session, call.clock.now()).await {
        let error = anyhow::Error::from(error);
        warn!(%node, "tell that node {node}'s stream ended: {error:#}");
    }
}

struct Call {
    intake: Arc<Intake>,
    catalog: Reader<Catalog>,
    clock: Clock,
    http_port: u16,
    session: Session,
    down: Down,
}

impl Call {
    async fn serve(&self, mut up: Up, (mut line, mut owning): (Option<Line>, Option<Owning>)) {
        let welcome = wire::Welcome {
            session: self.session.number,
            epoch: self.catalog.peek().epoch.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
            http_port: Some(self.http_port.into()),
        };
        if send(&self.down, Kind::Welcome(welcome)).await.is_none() {
            return;
        }
        let mut beat = interval(HEARTBEAT_EVERY);
        let mut silent_at = Instant::now() + SILENCE_MAX;
        loop {
            // Cancel-safe: `message`, `question`, `word` and `tick` lose nothing when another branch wins.
            let answer = tokio::select! {
                message = up.message() => match message {
                    Ok(Some(message)) => {
                        silent_at = Instant::now() + SILENCE_MAX;
                        match self.intake.heard(&self.session, self.clock.now()) {
                            Standing::Live => {}
                            // Not refused: a refused node waits for a person, and this one has only to come back.
                            Standing::Ended => return,
                            Standing::TakenOver => {
                                return refuse(&self.down, "a newer session of this node took over".to_owned()).await;
                            }
                        }
                        match self.take(message, line.as_ref()).await {
                            Ok(answer) => answer,
                            Err(reason) => return refuse(&self.down, reason).await,
                        }
                    }
                    Ok(None) => return,
                    Err(status) => {
                        debug!(node = %self.session.node, "node {}: {status}", self.session.node);
                        return;
                    }
                },
                probe = question(&mut line) => Some(Kind::Probe(probe_out(&probe))),
                released = word(&mut owning) => Some(Kind::Released(released_out(&released))),
                _ = beat.tick() => Some(Kind::Heartbeat(wire::Heartbeat { index: self.catalog.peek().view.index })),
                () = sleep_until(silent_at) => return,
            };
            if let Some(answer) = answer
                && send(&self.down, answer).await.is_none()
            {
                return;
            }
        }
    }

    /// Takes a message; `Err` ends the call with that reason.
    async fn take(&self, message: wire::RegisterRequest, line: Option<&Line>) -> Result<Option<Kind>, String> {
        let bytes = match message.kind {
            Some(register_request::Kind::Report(bytes)) => bytes,
            Some(register_request::Kind::ProbeResult(result)) => {
                line.inspect(|line| line.answer(result_in(&result)));
                return Ok(None);
            }
            Some(register_request::Kind::Hello(_) | register_request::Kind::Heartbeat(_)) | None => return Ok(None),
        };
        let generation = self.intake.report(&self.session, bytes, self.clock.now()).await.map_err(|error| {
            let error = anyhow::Error::from(error);
            warn!(node = %self.session.node, "a report of node {} is refused: {error:#}", self.session.node);
            format!("{error:#}")
        })?;
        Ok(Some(Kind::Acknowledgement(wire::Acknowledgement { generation })))
    }
}

/// The next question for this node; never, when it cannot be asked.
async fn question(line: &mut Option<Line>) -> Probe {
    let next = match line {
        Some(line) => line.next().await,
        None => None,
    };
    match next {
        Some(probe) => probe,
        None => std::future::pending().await,
    }
}

/// The next word about endpoints that this node had; never, when it cannot be told.
async fn word(owning: &mut Option<Owning>) -> Vec<Released> {
    let next = match owning {
        Some(owning) => owning.next().await,
        None => None,
    };
    match next {
        Some(released) => released,
        None => std::future::pending().await,
    }
}

/// What a sidecar can do beside registering.
struct Can {
    probe: bool,
    release: bool,
}

async fn hello(up: &mut Up) -> Result<(Hello, Can), String> {
    let message = up.message().await.map_err(|status| status.message().to_owned())?;
    let Some(register_request::Kind::Hello(hello)) = message.and_then(|message| message.kind) else {
        return Err("the first message is not a hello".to_owned());
    };
    read_hello(hello).map_err(|error| error.to_string())
}

fn read_hello(hello: wire::RegisterHello) -> Result<(Hello, Can), FieldError> {
    let peer = hello.peer.unwrap_or_default();
    let node = node_key(&peer.cluster, &peer.node)?;
    // A binding that cannot be read is one that was never ours to adopt.
    let bindings = hello.bindings.iter().filter_map(binding).collect();
    let has = |wanted: &str| peer.features.iter().any(|feature| feature == wanted);
    let can = Can { probe: has(probe::FEATURE), release: has(release::FEATURE) };
    Ok((Hello { node, boot_id: peer.boot_id, bindings }, can))
}

fn binding(binding: &wire::Binding) -> Option<(ServiceKey, Ipv4Addr)> {
    let name = wire::ServiceName { cluster: binding.cluster.clone(), service: binding.service.clone() };
    Some((service_name_in(Some(&name)).ok()?, Ipv4Addr::from(binding.address)))
}

async fn refuse(down: &Down, reason: String) {
    send(down, Kind::Refused(wire::RefusedNode { reason })).await;
}

/// `None`: the peer is gone, or takes nothing.
async fn send(down: &Down, kind: Kind) -> Option<()> {
    timeout(SILENCE_MAX, down.send(Ok(wire::RegisterResponse { kind: Some(kind) }))).await.ok()?.ok()
}
