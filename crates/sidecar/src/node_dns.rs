//! DNS on the node's own address: bound at the start, and if another program has the port then, as soon as it lets go.
//!
//! A node whose port 53 is taken still registers its containers and links them; only their questions go unanswered.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use portolan_dns::listen::{BindError, Listeners};
use portolan_dns::server::Server;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::logging;
use tracing::{error, warn};

use crate::sockets::{Purpose, Sockets};

/// How often a port that was taken is tried again.
const AGAIN_EVERY: Duration = Duration::from_secs(1);

/// Where DNS is answered, once it is.
pub(crate) type Bound = Arc<OnceLock<SocketAddr>>;

/// Answers on `address` until shutdown. When this returns, the first attempt was made.
pub(crate) async fn start(jobs: &Jobs, address: SocketAddr, server: Arc<Server>, sockets: &Arc<Sockets>) -> Bound {
    let bound = Bound::default();
    if let Err(error) = serve(jobs, address, &server, (sockets, &bound)).await {
        error!("no DNS for containers on this node (setting `sidecar.dns`), tried again every second: {error:#}");
        let (again, told, sockets) = (jobs.clone(), bound.clone(), sockets.clone());
        jobs.start_work("node-dns", async move {
            while told.get().is_none() {
                tokio::time::sleep(AGAIN_EVERY).await;
                serve(&again, address, &server, (&sockets, &told)).await.ok();
            }
        });
    }
    bound
}

async fn serve(
    jobs: &Jobs,
    address: SocketAddr,
    server: &Arc<Server>,
    (sockets, bound): (&Sockets, &Bound),
) -> anyhow::Result<()> {
    let listeners = bind(address, sockets).await?;
    let address = listeners.address();
    listeners.serve(jobs, server.clone()).context("start the workers")?;
    logging::announce("node-dns", address);
    bound.get_or_init(|| address);
    Ok(())
}

/// Takes over what the one before left, else binds; and has others hold it.
async fn bind(address: SocketAddr, sockets: &Sockets) -> Result<Listeners, BindError> {
    let left = sockets.take_socket(Purpose::DnsUdp, address).zip(sockets.take_listener(Purpose::DnsTcp, address));
    let listeners = match left.and_then(|(udp, tcp)| Listeners::of(udp, tcp).ok()) {
        Some(listeners) => listeners,
        None => Listeners::bind(address).await?,
    };
    let [udp, tcp] = listeners.sockets();
    if let Err(error) = sockets.hold(&[(Purpose::DnsUdp, udp), (Purpose::DnsTcp, tcp)]) {
        warn!("no other process can hold the sockets of DNS: {error}");
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use portolan_core::lookup::Zone;
    use portolan_core::view::View;
    use portolan_dns::authority::{Authority, Ttl};
    use portolan_dns::gate::{Beginning, Gate, GateSettings};
    use portolan_dns::metrics::Metrics;
    use portolan_dns::server::Role;
    use portolan_runtime::published::published;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_once_the_port_is_free() {
        // Of both transports: else another test may be given the port of the one that is free.
        let taken = Listeners::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = taken.address();
        let zone = Zone::parse("ecs.internal").unwrap();
        let server = Server {
            view: published(View::default()).1,
            authority: Authority::new(zone, Ttl::default(), "ns.ecs.internal").unwrap(),
            role: Role::Registry,
            gate: Gate::new(GateSettings::default(), [7; 32], Beginning::now()),
            metrics: Metrics::new(&mut prometheus_client::registry::Registry::default()),
        };
        let jobs = Jobs::new();
        let bound = start(&jobs, address, Arc::new(server), &Arc::default()).await;
        tokio::time::sleep(3 * AGAIN_EVERY).await;
        assert_eq!(bound.get(), None, "another socket has the port");
        drop(taken);
        tokio::time::sleep(2 * AGAIN_EVERY).await;
        assert_eq!(bound.get(), Some(&address));
        jobs.shut_down();
        jobs.finished().await.unwrap();
    }
}
