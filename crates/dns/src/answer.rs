//! A question and a view to an answer: pure, the same for every transport (DESIGN section 3).
//!
//! Known names without records are NODATA, unknown ones NXDOMAIN, and so is nothing below an NXDOMAIN (RFC 8020): every
//! name between the zone and a name of ours exists. A view that was never complete answers SERVFAIL, never NXDOMAIN.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};
use portolan_core::endpoint::Endpoint;
use portolan_core::lookup::{Meaning, Part, lookup};
use portolan_core::name::{Label, ServiceKey};
use portolan_core::selection::{Preference, Rank, behind, primary, select};
use portolan_core::view::{Readiness, ReverseName, Service, View};

use crate::authority::Authority;
use crate::wire::{Answer, Extended, Question, Reply};

/// Extended errors (RFC 8914 section 4) that this server gives.
pub mod extended {
    use super::Extended;

    /// Answered from what was stored; nobody confirmed it yet.
    pub const STALE: Extended = Extended { code: 3, text: "no registry confirms it at present" };
    /// The same for a name that was not there.
    pub const STALE_NXDOMAIN: Extended = Extended { code: 19, text: "no registry confirms it at present" };
    /// Nothing was loaded yet.
    pub const NOT_READY: Extended = Extended { code: 14, text: "services are not loaded yet" };
    /// Its network may not ask. Without words: a refusal must not be much longer than what it refuses.
    pub const PROHIBITED: Extended = Extended { code: 18, text: "" };
    /// Another class, or a transfer.
    pub const NOT_SUPPORTED: Extended = Extended { code: 21, text: "" };
    /// Not ours, and this server asks nobody.
    pub const NOT_OURS: Extended = Extended { code: 20, text: "outside the zone" };
    /// One of ours with a suffix behind it.
    pub const SEARCHED: Extended = Extended { code: 29, text: "a name of the zone with a search suffix" };
    /// The endpoints did not come in time.
    pub const NOT_FOLLOWED: Extended = Extended { code: 22, text: "the endpoints are not known yet" };
}

/// The smallest record of an answer that lists endpoints, in octets: an A record behind a pointer.
const RECORD_OCTETS_MIN: usize = 16;

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// From where the answer is given.
    pub perspective: Perspective<'a>,
    /// The asker's availability zone.
    pub az: Option<&'a str>,
    /// The most octets that the reply may have: more records than fit are not made.
    pub octets_max: usize,
    /// Draws the order of the answers.
    pub seed: u64,
    /// The zone.
    pub authority: &'a Authority,
}

/// What kind of server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Perspective<'a> {
    /// A registry: real addresses only, full names only, nothing but the zone.
    Registry,
    /// A node: virtual addresses, bare names, and the rest of the world through the forwarder.
    Node {
        /// The cluster of the asking container, else the node's.
        cluster: &'a Label,
    },
}

/// What is to be done with a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Send this.
    Reply(Reply),
    /// The service is in the directory only: follow it, then ask again.
    Follow(ServiceKey),
    /// Not ours: ask the upstream resolvers.
    Forward,
}

/// Answers `question` from `view`.
pub fn answer(question: &Question, view: &View, client: &Client<'_>) -> Outcome {
    // No other class, and no transfers (decision 11): there is nothing of that kind here, and RFC 8906 wants a word.
    let is_transfer = matches!(question.record_type, RecordType::AXFR | RecordType::IXFR);
    if question.class != DNSClass::IN || is_transfer {
        let reply = Reply::bare(ResponseCode::Refused).because(extended::NOT_SUPPORTED);
        return Outcome::Reply(finish(reply, view));
    }
    let labels: Vec<&[u8]> = question.name.iter().collect();
    let meaning = lookup(&labels, &client.authority.zone);
    let is_bare = matches!(meaning, Meaning::Bare(_));
    let meaning = match client.perspective {
        Perspective::Node { cluster } => meaning.in_cluster(cluster),
        Perspective::Registry => meaning,
    };
    let is_outside = match &meaning {
        Meaning::Outside | Meaning::Bare(_) => true,
        Meaning::Reverse(address) => !view.reverse.contains_key(address),
        Meaning::Service(key, _) => is_bare && view.readiness != Readiness::Loading && view.service(key).is_none(),
        Meaning::Apex | Meaning::Cluster(_) | Meaning::NodeBranch(_) | Meaning::Node(_) => false,
        Meaning::AddressBranch | Meaning::Address(_) | Meaning::Unknown => false,
    };
    if is_outside {
        return match client.perspective {
            Perspective::Node { .. } if is_searched(&labels, view, client) => {
                let reply = Reply::bare(ResponseCode::NXDomain).because(extended::SEARCHED);
                Outcome::Reply(finish(reply, view))
            }
            Perspective::Node { .. } => Outcome::Forward,
            Perspective::Registry => {
                let reply = Reply::bare(ResponseCode::Refused).because(extended::NOT_OURS);
                Outcome::Reply(finish(reply, view))
            }
        };
    }
    if view.readiness == Readiness::Loading && !matches!(meaning, Meaning::Address(_)) {
        let reply = Reply::bare(ResponseCode::ServFail).because(extended::NOT_READY);
        return Outcome::Reply(finish(reply, view));
    }
    match found(&meaning, question.record_type, view, client) {
        Found::Answers(answers, alike) => {
            let mut reply = Reply { alike, ..positive(answers, view) };
            // No zone that this server has stands above these, so no SOA may either.
            reply.has_soa &= !is_bare && !matches!(meaning, Meaning::Reverse(_));
            Outcome::Reply(reply)
        }
        Found::Nothing => Outcome::Reply(negative(view)),
        Found::Unfollowed(key) => Outcome::Follow(key),
    }
}

