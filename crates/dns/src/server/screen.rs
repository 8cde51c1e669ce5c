//! Askers whom the gate does not simply let in: those who may not ask, and those from elsewhere, who get only so much.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;

use super::{Packet, Role, Server, Step};
use crate::answer::extended;
use crate::gate::{Asker, Verdict};
use crate::wire::{Decoded, Reply, Transport};

/// Where an asker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In a network that may ask, and private: answered without a limit.
    Near,
    /// In one that may ask, from elsewhere.
    Far,
    /// In one that may not.
    Refused,
}

impl Server {
    /// Where whoever has that address stands.
    pub(crate) fn standing(&self, peer: IpAddr) -> Standing {
        match self.gate.asker(peer) {
            Asker { is_allowed: true, is_near: true } => Standing::Near,
            _ if self.is_container(peer) => Standing::Near,
            Asker { is_allowed: true, is_near: false } => Standing::Far,
            Asker { is_allowed: false, .. } => Standing::Refused,
        }
    }

    /// What becomes of `packet` if it is not to be answered; `None` when it is.
    pub(super) fn screened(&self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Option<Step> {
        let standing = self.standing(packet.peer);
        if standing == Standing::Near {
            return None;
        }
        let (request, code) = match self.decoded(packet) {
            Decoded::Ask(request) => (request, ResponseCode::Refused),
            Decoded::Refuse(request, code) => (request, code),
            Decoded::Drop => return Some(self.dropped(packet)),
        };
        let cookie = request.edns.as_ref().and_then(|edns| edns.cookie.as_ref());
        let verdict = match packet.transport {
            Transport::Udp => self.gate.judge(cookie, packet.peer, packet.at),
            Transport::Tcp => Verdict::Answer,
        };
        let reply = match verdict {
            Verdict::Answer if standing == Standing::Far => return None,
            Verdict::Answer => Reply::bare(code).because(extended::PROHIBITED),
            Verdict::Cut => Reply { is_withheld: true, ..Reply::bare(ResponseCode::NoError) },
            Verdict::Silence => {
                self.metrics.limited(packet.transport);
                return Some(Step::Drop);
            }
        };
        if verdict == Verdict::Cut {
            self.metrics.limited(packet.transport);
        }
        self.write(&request, reply, out);
        Some(Step::Send)
    }

    /// Whether it is a container of this node: those are known, wherever their network lies.
    fn is_container(&self, peer: IpAddr) -> bool {
        match &self.role {
            Role::Registry => false,
            Role::Node(node) => node.clients.cluster_of(peer).is_some(),
        }
    }
}
