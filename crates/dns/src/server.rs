//! From a packet to the bytes of its reply, for every transport.
//!
//! Most replies are ready at once. Two kinds take time: a service that has to be followed first (at most 200 ms), and a
//! name outside the zone, which goes to the forwarder. The transports bound how many of those there are at once.

mod ready;
mod screen;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use portolan_core::name::{Label, ServiceKey};
use portolan_core::view::View;
use portolan_runtime::published::Reader;
use tokio::time::Instant;

use crate::answer::{Client, Outcome, Perspective, answer, extended};
use crate::authority::Authority;
use crate::forward::Forwarder;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::wire::{Decoded, Extended, Reply, Request, Transport, decode, encode};

pub use ready::Desk;
pub(crate) use screen::Standing;

/// How long a first question waits for the endpoints of a service. Stub resolvers ask again after a second at the least.
const FOLLOW_PATIENCE: Duration = Duration::from_millis(200);

/// Too many questions wait already.
const OVERLOADED: Extended = Extended { code: 0, text: "too many questions are waiting" };
/// Outside the zone, and there is nobody to ask.
const NO_UPSTREAM: Extended = Extended { code: 20, text: "no upstream resolver is set" };

/// Whoever can bring the endpoints of a service into the view.
pub trait Follow: Send + Sync + 'static {
    /// Asks for them. Never waits.
    fn ask(&self, key: &ServiceKey);
}

/// Follows nothing: for a server whose view is whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct FollowsNothing;

impl Follow for FollowsNothing {
    fn ask(&self, _: &ServiceKey) {}
}

/// Whoever knows which container has an address.
pub trait Clients: Send + Sync + 'static {
    /// The cluster of the container with that address; `None` for all others. Never waits.
    fn cluster_of(&self, address: IpAddr) -> Option<Label>;
}

/// Knows no container: every asker is the node's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoClients;

impl Clients for NoClients {
    fn cluster_of(&self, _: IpAddr) -> Option<Label> {
        None
    }
}

/// What kind of server this is.
pub enum Role {
    /// Real addresses, the zone alone.
    Registry,
    /// Virtual addresses, bare names, and forwarding.
    Node(NodeRole),
}

/// What a node's server needs besides the view.
pub struct NodeRole {
    /// The node's cluster, for askers that are no container.
    pub cluster: Label,
    /// The node's availability zone.
    pub az: Option<String>,
    /// Whose container asks.
    pub clients: Arc<dyn Clients>,
    /// Brings endpoints.
    pub follow: Arc<dyn Follow>,
    /// Asks upstream; without one, names outside the zone are refused.
    pub forwarder: Option<Arc<Forwarder>>,
}

/// Answers packets.
pub struct Server {
    /// What is answered from.
    pub view: Reader<View>,
    /// The zone.
    pub authority: Authority,
    /// What kind of server this is.
    pub role: Role,
    /// Who may ask.
    pub gate: Gate,
    /// Counts.
    pub metrics: Metrics,
}

/// One packet and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The message.
    pub octets: &'a [u8],
    /// Who sent it.
    pub peer: IpAddr,
    /// How.
    pub transport: Transport,
    /// When it was received, about.
    pub at: Instant,
}

/// What to do with a packet.
#[derive(Debug)]
pub enum Step {
    /// The reply is in the buffer.
    Send,
    /// Nothing is sent.
    Drop,
    /// [`Server::finish`] makes the reply.
    Wait(Pending),
}

/// A question whose reply takes time.
#[derive(Debug)]
pub struct Pending {
    request: Box<Request>,
    peer: IpAddr,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    Follow(ServiceKey),
    Forward,
}

impl Pending {
    /// Whether it waits for an upstream, not for the registry. The two are bounded apart, so that a dead upstream
    /// never keeps names of the zone from being followed.
    pub fn is_forward(&self) -> bool {
        matches!(self.wait, Wait::Forward)
    }
}

impl Server {
    /// Answers `packet` into `out`, if that takes no time.
    pub fn begin(&self, packet: Packet<'_>, out: &mut Vec<u8>) -> Step {
        match self.screened(&packet, out) {
            Some(step) => step,
            None => self.answered(packet, out),
        }
    }

