//! Which service each port of a node's report belongs to, and what of the report cannot be taken.
//!
//! Pure, and a function of the report alone: a container's labels never change while it lives, so neither does the name
//! that they give it. Limits here keep one hostile node from sinking the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use portolan_core::evidence::{ContainerReport, NodeReport, PortReport};
use portolan_core::name::{Label, ServiceKey, cluster_label, service_label};
use portolan_core::naming::{NameSource, choose};
use portolan_core::reach::may_be_reached;
use portolan_core::refusal::Refusal;

/// How many containers of one node count.
const CONTAINERS_MAX: usize = 2_000;
/// How many ports of one container count.
const PORTS_MAX: usize = 256;
/// How many services one node may be part of.
const SERVICES_MAX: usize = 1_000;
/// How many refusals are kept of one node.
const REFUSALS_MAX: usize = 200;

/// One container's wish to be part of a service, with one of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) source: NameSource,
    pub(super) container: Arc<ContainerReport>,
    /// Of [`ContainerReport::ports`]. `None`: a refused container without ports, told for its refusals only.
    pub(super) port: Option<usize>,
    /// The port's addresses that may be announced.
    pub(super) addresses: Vec<IpAddr>,
    /// What was refused of this port.
    pub(super) refusal: Option<Refusal>,
}

impl Claim {
    /// The port, unless the container has none.
    pub(super) fn port(&self) -> Option<&PortReport> {
        self.port.and_then(|port| self.container.ports.get(port))
    }
}

/// A report, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) claims: BTreeMap<ServiceKey, Vec<Claim>>,
    pub(super) refusals: Vec<Refusal>,
}

/// Takes `report` apart. `range` is that of the virtual addresses, which nobody may announce.
pub(super) fn name(report: &NodeReport, left_out: &[Refusal], range: Ipv4Net) -> Named {
    let mut named = Named { refusals: left_out.to_vec(), ..Named::default() };
    let excess = report.containers.len().saturating_sub(CONTAINERS_MAX);
    if excess > 0 {
        let reason = format!("at most {CONTAINERS_MAX} containers of a node count; {excess} were left out");
        named.refusals.push(Refusal::new("containers", reason));
    }
    let mut seen = BTreeSet::new();
    for container in report.containers.iter().take(CONTAINERS_MAX) {
        if seen.insert((container.id.clone(), container.run)) {
            claim(&mut named, &Arc::new(container.clone()), range);
        }
    }
    named.refusals.truncate(REFUSALS_MAX);
    named
}

fn claim(named: &mut Named, container: &Arc<ContainerReport>, range: Ipv4Net) {
    let about = |r: &Refusal| Refusal::new(format!("container `{}`: {}", container.name, r.field), &r.reason);
    named.refusals.extend(container.refusals.iter().map(about));
    if let Err(error) = cluster_label(container.cluster.as_str()) {
        let field = format!("container `{}`: cluster", container.name);
        named.refusals.push(Refusal::new(field, error.to_string()));
        return;
    }
    if container.is_refused && container.ports.is_empty() {
        add(named, container, Port { at: None, refusal: None, addresses: Vec::new(), own_name: None });
    }
    let mut seen = BTreeSet::new();
    for (at, port) in container.ports.iter().enumerate().take(PORTS_MAX) {
        if !seen.insert((port.container_port, port.protocol)) {
            continue;
        }
        let addresses: Vec<_> = port.addresses.iter().copied().filter(|a| may_be_reached(*a, range)).collect();
        let refusal = addresses.is_empty().then(|| {
            let reason = "has no address that other nodes can reach: loopback, link-local, multicast and virtual \
                          addresses are not announced";
            Refusal::new(format!("port {}/{}", port.container_port, port.protocol), reason)
        });
        add(named, container, Port { at: Some(at), refusal, addresses, own_name: port.registrator_name.as_ref() });
    }
}

struct Port<'a> {
    at: Option<usize>,
    refusal: Option<Refusal>,
    addresses: Vec<IpAddr>,
    own_name: Option<&'a Label>,
}

fn add(named: &mut Named, container: &Arc<ContainerReport>, port: Port<'_>) {
    let field = format!("container `{}`: name", container.name);
    // Which ECS service a task belongs to is not known here yet.
    let Some((source, label)) = choose(container, port.own_name, None) else {
        named.refusals.push(Refusal::new(field, "has no name that can be used; set label `portolan.service`"));
        return;
    };
    let service = match service_label(label.as_str()) {
        Ok(service) => service,
        Err(error) => {
            named.refusals.push(Refusal::new(field, format!("{} {error}", source.text())));
            return;
        }
    };
    let key = ServiceKey { cluster: container.cluster.clone(), service };
    if named.claims.len() >= SERVICES_MAX && !named.claims.contains_key(&key) {
        named.refusals.push(Refusal::new(field, format!("a node may be part of at most {SERVICES_MAX} services")));
        return;
    }
    let Port { at, refusal, addresses, .. } = port;
    let claim = Claim { source, container: container.clone(), port: at, addresses, refusal };
    named.claims.entry(key).or_default().push(claim);
}
