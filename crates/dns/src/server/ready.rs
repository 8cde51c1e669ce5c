//! Replies from a packet table where there is one, and into it where one may be kept.

use hickory_proto::op::ResponseCode;
use portolan_core::lookup::{Meaning, lookup};
use portolan_core::name::ServiceKey;

use super::{Packet, Pending, Role, Server, Step, Wait};
use crate::answer::Outcome;
use crate::table::{Asked, Basis, Newcomers, Ready, Table};
use crate::wire::{Decoded, Request};

/// The third octet of a message has the TC bit here.
const TRUNCATED: u8 = 0b10;

/// What one worker keeps from packet to packet.
#[derive(Debug)]
pub struct Desk {
    table: Table,
    /// The same for names that do not exist, so that these never drive out others.
    absent: Table,
    newcomers: Newcomers,
    key: Vec<u8>,
}

impl Desk {
    /// With nothing on it. `seed` draws orders.
    pub fn new(seed: u64) -> Self {
        Desk { table: Table::new(seed), absent: Table::of_absent(), newcomers: Newcomers::new(), key: Vec::new() }
    }
}

impl Server {
    /// As [`Server::begin`], by way of the worker's table.
    pub fn begin_at(&self, desk: &mut Desk, packet: Packet<'_>, out: &mut Vec<u8>) -> Step {
        if let Some(step) = self.screened(&packet, out) {
            return step;
        }
        let Desk { table, absent, newcomers, key } = desk;
        let Some(mut asked) = Asked::read(packet.octets, key) else { return self.answered(packet, out) };
        if let Some(cookie) = asked.cookie() {
            asked.answer_cookie(self.gate.cookie_for(cookie, packet.peer, packet.at));
        }
        if let (true, Role::Node(node)) = (asked.is_bare(), &self.role) {
            let asker = node.clients.cluster_of(packet.peer);
            asked.in_cluster(asker.as_ref().unwrap_or(&node.cluster).as_str());
        }
        let view = self.view.peek();
        if let Some(code) = table.find(&asked, &view, out).or_else(|| absent.find(&asked, &view, out)) {
            self.metrics.answered(packet.transport, code);
            return Step::Send;
        }
        let Decoded::Ask(request) = self.decoded(&packet) else { return self.answered(packet, out) };
        let wait = match self.outcome(&request, packet.peer, (&view, table.seed())) {
            Outcome::Reply(reply) => {
                let (code, alike, has_serial) = (reply.code, reply.alike, reply.has_soa);
                self.write(&request, reply, out);
                let is_whole = out.get(2).is_some_and(|flags| flags & TRUNCATED == 0);
                let kept = match code {
                    ResponseCode::NoError if is_whole => self.service_of(&request, packet).map(|service| {
                        let basis = if has_serial { Basis::whole(&view) } else { Basis::new(service, &view) };
                        (table, basis)
                    }),
                    ResponseCode::NXDomain if has_serial && !newcomers.is_new(asked.key()) => {
                        Some((absent, Basis::whole(&view)))
                    }
                    _ => None,
                };
                if let Some((table, basis)) = kept {
                    table.keep(&asked, Ready { reply: out, code, alike, basis });
                }
                return Step::Send;
            }
            Outcome::Follow(key) => Wait::Follow(key),
            Outcome::Forward => Wait::Forward,
        };
        Step::Wait(Pending { request: Box::new(request), peer: packet.peer, wait })
    }

    /// The service that a question is about.
    fn service_of(&self, request: &Request, packet: Packet<'_>) -> Option<ServiceKey> {
        let labels: Vec<&[u8]> = request.question.as_ref()?.name.iter().collect();
        let meaning = lookup(&labels, &self.authority.zone);
        let meaning = match &self.role {
            Role::Registry => meaning,
            Role::Node(node) => {
                meaning.in_cluster(node.clients.cluster_of(packet.peer).as_ref().unwrap_or(&node.cluster))
            }
        };
        match meaning {
            Meaning::Service(key, _) => Some(key),
            _ => None,
        }
    }
}