/// Whether a name that we have stands before a suffix: resolvers try their search lists on full names, too, and each suffix
/// would cost a question upstream. Who has a name of that kind outside does not have one of ours at its beginning.
fn is_searched(labels: &[&[u8]], view: &View, client: &Client<'_>) -> bool {
    let zone = &client.authority.zone;
    match zone.searched(labels).map(|head| lookup(head, zone)) {
        Some(Meaning::Service(key, _)) => view.service(&key).is_some(),
        Some(Meaning::Node(key)) => view.node(&key.cluster, &key.node).is_some(),
        Some(Meaning::Address(_)) => true,
        Some(Meaning::Apex | Meaning::Cluster(_) | Meaning::NodeBranch(_) | Meaning::AddressBranch) | None => false,
        Some(Meaning::Bare(_) | Meaning::Reverse(_) | Meaning::Unknown | Meaning::Outside) => false,
    }
}

/// What a name holds.
enum Found {
    /// The name exists; without records it is NODATA. So many of the first are alike.
    Answers(Vec<Answer>, usize),
    /// There is no such name.
    Nothing,
    /// Nobody knows before the service is followed.
    Unfollowed(ServiceKey),
}

fn found(meaning: &Meaning, record_type: RecordType, view: &View, client: &Client<'_>) -> Found {
    let existing = |exists: bool, answers: &dyn Fn() -> Vec<Answer>| match (exists, record_type) {
        (false, _) => Found::Nothing,
        (true, RecordType::ANY) => Found::Answers(vec![Answer::Minimal], 1),
        (true, _) => Found::Answers(answers(), 1),
    };
    match meaning {
        Meaning::Apex => existing(true, &|| match record_type {
            RecordType::SOA => vec![Answer::Soa],
            RecordType::NS => vec![Answer::NameServer],
            _ => vec![],
        }),
        Meaning::AddressBranch => existing(true, &Vec::new),
        Meaning::Cluster(cluster) | Meaning::NodeBranch(cluster) => {
            existing(view.clusters.contains(cluster), &Vec::new)
        }
        Meaning::Address(address) => existing(true, &|| addresses([*address], record_type)),
        Meaning::Node(key) => {
            let node = view.node(&key.cluster, &key.node);
            existing(node.is_some(), &|| addresses(node.iter().flat_map(|n| n.addresses.clone()), record_type))
        }
        Meaning::Reverse(address) => {
            let name = view.reverse.get(address);
            existing(name.is_some(), &|| {
                let is_pointer = record_type == RecordType::PTR;
                name.filter(|_| is_pointer).into_iter().map(|name| pointer(name, client)).collect()
            })
        }
        Meaning::Service(key, part) => match view.service(key) {
            Some(service) => of_service(service, part, record_type, client),
            None => Found::Nothing,
        },
        Meaning::Bare(_) | Meaning::Unknown | Meaning::Outside => Found::Nothing,
    }
}

/// What a name of a service holds. Names that need no endpoints are answered without them: the directory is enough.
fn of_service(service: &Service, part: &Part, record_type: RecordType, client: &Client<'_>) -> Found {
    let is_address = matches!(record_type, RecordType::A | RecordType::AAAA);
    if *part == Part::Whole {
        let is_on_node = matches!(client.perspective, Perspective::Node { .. });
        let virtual_address = service.virtual_address().filter(|_| is_on_node && is_address);
        if let Some(address) = virtual_address {
            return Found::Answers(addresses([address.into()], record_type), 1);
        }
    }
    let is_always_there = matches!(part, Part::Whole | Part::Direct | Part::ProtocolBranch(_));
    if is_always_there && record_type == RecordType::ANY {
        return Found::Answers(vec![Answer::Minimal], 1);
    }
    let has_records = match part {
        Part::Whole => is_address || record_type == RecordType::SRV,
        Part::Direct => is_address,
        Part::ProtocolBranch(_) => false,
        Part::Port(..) | Part::Named(_) => true,
    };
    if !has_records {
        return Found::Answers(vec![], 1);
    }
    let Some(endpoints) = service.known_endpoints() else {
        return Found::Unfollowed(service.key.clone());
    };
    match behind(part, endpoints) {
        Some(found) => of_endpoints(&found, part, record_type, client),
        None if is_link_port(service, part) => Found::Answers(vec![], 1),
        None => Found::Nothing,
    }
}

