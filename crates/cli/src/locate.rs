//! Which registry and which sidecar to ask.

use std::net::SocketAddr;
use std::time::Duration;

use portolan_core::refusal::shown;
use serde::Deserialize;

use crate::arguments::Common;
use crate::client::{Client, Question, Server, ServerError};

/// The sidecar is on this machine: it answers at once or not at all.
pub(crate) const SIDECAR_TIMEOUT: Duration = Duration::from_secs(2);
/// DESIGN section 6.
const DEFAULT_REGISTRY: &str = "http://127.0.0.1:8500";

/// A registry, and how it was found: errors have to say both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    /// Where it is.
    pub(crate) server: Server,
    /// How it was found.
    pub(crate) how: How,
}

/// How a registry was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The person said so.
    Named,
    /// The local sidecar uses it.
    BySidecar,
    /// Nobody said anything.
    Default,
}

impl How {
    /// For people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            How::Named => "named by --registry or PORTOLAN_REGISTRY",
            How::BySidecar => "the one that the local sidecar uses",
            How::Default => "the default, --registry or PORTOLAN_REGISTRY name another",
        }
    }
}

/// What this command reads of a sidecar's `/api/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct SidecarStatus {
    /// Its version.
    pub(crate) version: String,
    /// Its node's name and cluster.
    pub(crate) node: String,
    /// `loading`, `stale` or `current`.
    pub(crate) readiness: String,
    /// Whether a registry hears it.
    pub(crate) is_registry_connected: bool,
    /// Why the registry refuses this node.
    pub(crate) refused: Option<String>,
    /// Where it answers the DNS of containers.
    pub(crate) dns: Option<SocketAddr>,
    /// Whether it links.
    pub(crate) has_links: bool,
    /// How many services the kernel leads.
    pub(crate) ebpf_services: usize,
    /// Why it does not lead those that should be.
    pub(crate) ebpf_problem: Option<String>,
    /// Where the registry that it uses answers HTTP.
    pub(crate) registry_http: Option<String>,
}

/// The sidecar's admin listener.
///
/// # Errors
/// When `--sidecar` is no address.
pub(crate) fn sidecar(common: &Common) -> Result<Server, ServerError> {
    Server::parse(&common.sidecar)
}

/// The sidecar's status, if one runs here.
pub(crate) async fn sidecar_status(client: &Client, common: &Common) -> Option<SidecarStatus> {
    let server = sidecar(common).ok()?;
    client.ask(&server, Question::get("/api/status").within(SIDECAR_TIMEOUT)).await.ok().map(|answer| answer.value)
}

/// The registry to ask.
///
/// # Errors
/// When `--registry`, or what the sidecar says, is no address.
pub(crate) async fn registry(client: &Client, common: &Common) -> Result<Registry, ServerError> {
    if let Some(text) = &common.registry {
        return Ok(Registry { server: Server::parse(text)?, how: How::Named });
    }
    let said = sidecar_status(client, common).await.and_then(|status| status.registry_http);
    let (text, how) = match &said {
        Some(text) => (text.as_str(), How::BySidecar),
        None => (DEFAULT_REGISTRY, How::Default),
    };
    tracing::debug!("the registry is {}: {}", shown(text, 200), how.text());
    Ok(Registry { server: Server::parse(text)?, how })
}
