//! Registers this node: its evidence goes up as one value, whenever it changed; acknowledgements come down.
//!
//! So do probes, which the prober tries; their results go up between reports and never hold one back.

use std::net::Ipv4Addr;
use std::time::Duration;

use portolan_core::evidence::NodeReport;
use portolan_core::name::ServiceKey;
use portolan_core::view::View;
use portolan_proto::node_report;
use portolan_proto::probe::{ProbeResult, probe_in, result_out};
use portolan_proto::release::{Released, released_in};
use portolan_proto::wire::registry_client::RegistryClient;
use portolan_proto::wire::{self, register_request, register_response};
use portolan_runtime::published::Reader;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Uri};
use tracing::{debug, error};

use crate::connection::{SILENCE_MAX, http_of};
use crate::identity::Identity;
use crate::prober::Prober;
use crate::registration::LocalState;

/// How many messages wait for the connection; the sender waits when it is full.
const REQUESTS_QUEUED: usize = 16;
/// How many results of probes wait for the connection; one that finds it full is dropped.
const RESULTS_QUEUED: usize = 4;
/// How often this side says that it is alive.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// How many virtual addresses a hello brings: as many as fit its message with names of the longest kind. Other sidecars bring
/// the rest.
const BINDINGS_MAX: usize = 20_000;
/// How long a refused node waits before it asks again: a person has to change something.
const REFUSED_WAIT: Duration = Duration::from_secs(10);

/// Why a registration ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// The registry ended the call.
    #[error("register at the registry")]
    Call(#[source] Box<tonic::Status>),
    /// The stream ended without a reason.
    #[error("the registry ended the registration")]
    Ended,
    /// Nothing was heard for ten seconds, not even a heartbeat.
    #[error("the registry is silent on the registration")]
    Silent,
    /// The registry does not take this node.
    #[error("the registry refuses this node: {0}")]
    Refused(String),
}

/// How far the registration is, for status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Whether a registry has welcomed this node and still speaks.
    pub(crate) is_connected: bool,
    /// The session it gave.
    pub(crate) session: u64,
    /// The generation sent last.
    pub(crate) sent: u64,
    /// The generation that is durable.
    pub(crate) acknowledged: u64,
    /// The registry's reason, when it refused this node.
    pub(crate) refused: Option<String>,
    /// Where the HTTP of the registry is that welcomed this node.
    pub(crate) registry_http: Option<String>,
}

/// Registers over any number of connections.
#[derive(Debug)]
pub(crate) struct Registrar {
    identity: Identity,
    local: Reader<LocalState>,
    view: Reader<View>,
    prober: Prober,
    released: mpsc::Sender<Vec<Released>>,
    progress: watch::Sender<Progress>,
}

impl Registrar {
    /// A registrar of `local`'s containers; `view` tells the virtual addresses that an empty registry adopts, `prober` tries
    /// what the registry wants to have tried, and who waits for `released` hears which former endpoints nobody is led to.
    pub(crate) fn new(
        identity: Identity,
        (local, released): (Reader<LocalState>, mpsc::Sender<Vec<Released>>),
        view: Reader<View>,
        prober: Prober,
    ) -> (Self, watch::Receiver<Progress>) {
        let (progress, receiver) = watch::channel(Progress::default());
        (Registrar { identity, local, view, prober, released, progress }, receiver)
    }

    /// Runs over one connection to `registry` until it fails.
    pub(crate) async fn run(
        &mut self,
        mut client: RegistryClient<Channel>,
        peer: wire::Peer,
        registry: &Uri,
    ) -> RegisterError {
        let (up, requests) = mpsc::channel(REQUESTS_QUEUED);
        let hello = wire::RegisterHello { peer: Some(peer), bindings: self.bindings() };
        // The queue is empty: this send cannot fail.
        up.try_send(request(register_request::Kind::Hello(hello))).ok();
        // Whoever takes connections and says nothing, such as a balancer before a dead host, is silent, too.
        let failure = match timeout(SILENCE_MAX, client.register(ReceiverStream::new(requests))).await {
            Ok(Ok(response)) => self.converse(&up, response.into_inner(), registry).await,
            Ok(Err(status)) => RegisterError::Call(Box::new(status)),
            Err(_) => RegisterError::Silent,
        };
        self.lost();
        if let RegisterError::Refused(reason) = &failure {
            error!("the registry refuses this node: {reason}");
            tokio::time::sleep(REFUSED_WAIT).await;
        }
        failure
    }

    /// The connection ended: until the next welcome there is no session to report in.
    pub(crate) fn lost(&self) {
        self.progress.send_modify(|progress| (progress.is_connected, progress.registry_http) = (false, None));
    }

