//! Any packets to a whole server, by way of one worker's table: what a kept reply says is what a fresh one says; each can be
//! read, is that asker's, is no longer than it may be, is honest about what it leaves out, and never empty without a reason.

#![no_main]

#[path = "../../crates/dns/tests/dns/fixture.rs"]
mod fixture;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use libfuzzer_sys::fuzz_target;
use portolan_core::name::Label;
use portolan_core::view::{Readiness, View};
use portolan_dns::gate::{Beginning, Gate, GateSettings};
use portolan_dns::metrics::Metrics;
use portolan_dns::server::{Clients, Desk, FollowsNothing, NodeRole, Packet, Role, Server, Step};
use portolan_dns::wire::{Decoded, Request, Transport, decode};
use portolan_runtime::published::{Publisher, published};
use tokio::time::Instant;

const ZONE: &[u8] = b"\x03ecs\x08internal\x00";
/// A near one, a container, one who is limited, one who is refused.
const PEERS: [[u8; 4]; 4] = [[10, 0, 0, 1], [10, 0, 0, 7], [203, 0, 113, 1], [198, 51, 100, 1]];

struct OneContainer;

impl Clients for OneContainer {
    fn cluster_of(&self, address: IpAddr) -> Option<Label> {
        (address == IpAddr::from(PEERS[1])).then(|| Label::fixed("test"))
    }
}

struct World {
    server: Server,
    view: Publisher<View>,
    desk: Desk,
    start: Instant,
}

// The first octet chooses what kind of server it is. Then packets: an octet for who asks, one for the length (255: all that
// is left), and the packet. One without octets changes the view.
fuzz_target!(|input: &[u8]| {
    let Some((choice, mut rest)) = input.split_first() else { return };
    let mut world = World::new(choice & 1 == 0);
    let mut clock = Duration::ZERO;
    while let [who, length, tail @ ..] = rest {
        let length = if *length == 255 { tail.len() } else { tail.len().min(usize::from(*length)) };
        let (packet, tail) = tail.split_at(length);
        rest = tail;
        clock += Duration::from_millis(u64::from(who >> 2));
        if packet.is_empty() {
            world.change();
            continue;
        }
        let peer = PEERS[usize::from(who & 3)];
        for _ in 0..3 {
            world.check(peer, packet, clock);
        }
    }
});

impl World {
    fn new(is_registry: bool) -> World {
        let (publisher, view) = published(fixture::view());
        let role = NodeRole {
            cluster: Label::fixed("prod"),
            az: None,
            clients: Arc::new(OneContainer),
            follow: Arc::new(FollowsNothing),
            forwarder: None,
        };
        let allow = ["10.0.0.0/8", "203.0.113.0/24"].map(|network| network.parse().expect("a network"));
        let limits = GateSettings { allow: Some(allow.to_vec()), answers_per_second: 2 };
        let server = Server {
            view,
            authority: fixture::authority(),
            role: if is_registry { Role::Registry } else { Role::Node(role) },
            gate: Gate::new(limits, [7; 32], Beginning { at: Instant::now(), unix_seconds: 1_700_000_000 }),
            metrics: Metrics::new(&mut prometheus_client::registry::Registry::default()),
        };
        World { server, view: publisher, desk: Desk::new(1), start: Instant::now() }
    }

    /// Another endpoint of `web`, none of `empty`, and news of how sure the view is.
    fn change(&mut self) {
        let mut view = View::clone(&self.view.load());
        view.index += 1;
        let octet = view.index as u8;
        fixture::insert(&mut view, "web", None, Some(vec![fixture::endpoint(1, &format!("10.9.0.{octet}"), 1, 1)]));
        view.readiness = if octet % 2 == 0 { Readiness::Stale } else { Readiness::Current };
        self.view.publish(Arc::new(view));
    }

    fn ask(&mut self, kept: bool, packet: Packet<'_>) -> (Step, Vec<u8>) {
        let mut out = vec![0xff; 3];
        let step = if kept {
            self.server.begin_at(&mut self.desk, packet, &mut out)
        } else {
            self.server.begin(packet, &mut out)
        };
        (step, out)
    }

