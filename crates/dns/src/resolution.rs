//! What a client gets for a name, as one value for people: the same answers as over DNS, from the same function.
//!
//! Both programs show it: the registry at `/api/resolve`, the sidecar on its admin listener.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, RecordType};
use portolan_core::lookup::{Meaning, TextError, address_label, parse};
use portolan_core::name::ServiceKey;
use portolan_core::selection::Rank;
use portolan_core::view::{Readiness, Service, View};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::{Client, Outcome, Perspective, answer};
use crate::wire::{Answer, Question, Reply};

/// What a client gets for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolution {
    /// The full name, with the final dot.
    pub name: String,
    /// Who answers.
    pub answered_by: AnsweredBy,
    /// The response code, such as `NOERROR` or `NXDOMAIN`.
    pub status: String,
    /// What is to be said of the answer, such as its age.
    pub note: Option<String>,
    /// `loading`, `stale` (not confirmed) or `current`.
    pub readiness: String,
    /// The index at which the service last changed; of anything else, that of the view.
    pub index: u64,
    /// How long a client may keep the answer, in seconds.
    pub ttl_seconds: u32,
    /// The virtual address of the service, where the name answers it.
    #[schema(value_type = Option<String>)]
    pub virtual_address: Option<Ipv4Addr>,
    /// The answer to A and AAAA.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// The answer to SRV.
    pub srv: Vec<ServiceRecord>,
    /// The answer to PTR.
    pub pointers: Vec<String>,
}

/// What answers: the registry knows real addresses only, the sidecar also virtual ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// A registry.
    Registry,
    /// The sidecar of a node.
    Sidecar,
}

/// One SRV record, and the endpoint that it speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceRecord {
    /// Always 0: see the answer's order.
    pub priority: u16,
    /// SRV weight.
    pub weight: u16,
    /// Port to connect to.
    pub port: u16,
    /// The name of the address.
    pub target: String,
    /// The address, as the additional section has it.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The endpoint's state.
    pub state: Option<String>,
    /// The endpoint's node.
    pub node: Option<String>,
    /// The endpoint's container.
    pub container: Option<String>,
}

/// What came of resolving a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// This is the answer.
    Done(Resolution),
    /// The service is in the directory only: follow it, then ask again.
    Follow(ServiceKey),
}

/// Resolves what a person typed as a client would.
///
/// # Errors
/// When the text is no DNS name at all.
pub fn resolve(text: &str, view: &View, client: &Client<'_>) -> Result<Resolved, TextError> {
    let zone = &client.authority.zone;
    let mut meaning = parse(text, zone)?;
    if let Perspective::Node { cluster } = client.perspective {
        meaning = meaning.in_cluster(cluster);
    }
    let mut resolution = empty(&meaning, text, view, client);
    let Some(full_name) = meaning.full_name(zone) else {
        let is_outside = meaning == Meaning::Outside;
        resolution.status = if is_outside { "REFUSED" } else { "NXDOMAIN" }.to_owned();
        resolution.note = is_outside.then(|| format!("outside the zone {zone}"));
        return Ok(Resolved::Done(resolution));
    };
    resolution.name = full_name.clone();
    let name =
        Name::from_ascii(&full_name).map_err(|_| TextError::NotAName(portolan_core::refusal::shown(text, 80)))?;
    let service = match &meaning {
        Meaning::Service(key, _) => view.service(key),
        _ => None,
    };
    for record_type in [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::PTR] {
        let question = Question { name: name.clone(), record_type, class: DNSClass::IN };
        match answer(&question, view, client) {
            Outcome::Reply(reply) => add(&mut resolution, reply, service.map(AsRef::as_ref), client),
            Outcome::Follow(key) => return Ok(Resolved::Follow(key)),
            Outcome::Forward => {
                resolution.status = "REFUSED".to_owned();
                resolution.note = Some("not one of ours: goes to the host's resolvers".to_owned());
            }
        }
    }
    let virtual_address = service.and_then(|service| service.virtual_address());
    resolution.virtual_address = virtual_address.filter(|v| resolution.addresses.contains(&IpAddr::V4(*v)));
    resolution.note = resolution.note.take().or_else(|| fail_open(&resolution));
    Ok(Resolved::Done(resolution))
}

fn empty(meaning: &Meaning, text: &str, view: &View, client: &Client<'_>) -> Resolution {
    let index = match meaning {
        Meaning::Service(key, _) => view.service(key).map(|service| service.index),
        _ => None,
    };
    Resolution {
        name: portolan_core::refusal::shown(text, 253),
        answered_by: match client.perspective {
            Perspective::Registry => AnsweredBy::Registry,
            Perspective::Node { .. } => AnsweredBy::Sidecar,
        },
        status: "NXDOMAIN".to_owned(),
        note: None,
        readiness: readiness_word(view.readiness).to_owned(),
        index: index.unwrap_or(view.index),
        ttl_seconds: client.authority.ttl.seconds(),
        virtual_address: None,
        addresses: Vec::new(),
        srv: Vec::new(),
        pointers: Vec::new(),
    }
}

/// A readiness as it stands in JSON.
pub fn readiness_word(readiness: Readiness) -> &'static str {
    match readiness {
        Readiness::Loading => "loading",
        Readiness::Stale => "stale",
        Readiness::Current => "current",
    }
}

fn add(resolution: &mut Resolution, reply: Reply, service: Option<&Service>, client: &Client<'_>) {
    resolution.status = code_word(reply.code);
    if let Some(extended) = reply.extended {
        resolution.note = Some(extended.text.to_owned());
    }
    for answer in reply.answers {
        match answer {
            Answer::Address(address) => resolution.addresses.push(address),
            Answer::Service { weight, port, address } => {
                let endpoints = service.and_then(|service| service.known_endpoints());
                let of_record = |e: &&portolan_core::endpoint::Endpoint| {
                    e.port == port && e.addresses.contains(&address) && Rank::of(e.state).is_some()
                };
                let endpoint = endpoints.and_then(|all| all.iter().find(of_record));
                resolution.srv.push(ServiceRecord {
                    priority: 0,
                    weight,
                    port,
                    target: format!("{}.addr.{}", address_label(address), client.authority.zone),
                    address,
                    state: endpoint.map(|e| e.state.as_str().to_owned()),
                    node: endpoint.map(|e| e.key.node.node.to_string()),
                    container: endpoint.map(|e| e.container.to_string()),
                });
            }
            Answer::Pointer(name) => resolution.pointers.push(name),
            Answer::Soa | Answer::NameServer | Answer::Minimal => {}
        }
    }
}

/// Says when nothing usable was left and the next best was answered.
fn fail_open(resolution: &Resolution) -> Option<String> {
    let state = resolution.srv.first()?.state.as_deref()?;
    let is_second_best = matches!(state, "draining" | "unusable");
    is_second_best.then(|| format!("none is usable: {state} endpoints are answered, because nothing better is left"))
}

fn code_word(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => other.to_str().to_uppercase(),
    }
}
