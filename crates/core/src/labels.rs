//! What a container's labels and environment declare, parsed once into valid values; everything else becomes a [`Refusal`].
//!
//! Two dialects are read: our `portolan.*` labels, and Registrator's `SERVICE_*` from labels or environment. Ours win,
//! and a label wins over a variable. Never fails: a hostile value costs its own label, except that a refused service
//! name refuses the container ([`Declaration::is_refused`]), because another name would surprise its owner.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::endpoint::Protocol;
use crate::evidence::LinkWish;
use crate::name::Label;
use crate::refusal::Refusal;

mod link_options;
mod portolan;
mod registrator;
mod value;

pub use link_options::LinkOptions;
pub use value::{meta, tag};

/// What exceeds this is no setting that a person wrote.
const VALUE_OCTETS_MAX: usize = 4096;
/// As many tags: they have the same use as metadata.
pub const TAGS_MAX: usize = 64;
/// As many entries of metadata as Consul allows.
pub const META_MAX: usize = 64;
/// Ports of one container that labels may speak of.
const PORTS_MAX: usize = 256;
/// Enough to find the mistake; a container with more is summed up in the last one.
const REFUSALS_MAX: usize = 32;

/// What a container's labels and environment say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// `portolan.service`.
    pub service: Option<Label>,
    /// Registrator's `SERVICE_NAME`.
    pub registrator: Option<Label>,
    /// `portolan.ignore=true` or Registrator's `SERVICE_IGNORE`.
    pub is_ignored: bool,
    /// What is said of single ports, by container port.
    pub ports: BTreeMap<u16, PortDeclaration>,
    /// Tags, in the order written.
    pub tags: Vec<String>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// SRV weight; 1 where nothing is said.
    pub weight: u16,
    /// The check of every port that has none of its own.
    pub check: Option<Check>,
    /// Time between two checks, where it is said.
    pub check_interval: Option<Duration>,
    /// What is asked of links.
    pub link: LinkWish,
    /// `portolan.primary=true`.
    pub is_primary: bool,
    /// What was refused, and why.
    pub refusals: Vec<Refusal>,
    /// Whether the strongest service name that was written is no name: the container is kept out of every answer.
    pub is_refused: bool,
}

/// What labels say of one container port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortDeclaration {
    /// `portolan.port.N=NAME`.
    pub name: Option<Label>,
    /// `portolan.port.N=ignore`, `SERVICE_N_IGNORE`, or a `SERVICE_N_NAME` that is no name.
    pub is_ignored: bool,
    /// `SERVICE_N_NAME`: the port is a service of its own.
    pub registrator_name: Option<Label>,
    /// The protocol of the form `_name._tcp`: the name counts only there.
    pub registrator_protocol: Option<Protocol>,
    /// `portolan.check.N`, or Registrator's `SERVICE_N_CHECK_*`.
    pub check: Option<Check>,
    /// `SERVICE_N_TAGS`.
    pub tags: Vec<String>,
    /// `SERVICE_N_ANYTHING`.
    pub meta: BTreeMap<String, String>,
}

/// How the health of a port is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Check {
    /// Docker's HEALTHCHECK as reported.
    Docker,
    /// A TCP connection to the container's own address.
    Tcp,
    /// `GET` of this path: status 200 to 399 passes.
    Http {
        /// Begins with a slash; printable ASCII.
        path: String,
    },
    /// The gRPC health protocol.
    Grpc,
    /// Passes as long as the container runs.
    None,
}

impl Default for Declaration {
    fn default() -> Self {
        Declaration {
            service: None,
            registrator: None,
            is_ignored: false,
            ports: BTreeMap::new(),
            tags: Vec::new(),
            meta: BTreeMap::new(),
            weight: 1,
            check: None,
            check_interval: None,
            link: LinkWish::default(),
            is_primary: false,
            refusals: Vec::new(),
            is_refused: false,
        }
    }
}

impl Declaration {
    /// Tags, and metadata in the order of its keys, of a container that registers `ports`. Those that Registrator's labels
    /// give to one port count where it is the only one; else that is refused.
    pub fn tags_and_meta(&self, ports: &[u16], refusals: &mut Vec<Refusal>) -> (Vec<String>, Vec<(String, String)>) {
        let (mut tags, mut meta) = (self.tags.clone(), self.meta.clone());
        for (port, own) in self.ports.iter().filter(|(_, own)| !own.tags.is_empty() || !own.meta.is_empty()) {
            if ports != [*port] {
                let reason = "tags and metadata of one port are read only where it is the container's only one";
                refusals.push(Refusal::new(format!("port {port}"), reason));
                continue;
            }
            if !own.tags.is_empty() {
                tags.clone_from(&own.tags);
            }
            meta.extend(own.meta.clone());
        }
        (tags, meta.into_iter().collect())
    }
}

/// Reads labels and environment (`KEY=VALUE`). Their order does not matter for labels; of variables the last wins.
pub fn parse<'a>(
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    environment: impl IntoIterator<Item = &'a str>,
) -> Declaration {
    let labels: BTreeMap<&str, &str> = labels.into_iter().collect();
    let variables: BTreeMap<&str, &str> = environment.into_iter().filter_map(|entry| entry.split_once('=')).collect();
    let mut parser = Parser::default();
    registrator::read(&mut parser, &labels, &variables);
    portolan::read(&mut parser, &labels);
    parser.finish()
}

/// A declaration in the making.
#[derive(Default)]
struct Parser {
    declared: Declaration,
    refused_past_limit: usize,
    /// Whether `portolan.service` or `SERVICE_NAME` was written and refused.
    is_service_refused: bool,
    is_registrator_refused: bool,
}

impl Parser {
    fn refuse(&mut self, field: &str, reason: impl AsRef<str>) {
        if self.declared.refusals.len() < REFUSALS_MAX {
            self.declared.refusals.push(Refusal::new(field, reason));
        } else {
            self.refused_past_limit += 1;
        }
    }

    /// Takes `outcome`, or refuses `field` with its reason.
    fn take<T>(&mut self, field: &str, outcome: Result<T, String>) -> Option<T> {
        outcome.map_err(|reason| self.refuse(field, reason)).ok()
    }

    /// The declaration of `port`, unless too many ports were spoken of.
    fn port(&mut self, field: &str, port: u16) -> Option<&mut PortDeclaration> {
        if self.declared.ports.len() >= PORTS_MAX && !self.declared.ports.contains_key(&port) {
            self.refuse(field, format!("labels speak of more than {PORTS_MAX} ports"));
            return None;
        }
        Some(self.declared.ports.entry(port).or_default())
    }

    fn insert_meta(&mut self, field: &str, key: &str, text: &str) {
        let Some((key, text)) = self.take(field, value::meta(key, text)) else { return };
        if self.declared.meta.len() >= META_MAX && !self.declared.meta.contains_key(&key) {
            self.refuse(field, format!("more than {META_MAX} metadata keys"));
        } else {
            self.declared.meta.insert(key, text);
        }
    }

    fn finish(mut self) -> Declaration {
        // The strongest name that was written decides: a valid `portolan.service` makes up for a bad `SERVICE_NAME`.
        self.declared.is_refused =
            self.is_service_refused || (self.declared.service.is_none() && self.is_registrator_refused);
        if self.refused_past_limit > 0 {
            let more = format!("{} more were refused", self.refused_past_limit);
            self.declared.refusals.push(Refusal::new("labels", more));
        }
        self.declared
    }
}

#[cfg(test)]
mod tests;
