//! Askers whom the gate does not simply let in: those who may not ask, and those from elsewhere, who get only so much.

use hickory_proto::op::ResponseCode;

use super::{Packet, Role, Server, Step};
use crate::answer::extended;
use crate::gate::Verdict;
use crate::wire::{Decoded, Reply, Transport};

impl Server {
    /// What becomes of `packet` if it is not to be answered; `None` when it is.
    pub(super) fn screened(&self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Option<Step> {
        let asker = self.gate.asker(packet.peer);
        if asker.is_near && asker.is_allowed || self.is_container(packet) {
            return None;
        }
        let (request, code) = match self.decoded(packet) {
            Decoded::Ask(request) => (request, ResponseCode::Refused),
            Decoded::Refuse(request, code) => (request, code),
            Decoded::Drop => return Some(self.dropped(packet)),
        };
        if !asker.is_near && packet.transport == Transport::Udp {
            let cookie = request.edns.as_ref().and_then(|edns| edns.cookie.as_ref());
            let verdict = self.gate.judge(cookie, packet.peer, packet.at);
            if verdict != Verdict::Answer {
                self.metrics.limited(packet.transport);
            }
            match verdict {
                Verdict::Answer => {}
                Verdict::Silence => return Some(Step::Drop),
                Verdict::Cut => {
                    self.write(&request, Reply { is_withheld: true, ..Reply::bare(ResponseCode::NoError) }, out);
                    return Some(Step::Send);
                }
            }
        }
        if asker.is_allowed {
            return None;
        }
        self.write(&request, Reply::bare(code).because(extended::PROHIBITED), out);
        Some(Step::Send)
    }

    /// Whether it comes from a container of this node: those are known, wherever their network lies.
    fn is_container(&self, packet: &Packet<'_>) -> bool {
        match &self.role {
            Role::Registry => false,
            Role::Node(node) => node.clients.cluster_of(packet.peer).is_some(),
        }
    }
}
