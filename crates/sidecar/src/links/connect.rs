//! Connecting to one of several endpoints: one after the other, a slow one kept while the next is tried beside it; the
//! first that answers wins.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::choice::{Experience, InUse};

/// Endpoints tried for one connection: after these a client is better served by a refusal.
const ATTEMPTS_MAX: usize = 16;
/// A peer that acknowledges nothing for so long is gone (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are probed, so that a peer that lost power is noticed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between probes; the user timeout ends them.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long to be patient.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// With one endpoint, before the next is tried beside it.
    pub(super) step: Duration,
    /// With all of them.
    pub(super) total: Duration,
}

/// A connection to an endpoint.
pub(super) type Connected = (TcpStream, InUse);

/// Connects to the first that answers of what `next` names, which is asked again whenever one failed or was too slow.
/// The number is how many that were; each was told so.
pub(super) async fn first(next: impl FnMut() -> Option<InUse>, patience: Patience) -> (Option<Connected>, u64) {
    let mut race = Race { step: patience.step, failed: 0 };
    let connected = timeout(patience.total, race.run(next)).await.ok().flatten();
    (connected, race.failed)
}

struct Race {
    step: Duration,
    failed: u64,
}

impl Race {
    async fn run(&mut self, mut next: impl FnMut() -> Option<InUse>) -> Option<Connected> {
        let mut trying = FuturesUnordered::new();
        let mut attempts = 0;
        // The attempt that the next one waits for; `None` once it failed.
        let mut newest: Option<Arc<Experience>> = None;
        loop {
            // The one that was too slow stands last for others, though it may still win here.
            newest.take().into_iter().for_each(|slow| self.note(&slow));
            if let Some(endpoint) = (attempts < ATTEMPTS_MAX).then(&mut next).flatten() {
                attempts += 1;
                newest = Some(endpoint.experience().clone());
                trying.push(connect(endpoint));
            } else if trying.is_empty() {
                return None;
            }
            let next_at = Instant::now() + self.step;
            while let Ok(Some((endpoint, took, connected))) = timeout_at(next_at, trying.next()).await {
                if let Ok(stream) = connected {
                    endpoint.connected(took, Instant::now());
                    return Some((stream, endpoint));
                }
                // One that was too slow before is noted already.
                if let Some(failed) = newest.take_if(|newest| newest.address == endpoint.address) {
                    self.note(&failed);
                    break;
                }
            }
        }
    }

    fn note(&mut self, endpoint: &Experience) {
        endpoint.connect_failed(Instant::now());
        self.failed += 1;
    }
}

async fn connect(endpoint: InUse) -> (InUse, Duration, io::Result<TcpStream>) {
    let began = Instant::now();
    let connected = async {
        let socket = if endpoint.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        configure(SockRef::from(&socket))?;
        socket.connect(endpoint.address).await
    };
    let connected = connected.await;
    (endpoint, began.elapsed(), connected)
}

/// What every socket of a link has; a listener hands it on to what it accepts.
pub(super) fn configure(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL))
}

#[cfg(test)]
mod tests;
