//! What Portolan says of a service on each of its surfaces, in one form that can be compared: sets of `address:port`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::dig::Dug;
use crate::http;
use crate::namespace::Namespace;
use crate::site::{CLUSTER, NODE_DNS, REGISTRY_DNS, REGISTRY_HTTP};
use crate::wait::{PATIENCE, eventually, now};

/// The zone.
pub const ZONE: &str = "ecs.internal";

/// The range of virtual addresses, 198.18.0.0/16.
pub fn is_virtual(address: Ipv4Addr) -> bool {
    address.octets()[..2] == [198, 18]
}

/// The full name of a service of the site's cluster.
pub fn full_name(service: &str) -> String {
    format!("{service}.{CLUSTER}.{ZONE}")
}

impl Namespace {
    /// The endpoints that a DNS server gives a service by SRV, each target looked up in the additional section.
    ///
    /// # Errors
    /// When it does not answer NOERROR, or an address is missing.
    pub fn srv(&self, server: SocketAddr, service: &str) -> anyhow::Result<BTreeSet<String>> {
        located(&self.dig(server, &format!("{} SRV", full_name(service)))?)
    }

    /// As [`Namespace::srv`], of the registry.
    ///
    /// # Errors
    /// As there.
    pub fn registry_srv(&self, service: &str) -> anyhow::Result<BTreeSet<String>> {
        self.srv(REGISTRY_DNS, service)
    }

    /// As [`Namespace::srv`], of the node.
    ///
    /// # Errors
    /// As there.
    pub fn node_srv(&self, service: &str) -> anyhow::Result<BTreeSet<String>> {
        self.srv(NODE_DNS, service)
    }

    /// The service as `GET /api/services/CLUSTER/SERVICE` shows it.
    ///
    /// # Errors
    /// When the registry does not answer 200.
    pub fn service(&self, service: &str) -> anyhow::Result<Value> {
        let answer = self.fetch(REGISTRY_HTTP, &format!("/api/services/{CLUSTER}/{service}"))?;
        anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        answer.json()
    }

    /// The usable endpoints by the registry's HTTP.
    ///
    /// # Errors
    /// As [`Namespace::service`].
    pub fn usable(&self, service: &str) -> anyhow::Result<BTreeSet<String>> {
        usable(&self.service(service)?)
    }

    /// The virtual address of a service, by the node's DNS.
    ///
    /// # Errors
    /// When the name has none there.
    pub fn virtual_address(&self, service: &str) -> anyhow::Result<Ipv4Addr> {
        let dug = self.dig(NODE_DNS, &format!("{} A", full_name(service)))?;
        let addresses = dug.data("A");
        let [address] = addresses.as_slice() else { anyhow::bail!("not one address: {}", dug.text) };
        let address = address.parse()?;
        anyhow::ensure!(is_virtual(address), "{address} is not a virtual address");
        Ok(address)
    }

    /// Who answers `GET /` behind an address, by asking `times` times over connections of their own: the names that the
    /// stand-ins give themselves.
    ///
    /// # Errors
    /// The first connection or request that fails.
    pub fn names_behind(&self, addr: SocketAddr, times: u32) -> anyhow::Result<BTreeSet<String>> {
        self.inside(|| (0..times).map(|_| name_behind(addr)).collect())?
    }

    /// Every name behind the link is one of `names` and, where they are few, each of them is reached; not at once, for one
    /// that took long to connect to is avoided for some seconds.
    ///
    /// # Errors
    /// The first request that fails, a name that is none of them, or one that is never reached.
    pub fn link_leads_to(&self, link: SocketAddr, names: &BTreeSet<String>) -> anyhow::Result<()> {
        let mut seen = BTreeSet::new();
        eventually(PATIENCE, || {
            match self.names_behind(link, 60) {
                Ok(found) => seen.extend(found),
                // None may fail, so there is nothing to wait for.
                Err(error) => return Ok(Err(error)),
            }
            let is_enough = names.len() > 4 || !seen.is_subset(names) || seen.is_superset(names);
            if is_enough { Ok(Ok(())) } else { Err(format!("{seen:?} of {names:?} only")) }
        })
        .and_then(|looked| looked)
        .with_context(|| format!("where the link {link} leads"))?;
        anyhow::ensure!(seen.is_subset(names), "the link {link} leads to {seen:?}, not to {names:?}");
        Ok(())
    }

    /// How long a connect to `addr` takes to be refused: the quickest of five, because a loaded machine is slow.
    ///
    /// # Errors
    /// When one is accepted or fails in another way.
    pub fn refusal_time(&self, addr: SocketAddr) -> anyhow::Result<Duration> {
        self.inside(|| refusal_time(addr))?
    }
}

/// Who answers `GET /` behind an address: the stand-in's name.
///
/// # Errors
/// When the connection or the request fails.
pub fn name_behind(addr: SocketAddr) -> anyhow::Result<String> {
    let answer = http::fetch(addr, "/")?;
    anyhow::ensure!(answer.status == 200, "{} from {addr}: {}", answer.status, answer.body);
    answer.json()?["name"].as_str().map(str::to_owned).with_context(|| format!("no name in {}", answer.body))
}

/// As [`Namespace::refusal_time`], from wherever the thread is.
///
/// # Errors
/// As there.
pub fn refusal_time(addr: SocketAddr) -> anyhow::Result<Duration> {
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let began = now();
        match TcpStream::connect_timeout(&addr, Duration::from_secs(5)) {
            Ok(_) => anyhow::bail!("{addr} accepted a connection"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error).with_context(|| format!("{addr} did not refuse")),
        }
        quickest = quickest.min(began.elapsed());
    }
    Ok(quickest)
}

/// The `address:port` pairs of an SRV answer.
///
/// # Errors
/// When the status is not NOERROR or a target has no address in the additional section.
pub fn located(dug: &Dug) -> anyhow::Result<BTreeSet<String>> {
    anyhow::ensure!(dug.status == "NOERROR", "{}", dug.text);
    let mut found = BTreeSet::new();
    for data in dug.data("SRV") {
        let fields: Vec<&str> = data.split(' ').collect();
        let [_priority, _weight, port, target] = fields.as_slice() else { anyhow::bail!("odd SRV data {data:?}") };
        let of_target = dug.additional.iter().filter(|record| record.split(' ').next() == Some(target));
        let addresses: Vec<IpAddr> = of_target.filter_map(|record| record.rsplit(' ').next()?.parse().ok()).collect();
        let address = addresses.first().with_context(|| format!("no address of {target} in {}", dug.text))?;
        found.insert(format!("{address}:{port}"));
    }
    Ok(found)
}

/// The `address:port` pairs of the usable endpoints of a service's JSON.
///
/// # Errors
/// When it has no endpoints field.
pub fn usable(service: &Value) -> anyhow::Result<BTreeSet<String>> {
    let endpoints = service["endpoints"].as_array().with_context(|| format!("no endpoints in {service}"))?;
    let usable = endpoints.iter().filter(|endpoint| endpoint["state"] == "usable");
    usable
        .map(|endpoint| {
            let address = endpoint["address"].as_str().with_context(|| format!("no address in {endpoint}"))?;
            let port = endpoint["port"].as_u64().with_context(|| format!("no port in {endpoint}"))?;
            Ok(format!("{address}:{port}"))
        })
        .collect()
}
