//! The connection to a registry: both calls on one, and a change to another registry when either falls silent.
//!
//! Retries for ever with full jitter up to one second, since a node without a registry goes on from what it knows.

use std::time::Duration;

use portolan_proto::wire::registry_client::RegistryClient;
use portolan_proto::{FEATURES, MESSAGE_BYTES_MAX, TOLD_BYTES_MAX, wire};
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint, Uri};
use tracing::{info, warn};

use crate::identity::Identity;
use crate::register::Registrar;
use crate::subscription::Subscriber;

/// Nothing heard for this long on either call: the registry counts as lost (DESIGN section 2).
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The first retry comes within this, each next one within twice the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// No retry waits longer, so that two seconds after a registry's return everybody agrees with it.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lasted this long was good: the next backoff begins anew.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// Keeps a connection to one of `registries`, for ever.
pub(crate) async fn run(
    registries: Vec<Uri>,
    identity: Identity,
    mut registrar: Registrar,
    mut subscriber: Subscriber,
) {
    let mut backoff = BACKOFF_FIRST;
    for registry in registries.iter().cycle() {
        let began = Instant::now();
        let error = one_connection(registry, &identity, &mut registrar, &mut subscriber).await;
        // Here and not in each one's `run`, which is dropped where it stands when the other call fails first.
        registrar.lost();
        subscriber.lost();
        warn!(registry = %registry, "the connection to registry {registry} ended: {error:#}");
        if began.elapsed() > GOOD_AFTER {
            backoff = BACKOFF_FIRST;
        }
        let wait = rand::rng().random_range(Duration::ZERO..=backoff);
        tokio::select! {
            () = sleep(wait) => {}
            () = subscriber.wait_offline() => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn one_connection(
    registry: &Uri,
    identity: &Identity,
    registrar: &mut Registrar,
    subscriber: &mut Subscriber,
) -> anyhow::Error {
    let channel = tokio::select! {
        connected = connect(registry.clone()) => match connected {
            Ok(channel) => channel,
            Err(error) => return error,
        },
        () = subscriber.wait_offline() => return anyhow::anyhow!("nobody can ask any more"),
    };
    info!(registry = %registry, "connected to registry {registry}");
    let client = RegistryClient::new(channel)
        .max_decoding_message_size(TOLD_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let peer = peer(identity);
    tokio::select! {
        error = registrar.run(client.clone(), peer.clone()) => error.into(),
        error = subscriber.run(client, peer) => error.into(),
    }
}

async fn connect(registry: Uri) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from(registry).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    Ok(timeout(CONNECT_TIMEOUT, endpoint.connect()).await??)
}

fn peer(identity: &Identity) -> wire::Peer {
    wire::Peer {
        cluster: identity.node.cluster.to_string(),
        node: identity.node.node.to_string(),
        boot_id: identity.boot_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features: FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
    }
}
