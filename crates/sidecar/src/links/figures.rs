//! Figures of single links and endpoints, for `portolan links` and for `/metrics`.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use portolan_core::endpoint::Protocol;
use portolan_core::name::ServiceKey;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::choice::{Nearness, Target};
use super::ebpf::PlaneStatus;

/// Services that are counted apart as clients of one link; those beyond are counted together.
const CALLERS_MAX: usize = 128;
/// A link that is over its limit says so once in this time.
const LIMIT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Figures of one service's links since the sidecar started. Written by every connection, read by whoever looks.
#[derive(Debug, Default)]
pub(super) struct LinkFigures {
    pub(super) open: AtomicUsize,
    pub(super) total: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) limited: Limited,
    callers: RwLock<HashMap<Option<ServiceKey>, AtomicU64>>,
}

/// Connections that were refused because of a limit, and when that was last told.
#[derive(Debug, Default)]
pub(super) struct Limited {
    count: AtomicU64,
    told: RwLock<Option<Instant>>,
}

impl Limited {
    /// Counts one; gives how many there were when it is time to tell.
    pub(super) fn note(&self, now: Instant) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let is_due = |told: Option<Instant>| told.is_none_or(|told| now >= told + LIMIT_LOG_INTERVAL);
        if !is_due(*self.told.read().unwrap_or_else(PoisonError::into_inner)) {
            return None;
        }
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        let is_ours = is_due(*told);
        *told = Some(now);
        is_ours.then_some(count)
    }
}

/// One service's links, as `portolan links` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Whose.
    pub service: ServiceKey,
    /// Its virtual address.
    pub address: Ipv4Addr,
    /// How it is carried; `None` while none of its ports is open.
    pub plane: Option<PlaneStatus>,
    /// Its ports, in their order.
    pub ports: Vec<PortStatus>,
    /// Its endpoints as this node met them, in the order of their addresses.
    pub endpoints: Vec<EndpointStatus>,
    /// Who connected, most connections first.
    pub clients: Vec<ClientStatus>,
    /// Connections and UDP sessions that are open.
    pub open: usize,
    /// Connections and UDP sessions that were accepted.
    pub total: u64,
    /// Attempts on endpoints that failed or were too slow; the client need not have noticed.
    pub failures: u64,
    /// Connections that were refused, and UDP sessions that were ended early, because there were too many.
    pub limited: u64,
    /// Bytes relayed, both ways.
    pub bytes: u64,
}

/// One port of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// What clients connect to.
    pub port: u16,
    /// What they speak.
    pub protocol: Protocol,
    /// What it is in the container.
    pub container_port: u16,
    /// Where it leads, best first; `None` while the service is not followed.
    pub endpoints: Option<Vec<SocketAddr>>,
}

/// One endpoint, as this node met it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// `node`, `az` or `far`.
    pub nearness: String,
    /// Its weight.
    pub weight: u16,
    /// Connections, attempts and sessions that are open.
    pub open: usize,
    /// Connections there were.
    pub total: u64,
    /// Bytes relayed, both ways.
    pub bytes: u64,
    /// Attempts that failed or were too slow, and connections that were reset before an answer.
    pub failures: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// How much longer it is ejected, in milliseconds; 0: it is not.
    pub ejected_ms: u64,
    /// How long connecting takes, in microseconds; 0: nobody tried lately.
    pub connect_us: u64,
}

/// A service that connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Which; `None`: no container of a service on this node.
    pub service: Option<ServiceKey>,
    /// Its connections.
    pub total: u64,
}

/// What `portolan links` shows of an endpoint.
pub(super) fn endpoint_status((target, protocol): (&Target, Protocol), now: Instant) -> EndpointStatus {
    let met = target.endpoint.met(now);
    let nearness = match target.nearness {
        Nearness::Node => "node",
        Nearness::Az => "az",
        Nearness::Far => "far",
    };
    EndpointStatus {
        address: target.address(),
        protocol,
        nearness: nearness.to_owned(),
        weight: target.weight,
        open: met.open,
        total: met.total,
        bytes: met.bytes,
        failures: met.failures,
        ejections: met.ejections,
        ejected_ms: met.out_for.map_or(0, |left| left.as_millis() as u64),
        connect_us: met.latency.as_micros() as u64,
    }
}

impl LinkFigures {
    /// Counts a connection of that client. Takes a lock that only a client's first connection holds for itself.
    pub(super) fn called_by(&self, client: Option<ServiceKey>) {
        if let Some(count) = self.callers.read().unwrap_or_else(PoisonError::into_inner).get(&client) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut callers = self.callers.write().unwrap_or_else(PoisonError::into_inner);
        let client = if callers.len() < CALLERS_MAX { client } else { None };
        callers.entry(client).or_default().fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn status(
        &self,
        (service, address): (&ServiceKey, Ipv4Addr),
        ports: Vec<PortStatus>,
        endpoints: Vec<EndpointStatus>,
    ) -> LinkStatus {
        LinkStatus {
            service: service.clone(),
            address,
            plane: None,
            ports,
            endpoints,
            clients: self.clients(),
            open: self.open.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            limited: self.limited.count.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn clients(&self) -> Vec<ClientStatus> {
        let callers = self.callers.read().unwrap_or_else(PoisonError::into_inner);
        let status = |(service, count): (&Option<ServiceKey>, &AtomicU64)| ClientStatus {
            service: service.clone(),
            total: count.load(Ordering::Relaxed),
        };
        let mut clients: Vec<ClientStatus> = callers.iter().map(status).collect();
        clients.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.service.cmp(&b.service)));
        clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_core::name::Label;

    #[test]
    fn clients_are_counted_by_service_and_bounded() {
        let figures = LinkFigures::default();
        let key = |number: usize| ServiceKey {
            cluster: Label::fixed("c"),
            service: portolan_core::name::service_label(&format!("s{number}")).unwrap(),
        };
        for number in 0..2 * CALLERS_MAX {
            figures.called_by(Some(key(number)));
            figures.called_by(Some(key(0)));
        }
        let clients = figures.clients();
        assert_eq!(clients.len(), CALLERS_MAX + 1, "and one for all others");
        assert_eq!(clients[0], ClientStatus { service: Some(key(0)), total: 2 * CALLERS_MAX as u64 + 1 });
        assert_eq!(clients[1], ClientStatus { service: None, total: CALLERS_MAX as u64 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_told_once_in_ten_seconds() {
        let limited = Limited::default();
        let told: Vec<_> = (0..3).map(|_| limited.note(Instant::now())).collect();
        assert_eq!(told, [Some(1), None, None]);
        tokio::time::advance(LIMIT_LOG_INTERVAL).await;
        assert_eq!(limited.note(Instant::now()), Some(4));
    }
}