/// Whether a port name is that of a link: it stays known while no endpoint has it.
fn is_link_port(service: &Service, part: &Part) -> bool {
    let Part::Port(name, protocol) = part else { return false };
    let number = name.as_str().parse().ok();
    let mut ports = service.link.iter().flat_map(|link| &link.ports);
    ports.any(|port| port.protocol == *protocol && Some(port.container_port) == number)
}

fn of_endpoints(found: &[&Endpoint], part: &Part, record_type: RecordType, client: &Client<'_>) -> Found {
    let preference = Preference { seed: client.seed, az: client.az };
    let answerable = || found.iter().copied().filter(|e| Rank::of(e.state).is_some());
    match record_type {
        RecordType::ANY => Found::Answers(vec![Answer::Minimal], 1),
        RecordType::SRV if *part != Part::Direct => {
            // The port is chosen among those that can be answered, so that one not yet started hides none.
            let of_port = match part {
                Part::Port(..) => answerable().collect(),
                Part::Whole | Part::Direct | Part::ProtocolBranch(_) | Part::Named(_) => {
                    primary(&answerable().collect::<Vec<_>>())
                }
            };
            let selected = select(of_port, preference);
            let records = |endpoints: &[&Endpoint]| {
                endpoints.iter().take(records_max(client)).filter_map(|e| service_record(e)).collect::<Vec<_>>()
            };
            let alike = records(&selected.endpoints[..selected.alike]).len();
            Found::Answers(records(&selected.endpoints), alike)
        }
        RecordType::A | RecordType::AAAA if !matches!(part, Part::Port(..)) => {
            let mut seen = HashSet::new();
            let selected = select(answerable(), preference);
            let (first, others) = selected.endpoints.split_at(selected.alike);
            let mut records = |endpoints: &[&Endpoint]| {
                addresses(endpoints.iter().flat_map(|e| &e.addresses).copied().filter(|a| seen.insert(*a)), record_type)
            };
            let mut answers = records(first);
            let alike = answers.len().min(records_max(client));
            answers.extend(records(others));
            answers.truncate(records_max(client));
            Found::Answers(answers, alike)
        }
        _ => Found::Answers(vec![], 1),
    }
}

/// One more than could fit, so that the encoder notices that something was left out.
fn records_max(client: &Client<'_>) -> usize {
    client.octets_max / RECORD_OCTETS_MIN + 1
}

/// One record per endpoint, at its first address: IPv4 where it has both. Priority is 0 for all: clients take a lower one
/// strictly, so a nearer az with one endpoint would get everything.
fn service_record(endpoint: &Endpoint) -> Option<Answer> {
    let address = *endpoint.addresses.first()?;
    Some(Answer::Service { weight: endpoint.weight, port: endpoint.port, address })
}

fn addresses(all: impl IntoIterator<Item = IpAddr>, record_type: RecordType) -> Vec<Answer> {
    let fits = |address: &IpAddr| match record_type {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        _ => false,
    };
    all.into_iter().filter(fits).map(Answer::Address).collect()
}

fn pointer(name: &ReverseName, client: &Client<'_>) -> Answer {
    let meaning = match name {
        ReverseName::Node(key) => Meaning::Node(key.clone()),
        ReverseName::Service(key) => Meaning::Service(key.clone(), Part::Whole),
    };
    Answer::Pointer(meaning.full_name(&client.authority.zone).expect("nodes and services have full names"))
}

fn positive(answers: Vec<Answer>, view: &View) -> Reply {
    let mut reply = Reply::bare(ResponseCode::NoError);
    reply.has_soa = answers.is_empty();
    reply.answers = answers;
    reply.extended = (view.readiness == Readiness::Stale).then_some(extended::STALE);
    finish(Reply { is_authoritative: true, ..reply }, view)
}

fn negative(view: &View) -> Reply {
    let mut reply = Reply::bare(ResponseCode::NXDomain);
    reply.has_soa = true;
    reply.extended = (view.readiness == Readiness::Stale).then_some(extended::STALE_NXDOMAIN);
    finish(Reply { is_authoritative: true, ..reply }, view)
}

fn finish(reply: Reply, view: &View) -> Reply {
    // Serial numbers wrap (RFC 1982); nobody compares these but a person.
    Reply { serial: view.index as u32, ..reply }
}
