//! Connecting to one of several endpoints: one after the other, a slow one kept while the next is tried beside it; the
//! first that answers wins.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::choice::Failures;

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

/// Connects to the first that answers of what `next` names, which is asked again whenever one failed or was too slow.
/// The number is how many that were.
pub(super) async fn first(
    next: impl FnMut() -> Option<SocketAddr>,
    patience: Patience,
    failures: &Failures,
) -> (Option<TcpStream>, u64) {
    let mut race = Race { step: patience.step, failures, failed: 0 };
    let stream = timeout(patience.total, race.run(next)).await.ok().flatten();
    (stream, race.failed)
}

struct Race<'a> {
    step: Duration,
    failures: &'a Failures,
    failed: u64,
}

impl Race<'_> {
    async fn run(&mut self, mut next: impl FnMut() -> Option<SocketAddr>) -> Option<TcpStream> {
        let mut trying = FuturesUnordered::new();
        let mut attempts = 0;
        let mut newest = None;
        loop {
            // The one that was too slow stands last for others, though it may still win here.
            newest.take().into_iter().for_each(|slow| self.note(slow));
            newest = if attempts < ATTEMPTS_MAX { next() } else { None };
            if let Some(address) = newest {
                attempts += 1;
                trying.push(connect(address));
            } else if trying.is_empty() {
                return None;
            }
            let next_at = Instant::now() + self.step;
            while let Ok(Some((address, connected))) = timeout_at(next_at, trying.next()).await {
                if let Ok(stream) = connected {
                    self.failures.forget(address);
                    return Some(stream);
                }
                // One that was too slow before is noted already.
                if newest == Some(address) {
                    newest = None;
                    self.note(address);
                    break;
                }
            }
        }
    }

    fn note(&mut self, address: SocketAddr) {
        self.failures.note(address, Instant::now());
        self.failed += 1;
    }
}

async fn connect(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let connected = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        configure(SockRef::from(&socket))?;
        socket.connect(address).await
    };
    (address, connected.await)
}

/// What every socket of a link has; a listener hands it on to what it accepts.
pub(super) fn configure(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL))
}
