//! What is asked: every name of the zone and those around it with every type and form, and random ones.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::zone::{self, ZONE};

/// A question, and how it is sent.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) record_type: u16,
    pub(super) class: u16,
    pub(super) edns: Option<Edns>,
    pub(super) is_tcp: bool,
    pub(super) message: Vec<u8>,
}

/// What its OPT record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    pub(super) version: u8,
    pub(super) payload: u16,
    pub(super) wants_dnssec: bool,
    /// An option that nobody knows.
    pub(super) has_option: bool,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Asked { name, record_type, class, edns, is_tcp, .. } = self;
        let transport = if *is_tcp { "tcp" } else { "udp" };
        write!(f, "{name} type {record_type} class {class} {transport} {edns:?}")
    }
}

/// EDNS, and whether over TCP.
type Form = (Option<Edns>, bool);

const IN: u16 = 1;
const PLAIN: Edns = Edns { version: 0, payload: 1232, wants_dnssec: false, has_option: false };
const FORMS: [Option<Edns>; 7] = [
    None,
    Some(PLAIN),
    Some(Edns { payload: 512, ..PLAIN }),
    Some(Edns { payload: 0, ..PLAIN }),
    Some(Edns { payload: 4096, wants_dnssec: true, ..PLAIN }),
    Some(Edns { version: 1, ..PLAIN }),
    Some(Edns { has_option: true, ..PLAIN }),
];
/// A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV, NAPTR, DS, RRSIG, NSEC, DNSKEY, TLSA, SVCB, HTTPS, CAA, unknown.
const TYPES: [u16; 20] = [1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 35, 43, 46, 47, 48, 52, 64, 65, 257, 1234];

impl Asked {
    fn new(name: &str, (record_type, class): (u16, u16), (edns, is_tcp): Form) -> Asked {
        let mut asked = Asked { name: name.to_owned(), record_type, class, edns, is_tcp, message: Vec::new() };
        asked.message = asked.encoded(0x2b2b);
        asked
    }

    /// Without hickory, which would not write some of it.
    fn encoded(&self, id: u16) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend(label.bytes());
        }
        message.push(0);
        message.extend(self.record_type.to_be_bytes());
        message.extend(self.class.to_be_bytes());
        if let Some(edns) = self.edns {
            message.extend([0, 0, 41]);
            message.extend(edns.payload.to_be_bytes());
            message.extend([0, edns.version, u8::from(edns.wants_dnssec) << 7, 0]);
            let option: &[u8] = if edns.has_option { &[0xff, 0x01, 0, 2, 7, 7] } else { &[] };
            message.extend((option.len() as u16).to_be_bytes());
            message.extend(option);
        }
        message
    }
}

/// One that every server answers as soon as it has the zone.
pub(super) fn ready() -> Asked {
    Asked::new(ZONE, (6, IN), (None, false))
}

/// The names of the zone file and every name between them and the zone, each once.
fn names() -> Vec<String> {
    let text = zone::text();
    let owners = text.lines().filter(|line| !line.starts_with(['$', '@'])).filter_map(|line| line.split(' ').next());
    let mut names: Vec<String> = vec![ZONE.to_owned()];
    for owner in owners {
        let labels: Vec<&str> = owner.split('.').collect();
        names.extend((0..labels.len()).map(|from| format!("{}.{ZONE}", labels[from..].join("."))));
    }
    names.sort();
    names.dedup();
    names
}

/// Names that are not there: around one that is.
fn beside(name: &str) -> Vec<String> {
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    vec![format!("nobody.{name}"), format!("{first}x.{rest}"), format!("*.{rest}"), name.to_uppercase()]
}

/// Outside the zone.
const OUTSIDE: [&str; 6] =
    [".", "internal.", "example.com.", "ecs.internal.example.", "xecs.internal.", "7.3.0.10.in-addr.arpa."];

/// Every name with every type, and a few with every form.
pub(super) fn every_case() -> Vec<Asked> {
    let names = names();
    let mut all = Vec::new();
    for name in names.iter().cloned().chain(OUTSIDE.map(str::to_owned)) {
        all.extend(TYPES.map(|record_type| Asked::new(&name, (record_type, IN), (FORMS[1], false))));
        for near in beside(&name).iter().filter(|near| near.len() < 250) {
            all.extend([1, 28, 33].map(|record_type| Asked::new(near, (record_type, IN), (None, false))));
        }
    }
    let some = ["ecs.internal.", "prod.ecs.internal.", "elasticsearch.prod.ecs.internal.", "many.prod.ecs.internal."];
    let others = ["_http._tcp.elasticsearch.prod.ecs.internal.", "nobody.prod.ecs.internal.", "example.com."];
    for name in some.into_iter().chain(others) {
        for form in FORMS.into_iter().flat_map(|edns| [(edns, false), (edns, true)]) {
            for record_type in TYPES {
                all.push(Asked::new(name, (record_type, IN), form));
            }
            for class in [4, 255, 77] {
                all.push(Asked::new(name, (1, class), form));
            }
        }
    }
    // Once: BIND answers few questions of class CHAOS in a second.
    all.push(Asked::new("prod.ecs.internal.", (1, 3), (None, false)));
    all
}

/// Names from labels that mean something in the wrong places too, now and then one of the zone's own.
pub(super) fn random(rng: &mut StdRng, count: usize) -> impl Iterator<Item = Asked> {
    let names = names();
    let mut labels: Vec<String> =
        names.iter().flat_map(|name| name.split('.').map(str::to_owned)).filter(|label| !label.is_empty()).collect();
    labels.extend(["x", "-", "_", "_x", "a_b", "0", "*", "\u{7f}", "xn--a"].map(str::to_owned));
    labels.push("l".repeat(63));
    (0..count).map(move |_| {
        let mut name = match rng.random_range(0..3) {
            0 => names.choose(rng).unwrap().clone(),
            1 => {
                let below = (0..rng.random_range(1..5)).map(|_| labels.choose(rng).unwrap().clone() + ".");
                below.collect::<String>() + ZONE
            }
            _ => (0..rng.random_range(0..6)).map(|_| labels.choose(rng).unwrap().clone() + ".").collect(),
        };
        if rng.random_ratio(1, 4) {
            name = mixed_case(&name, rng);
        }
        if name.len() > 250 {
            name = ZONE.to_owned();
        }
        let record_type =
            if rng.random_ratio(1, 8) { rng.random_range(256..=65_000) } else { *TYPES.choose(rng).unwrap() };
        Asked::new(&name, (record_type, IN), (*FORMS.choose(rng).unwrap(), rng.random_ratio(1, 50)))
    })
}

fn mixed_case(name: &str, rng: &mut impl Rng) -> String {
    name.chars().map(|c| if rng.random() { c.to_ascii_uppercase() } else { c }).collect()
}