    /// As [`Server::begin`], for an asker who is let in.
    fn answered(&self, packet: Packet<'_>, out: &mut Vec<u8>) -> Step {
        let request = match self.decoded(&packet) {
            Decoded::Ask(request) => request,
            Decoded::Refuse(request, code) => {
                self.write(&request, Reply::bare(code), out);
                return Step::Send;
            }
            Decoded::Drop => return self.dropped(&packet),
        };
        let seed = rand::random();
        let wait = match self.outcome(&request, packet.peer, (&self.view.peek(), seed)) {
            Outcome::Reply(reply) => {
                self.write(&request, reply, out);
                return Step::Send;
            }
            Outcome::Follow(key) => Wait::Follow(key),
            Outcome::Forward => Wait::Forward,
        };
        Step::Wait(Pending { request: Box::new(request), peer: packet.peer, wait })
    }

    /// Reads a packet; a request with a cookie gets ours.
    fn decoded(&self, packet: &Packet<'_>) -> Decoded {
        let mut decoded = decode(packet.octets, packet.transport);
        if let Decoded::Ask(request) | Decoded::Refuse(request, _) = &mut decoded {
            let cookie = request.edns.as_ref().and_then(|edns| edns.cookie.as_ref());
            request.cookie = cookie.map(|cookie| self.gate.cookie_for(cookie, packet.peer, packet.at));
        }
        decoded
    }

    fn dropped(&self, packet: &Packet<'_>) -> Step {
        self.metrics.dropped(packet.transport);
        Step::Drop
    }

    /// Answers a question that had to wait. Takes seconds at the worst, never for ever.
    pub async fn finish(&self, pending: Pending, out: &mut Vec<u8>) {
        let Pending { request, peer, wait } = pending;
        let reply = match wait {
            Wait::Follow(key) => self.followed(&request, peer, &key).await,
            Wait::Forward => match self.forwarder() {
                Some(forwarder) => {
                    let code = forwarder.forward(&request, out).await;
                    self.metrics.answered(request.transport, code);
                    return;
                }
                None => Reply::bare(ResponseCode::Refused).because(NO_UPSTREAM),
            },
        };
        self.write(&request, reply, out);
    }

    /// Refuses a question because too many others wait.
    pub fn overloaded(&self, pending: &Pending, out: &mut Vec<u8>) {
        let reply = Reply::bare(ResponseCode::ServFail).because(OVERLOADED);
        self.write(&pending.request, reply, out);
    }

    async fn followed(&self, request: &Request, peer: IpAddr, key: &ServiceKey) -> Reply {
        if let Role::Node(node) = &self.role {
            node.follow.ask(key);
        }
        let mut view = self.view.clone();
        let is_known = |view: &View| view.service(key).is_none_or(|s| s.known_endpoints().is_some());
        // Whether it came or not shows in the answer itself.
        tokio::time::timeout(FOLLOW_PATIENCE, view.wait_for(is_known)).await.ok();
        match self.outcome(request, peer, (&self.view.peek(), rand::random())) {
            Outcome::Reply(reply) => reply,
            Outcome::Follow(_) | Outcome::Forward => {
                Reply::bare(ResponseCode::ServFail).because(extended::NOT_FOLLOWED)
            }
        }
    }

    fn outcome(&self, request: &Request, peer: IpAddr, (view, seed): (&View, u64)) -> Outcome {
        let Some(question) = &request.question else {
            return Outcome::Reply(Reply::bare(ResponseCode::FormErr));
        };
        let asker;
        let (perspective, az) = match &self.role {
            Role::Registry => (Perspective::Registry, None),
            Role::Node(node) => {
                asker = node.clients.cluster_of(peer);
                let cluster = asker.as_ref().unwrap_or(&node.cluster);
                (Perspective::Node { cluster }, node.az.as_deref())
            }
        };
        let client =
            Client { perspective, az, octets_max: request.reply_octets_max(), seed, authority: &self.authority };
        answer(question, view, &client)
    }

    fn forwarder(&self) -> Option<&Arc<Forwarder>> {
        match &self.role {
            Role::Registry => None,
            Role::Node(node) => node.forwarder.as_ref(),
        }
    }

    fn write(&self, request: &Request, reply: Reply, out: &mut Vec<u8>) {
        // The bit is defined for QUERY alone.
        let is_recursion_available = request.opcode == 0 && self.forwarder().is_some();
        let reply = Reply { is_recursion_available, ..reply };
        encode(request, &reply, &self.authority, out);
        self.metrics.answered(request.transport, reply.code);
    }
}
