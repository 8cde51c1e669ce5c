//! The world outside: resolvers that know names, and places that take connections. Tests have one of their own.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use portolan_dns::forward::addresses::{Addresses, AddressesError, Asker, Kind};
use portolan_dns::upstreams::{self, RESOLV_CONF, Upstreams};
use portolan_runtime::jobs::Jobs;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// What is asked of the world.
pub(super) trait Outside: fmt::Debug + Send + Sync {
    /// The addresses of a name.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Answers>;
    /// Whether a TCP connection opens in time.
    fn connects(&self, place: SocketAddr) -> BoxFuture<'_, bool>;
}

/// What resolvers said of a name, of each kind of address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) v4: Result<Addresses, AddressesError>,
    pub(super) v6: Result<Addresses, AddressesError>,
}

/// The real one.
pub(super) struct Network {
    asker: Arc<Asker>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    /// Asks `upstreams`, whatever the host's resolvers are at the time.
    pub(super) fn new(jobs: &Jobs, upstreams: &Upstreams) -> Network {
        let path = Path::new(RESOLV_CONF);
        let (routes, hosts) = upstreams.now(path, &[]);
        let asker = Arc::new(Asker::new(&routes));
        if let Some(known) = hosts {
            let told = asker.clone();
            let follow = async move { upstreams::follow(path, &[], known, |now| told.set_default(now)).await };
            jobs.start("resolvers", follow);
        }
        Network { asker }
    }
}

impl Outside for Network {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Answers> {
        async move {
            let (v4, v6) = tokio::join!(self.asker.ask(host, Kind::V4), self.asker.ask(host, Kind::V6));
            Answers { v4, v6 }
        }
        .boxed()
    }

    fn connects(&self, place: SocketAddr) -> BoxFuture<'_, bool> {
        async move { matches!(timeout(CONNECT_WITHIN, TcpStream::connect(place)).await, Ok(Ok(_))) }.boxed()
    }
}