    async fn converse(
        &mut self,
        up: &mpsc::Sender<wire::RegisterRequest>,
        mut down: tonic::Streaming<wire::RegisterResponse>,
        registry: &Uri,
    ) -> RegisterError {
        let mut beat = tokio::time::interval(HEARTBEAT_EVERY);
        let mut silent_at = Instant::now() + SILENCE_MAX;
        let (results, mut tried) = mpsc::channel(RESULTS_QUEUED);
        loop {
            let is_welcome = self.progress.borrow().is_connected;
            // Cancel-safe: `changed`, `recv`, `tick` and tonic's `message` lose nothing when another branch wins.
            let kind = tokio::select! {
                message = next(&mut down) => {
                    silent_at = Instant::now() + SILENCE_MAX;
                    match message.and_then(|message| self.take(message, registry)) {
                        Ok(Taken::Welcome) if self.local.peek().is_complete => self.report(),
                        Ok(Taken::Welcome | Taken::Nothing) => continue,
                        Ok(Taken::Probe(probe)) => match self.probe(probe, &results) {
                            Some(result) => probe_result(&result),
                            None => continue,
                        },
                        Err(error) => return error,
                    }
                }
                Some(result) = tried.recv() => probe_result(&result),
                is_open = self.local.changed(), if is_welcome => {
                    if !is_open {
                        return RegisterError::Ended;
                    }
                    // Before every container was seen once, a report would take away what it lacks.
                    if !self.local.peek().is_complete {
                        continue;
                    }
                    self.report()
                }
                _ = beat.tick() => register_request::Kind::Heartbeat(wire::Heartbeat { index: 0 }),
                () = tokio::time::sleep_until(silent_at) => return RegisterError::Silent,
            };
            // A registry that takes nothing for this long is as good as silent.
            if !matches!(timeout(SILENCE_MAX, up.send(request(kind))).await, Ok(Ok(()))) {
                return RegisterError::Silent;
            }
        }
    }

    fn take(&self, message: wire::RegisterResponse, registry: &Uri) -> Result<Taken, RegisterError> {
        match message.kind {
            Some(register_response::Kind::Welcome(welcome)) => {
                self.progress.send_modify(|progress| {
                    let (session, registry_http) = (welcome.session, http_of(registry, welcome.http_port));
                    *progress = Progress { is_connected: true, session, registry_http, ..Progress::default() };
                });
                return Ok(Taken::Welcome);
            }
            Some(register_response::Kind::Acknowledgement(acknowledgement)) => {
                self.progress.send_modify(|progress| progress.acknowledged = acknowledgement.generation);
            }
            Some(register_response::Kind::Refused(refused)) => {
                self.progress.send_modify(|progress| progress.refused = Some(refused.reason.clone()));
                return Err(RegisterError::Refused(refused.reason));
            }
            Some(register_response::Kind::Heartbeat(_)) => {}
            Some(register_response::Kind::Probe(probe)) => return Ok(Taken::Probe(probe)),
            Some(register_response::Kind::Released(released)) => {
                // A queue that is full drops it: those ports open when their time is over.
                self.released.try_send(released_in(released)).ok();
            }
            None => debug!("a message of a kind that this version does not know was dropped"),
        }
        Ok(Taken::Nothing)
    }

    /// Hands a probe to the prober. What it says at once, it says because too many wait.
    fn probe(&self, probe: wire::Probe, results: &mpsc::Sender<ProbeResult>) -> Option<ProbeResult> {
        match probe_in(probe) {
            Ok(probe) => self.prober.ask(probe, results.clone()),
            Err(error) => {
                debug!("a probe was dropped: {error}");
                None
            }
        }
    }

    /// The newest evidence as the next generation.
    fn report(&mut self) -> register_request::Kind {
        let (mut session, mut generation) = (0, 0);
        self.progress.send_modify(|progress| {
            progress.sent += 1;
            (session, generation) = (progress.session, progress.sent);
        });
        let report = NodeReport {
            node: self.identity.node.clone(),
            boot_id: self.identity.boot_id.clone(),
            session,
            generation,
            host_name: self.identity.host_name.clone(),
            addresses: self.identity.addresses.clone(),
            az: self.identity.az.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            containers: self.local.load().reports.clone(),
        };
        register_request::Kind::Report(node_report::encode(&report).into())
    }

    /// The virtual addresses that this node knows.
    fn bindings(&self) -> Vec<wire::Binding> {
        let view = self.view.load();
        let linked = view.services.values().filter_map(|s| s.link.as_ref().map(|link| binding(&s.key, link.address)));
        linked.take(BINDINGS_MAX).collect()
    }
}

/// What a message asks of the conversation.
enum Taken {
    Welcome,
    Probe(wire::Probe),
    Nothing,
}

async fn next(down: &mut tonic::Streaming<wire::RegisterResponse>) -> Result<wire::RegisterResponse, RegisterError> {
    let message = down.message().await.map_err(|status| RegisterError::Call(Box::new(status)))?;
    message.ok_or(RegisterError::Ended)
}

fn request(kind: register_request::Kind) -> wire::RegisterRequest {
    wire::RegisterRequest { kind: Some(kind) }
}

fn probe_result(result: &ProbeResult) -> register_request::Kind {
    register_request::Kind::ProbeResult(result_out(result))
}

fn binding(key: &ServiceKey, address: Ipv4Addr) -> wire::Binding {
    wire::Binding { cluster: key.cluster.to_string(), service: key.service.to_string(), address: address.into() }
}
