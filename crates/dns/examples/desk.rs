//! Answers a number of questions at one worker's desk, without sockets: for counting what an answer costs.
//!
//! Usage: desk a|srv|absent udp|tcp COUNT. Over UDP the packet table is on the desk; over TCP each answer is made anew.

#![expect(clippy::panic, reason = "a wrong call ends the program, and says why")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use portolan_core::endpoint::{Endpoint, EndpointKey, Protocol, Run, State};
use portolan_core::lookup::Zone;
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::view::{EndpointSet, Readiness, Service, View};
use portolan_dns::authority::{Authority, Ttl};
use portolan_dns::gate::{Beginning, Gate, GateSettings};
use portolan_dns::metrics::Metrics;
use portolan_dns::server::{Desk, Packet, Role, Server, Step};
use portolan_dns::wire::Transport;
use portolan_runtime::published::published;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// Names that are asked for in turn.
const NAMES: usize = 64;
const ENDPOINTS: u8 = 4;
const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, kind, transport, count] = &arguments[..] else { panic!("usage: desk a|srv|absent udp|tcp COUNT") };
    let count: usize = count.parse().expect("COUNT is a number");
    let (name, record_type, answers) = match kind.as_str() {
        "a" => ("service", RecordType::A, ENDPOINTS),
        "srv" => ("service", RecordType::SRV, ENDPOINTS),
        "absent" => ("absent", RecordType::A, 0),
        _ => panic!("no such kind of question: {kind}"),
    };
    let transport = match transport.as_str() {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => panic!("no such transport: {transport}"),
    };
    let questions: Vec<Vec<u8>> = (0..NAMES).map(|n| question(&format!("{name}-{n}"), record_type)).collect();
    let (server, mut desk, mut out) = (server(), Desk::new(1), Vec::with_capacity(2048));
    let at = Instant::now();
    for octets in questions.iter().cycle().take(count) {
        let packet = Packet { octets, peer: ASKER, transport, at };
        let step = match transport {
            Transport::Udp => server.begin_at(&mut desk, packet, &mut out),
            Transport::Tcp => server.begin(packet, &mut out),
        };
        assert!(matches!(step, Step::Send) && out[7] == answers, "{kind}: {step:?} {out:?}");
    }
}

fn server() -> Server {
    let mut view = View { readiness: Readiness::Current, index: 1, ..View::default() };
    for n in 0..NAMES {
        let key = ServiceKey { cluster: Label::fixed("local"), service: label(&format!("service-{n}")) };
        let endpoints = EndpointSet::Known((1..=ENDPOINTS).map(|id| endpoint(id, n)).collect());
        view.insert_service(Arc::new(Service { key, index: 1, link: None, endpoints }));
    }
    let zone = Zone::parse("ecs.internal").expect("a valid zone");
    let settings = GateSettings { allow: None, answers_per_second: 200 };
    Server {
        view: published(view).1,
        authority: Authority::new(zone, Ttl::default(), "ip-10-0-0-2.addr.ecs.internal").expect("a valid name"),
        role: Role::Registry,
        gate: Gate::new(settings, [7; 32], Beginning::now()),
        metrics: Metrics::new(&mut Registry::default()),
    }
}

fn endpoint(id: u8, service: usize) -> Endpoint {
    Endpoint {
        key: EndpointKey {
            node: NodeKey { cluster: Label::fixed("local"), node: label(&format!("n{id}")) },
            container_id: format!("{:064x}", service * 256 + usize::from(id)),
            run: Run(1),
            container_port: 9200,
            protocol: Protocol::Tcp,
        },
        state: State::Usable,
        addresses: vec![[10, 0, 0, id].into()],
        port: 30_000,
        port_name: None,
        container: Label::fixed("app"),
        task_id: None,
        az: None,
        weight: 1,
        is_service_port: true,
        tags: vec![],
        meta: vec![],
    }
}

fn label(text: &str) -> Label {
    Label::parse(text).expect("a valid label")
}

fn question(name: &str, record_type: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(format!("{name}.local.ecs.internal.")).expect("a valid name");
    message.add_query(Query::query(name, record_type));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.edns = Some(edns);
    message.to_vec().expect("a short message")
}