    fn check(&mut self, peer: [u8; 4], octets: &[u8], clock: Duration) {
        let at = self.start + clock;
        let packet = |transport| Packet { octets, peer: peer.into(), transport, at };
        let kept = self.ask(true, packet(Transport::Udp));
        let fresh = self.ask(false, packet(Transport::Udp));
        let (whole_step, whole) = self.ask(false, packet(Transport::Tcp));
        let is_limited = peer == PEERS[2] || peer == PEERS[3];
        let request = match decode(octets, Transport::Udp) {
            Decoded::Ask(request) | Decoded::Refuse(request, _) => request,
            Decoded::Drop => {
                assert!(matches!((kept.0, fresh.0, whole_step), (Step::Drop, Step::Drop, Step::Drop)));
                return;
            }
        };
        for (step, reply) in [&kept, &fresh] {
            match step {
                Step::Send => check_reply(&request, octets, reply),
                Step::Drop => assert!(is_limited, "silence"),
                Step::Wait(_) => assert!(matches!(whole_step, Step::Wait(_)), "one waits, the other does not"),
            }
        }
        if is_limited || !matches!(whole_step, Step::Send) {
            return;
        }
        let whole = Message::from_vec(&whole).expect("the whole reply can be read");
        let [kept, fresh] = [&kept.1, &fresh.1].map(|reply| Message::from_vec(reply).expect("the reply can be read"));
        assert_eq!(kept.metadata, fresh.metadata, "a kept reply has another header");
        assert_eq!(kept.answers.len(), fresh.answers.len());
        for reply in [&kept, &fresh] {
            let is_whole = reply.answers.len() == whole.answers.len();
            assert_eq!(reply.metadata.truncation, !is_whole, "TC says what is missing");
            assert!(is_whole || !reply.answers.is_empty(), "cut to nothing");
        }
        if !kept.metadata.truncation {
            assert_eq!(sorted(&kept), sorted(&fresh), "a kept reply says something else");
            assert_eq!(kept.edns, fresh.edns);
        }
    }
}

fn sorted(message: &Message) -> Vec<String> {
    let sections = [&message.answers, &message.authorities, &message.additionals];
    let mut records: Vec<String> = sections.into_iter().flatten().map(ToString::to_string).collect();
    records.sort();
    records
}

fn check_reply(request: &Request, asked: &[u8], reply: &[u8]) {
    let read = Message::from_vec(reply).expect("the reply can be read");
    assert!(reply.len() <= request.reply_octets_max(), "too long: {}", reply.len());
    assert_eq!(reply[..2], asked[..2], "another id");
    assert_eq!(reply[2] & 0xf8, 0x80 | asked[2] & 0x78, "no reply, or another opcode");
    assert_eq!(reply[3] & 0x70, 0, "Z, AD or CD");
    let is_query = request.opcode == 0;
    assert_eq!(reply[2] & 1, u8::from(is_query) & asked[2], "RD comes back for a query alone");
    let name_octets = request.question.as_ref().map(|_| 1 + asked[12..].iter().position(|octet| *octet == 0).unwrap());
    if let Some(octets) = name_octets {
        assert_eq!(reply[12..16 + octets], asked[12..16 + octets], "another question");
    }
    assert_eq!(read.queries.len(), usize::from(name_octets.is_some()));
    assert_eq!(read.edns.is_some(), request.edns.is_some(), "EDNS for EDNS");
    let code = read.metadata.response_code;
    let is_answer = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    assert!(is_answer || !read.metadata.authoritative && read.answers.is_empty(), "{code}");
    let sections = [&read.answers, &read.authorities, &read.additionals];
    for record in sections.into_iter().flatten().filter(|record| record.record_type() != RecordType::TSIG) {
        assert!(record.ttl <= 60, "a TTL of {}", record.ttl);
    }
    // Without answers and not cut: the SOA says for how long that holds. It is the zone's, so of other names there is none.
    let is_ours = name_octets.is_some_and(|octets| {
        asked[12..12 + octets].to_ascii_lowercase().ends_with(ZONE)
    });
    if is_answer && is_ours && read.metadata.authoritative && read.answers.is_empty() && !read.metadata.truncation {
        assert_eq!(read.authorities.iter().map(|record| record.record_type()).collect::<Vec<_>>(), [RecordType::SOA]);
    }
}
