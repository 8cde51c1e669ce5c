//! The links of this node, as its sidecar says.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use portolan_registry::http::api::LinkPort;
use serde::{Deserialize, Serialize};

use super::{Asker, Failure, Verdict, names};
use crate::client::Answer;
use crate::locate;
use crate::show::{self, Screen};

/// What a sidecar's `/api/links` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LinkList {
    /// One for each service with a virtual address.
    pub(crate) links: Vec<LinkState>,
}

/// One link of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkState {
    /// The service.
    pub(crate) service: String,
    /// Its cluster.
    pub(crate) cluster: String,
    /// Its virtual address.
    pub(crate) address: Ipv4Addr,
    /// `vip` or `direct`.
    pub(crate) mode: String,
    /// `proxy` or `ebpf`; empty from a sidecar that knows no planes.
    #[serde(default)]
    pub(crate) plane: String,
    /// Why it is not the plane that was asked for.
    #[serde(default)]
    pub(crate) plane_reason: Option<String>,
    /// How many connections the kernel led.
    #[serde(default)]
    pub(crate) led_total: u64,
    /// How many of those failed.
    #[serde(default)]
    pub(crate) led_failures: u64,
    /// Its ports.
    pub(crate) ports: Vec<LinkPort>,
    /// How many endpoints it may lead to now.
    pub(crate) endpoints: u64,
    /// How many connections are open.
    pub(crate) open: u64,
    /// How many there were.
    pub(crate) total: u64,
    /// Attempts on endpoints that failed or were too slow.
    pub(crate) failures: u64,
    /// Connections refused because there were too many. What follows, an older sidecar does not say.
    #[serde(default)]
    pub(crate) limited: u64,
    /// Bytes relayed, both ways.
    #[serde(default)]
    pub(crate) bytes: u64,
    /// The endpoints as this node met them.
    #[serde(default)]
    pub(crate) met: Vec<EndpointState>,
    /// Who connected.
    #[serde(default)]
    pub(crate) clients: Vec<ClientState>,
}

/// One endpoint as this node met it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointState {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// `tcp` or `udp`; empty from a sidecar that knows TCP alone.
    #[serde(default)]
    pub(crate) protocol: String,
    /// `node`, `az` or `far`.
    pub(crate) nearness: String,
    /// Its weight.
    pub(crate) weight: u16,
    /// Connections and attempts that are open.
    pub(crate) open: u64,
    /// Connections there were.
    pub(crate) total: u64,
    /// Bytes relayed, both ways.
    pub(crate) bytes: u64,
    /// Attempts that failed or were too slow, and connections reset unanswered.
    pub(crate) failures: u64,
    /// How often it was ejected.
    pub(crate) ejections: u64,
    /// How much longer it is ejected; 0: it is not.
    pub(crate) ejected_ms: u64,
    /// How long connecting takes.
    pub(crate) connect_us: u64,
}

/// A service that connected; without a name: no container of a service on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientState {
    /// Its cluster.
    pub(crate) cluster: Option<String>,
    /// Its name.
    pub(crate) service: Option<String>,
    /// Its connections.
    pub(crate) total: u64,
}

impl Asker<'_> {
    /// All links, or one with its endpoints and clients.
    pub(super) async fn links<W: Write>(
        &self,
        service: Option<&str>,
        screen: &mut Screen<W>,
    ) -> Result<Verdict, Failure> {
        let sidecar = locate::sidecar(self.common)?;
        let answer: Result<Answer<LinkList>, _> = self.client.get(&sidecar, "/api/links").await;
        let answer = answer.map_err(|source| Failure::Sidecar { source })?;
        let Some(name) = service else {
            if self.is_json() {
                screen.json(&answer.raw)?
            } else {
                show::links(screen, &answer.value)?
            }
            return Ok(Verdict::Done);
        };
        let mut links = answer.value;
        links.links.retain(|link| names::is_called(&link.service, &link.cluster, name));
        if links.links.is_empty() {
            return Err(Failure::Answered {
                text: format!("the sidecar at {sidecar} has no link for `{}`", show::safe(name)),
            });
        }
        if self.is_json() {
            screen.json(&serde_json::to_vec(&links).map_err(io::Error::other)?)?;
        } else {
            show::links(screen, &links)?;
            links.links.iter().try_for_each(|link| show::link(screen, link))?;
        }
        Ok(Verdict::Done)
    }
}
