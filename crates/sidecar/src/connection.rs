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
/// Where a registry's HTTP is when it does not say: an older one, or none that is connected.
const HTTP_PORT: u16 = 8500;

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
        error = registrar.run(client.clone(), peer.clone(), registry) => error.into(),
        error = subscriber.run(client, peer) => error.into(),
    }
}

async fn connect(registry: Uri) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from(registry).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    Ok(timeout(CONNECT_TIMEOUT, endpoint.connect()).await??)
}

/// Where the HTTP of `registry` is: at the host where its gRPC is, on the port that it told.
pub(crate) fn http_of(registry: &Uri, told: Option<u32>) -> Option<String> {
    let told = told.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    registry.host().map(|host| format!("http://{host}:{}", told.unwrap_or(HTTP_PORT)))
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

#[cfg(test)]
mod tests {
    use portolan_core::name::{Label, NodeKey};
    use portolan_core::view::View;
    use portolan_runtime::jobs::Jobs;
    use portolan_runtime::published::published;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::prober;
    use crate::register::RegisterError;
    use crate::registration::LocalState;
    use crate::subscription::Subscription;

    #[test]
    fn a_registry_s_http_is_where_it_says_at_the_host_of_its_grpc() {
        let check = |registry: &str, told: Option<u32>, expected: &str| {
            assert_eq!(http_of(&registry.parse().unwrap(), told).as_deref(), Some(expected), "{registry} {told:?}");
        };
        check("http://127.0.0.1:8502", Some(9500), "http://127.0.0.1:9500");
        check("http://registry.internal:8502/", Some(65_535), "http://registry.internal:65535");
        check("http://[::1]:8502", Some(1), "http://[::1]:1");
        for none_told in [None, Some(0), Some(65_536), Some(u32::MAX)] {
            check("http://10.0.0.7", none_told, "http://10.0.0.7:8500");
        }
        assert_eq!(http_of(&"/".parse().unwrap(), Some(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_takes_connections_and_never_speaks_is_silent() {
        let (jobs, listener) = (Jobs::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let registry: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let identity = Identity {
            node: NodeKey { cluster: Label::fixed("local"), node: Label::fixed("n1") },
            boot_id: "b".to_owned(),
            host_name: None,
            addresses: vec!["10.0.0.7".parse().unwrap()],
            az: None,
        };
        let limits = prober::Limits { range: "198.18.0.0/16".parse().unwrap(), own: Vec::new() };
        let (_local_to, local) = published(LocalState::default());
        let (view_to, view) = published(View::default());
        let prober = prober::start(&jobs, limits);
        let (mut registrar, _progress) = Registrar::new(identity.clone(), (local, mpsc::channel(1).0), view, prober);
        let (_ask, asked) = mpsc::channel(1);
        let (mut subscriber, _provenance) =
            Subscriber::new(Subscription::default(), view_to, (asked, tokio::sync::watch::channel(0).1));
        let client = RegistryClient::new(connect(registry.clone()).await.unwrap());
        let began = Instant::now();
        // Longer than anybody has patience; the clock is virtual.
        let patience = Duration::from_secs(3_600);
        let registered = timeout(patience, registrar.run(client.clone(), peer(&identity), &registry)).await;
        assert!(matches!(registered, Ok(RegisterError::Silent)), "{registered:?}");
        assert_eq!(began.elapsed().as_secs(), SILENCE_MAX.as_secs());
        let subscribed = timeout(patience, subscriber.run(client, peer(&identity))).await;
        let said = subscribed.map(|error| error.to_string());
        assert_eq!(said.as_deref(), Ok("the registry is silent on the subscription"));
        assert_eq!(began.elapsed().as_secs(), 2 * SILENCE_MAX.as_secs());
    }
}
