//! Connecting to one of several endpoints: one after the other, a slow one kept while the next is tried beside it; the
//! first that answers wins.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};

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

/// Connects to the first of `addresses` that answers. The number is how many failed or were too slow.
pub(super) async fn first(
    addresses: &[SocketAddr],
    patience: Patience,
    failures: &Failures,
) -> (Option<TcpStream>, u64) {
    let deadline = Instant::now() + patience.total;
    let mut failed = 0;
    let race = race(addresses, patience.step, (failures, &mut failed));
    let stream = timeout_at(deadline, race).await.ok().flatten();
    (stream, failed)
}

async fn race(
    addresses: &[SocketAddr],
    step: Duration,
    (failures, failed): (&Failures, &mut u64),
) -> Option<TcpStream> {
    let mut waiting = addresses.iter().take(ATTEMPTS_MAX);
    let mut trying = FuturesUnordered::new();
    let mut next_at = Instant::now();
    let mut newest = None;
    loop {
        if trying.is_empty() || Instant::now() >= next_at {
            // The one that was too slow stands last for others, though it may still win here.
            if let Some(slow) = newest.take() {
                failures.note(slow, Instant::now());
                *failed += 1;
            }
            match waiting.next() {
                Some(address) => {
                    newest = Some(*address);
                    trying.push(connect(*address));
                    next_at = Instant::now() + step;
                }
                None if trying.is_empty() => return None,
                None => next_at = Instant::now() + Duration::from_secs(3600),
            }
        }
        tokio::select! {
            Some((address, connected)) = trying.next() => match connected {
                Ok(stream) => {
                    failures.forget(address);
                    return Some(stream);
                }
                Err(_refused) => {
                    if newest == Some(address) {
                        newest = None;
                        *failed += 1;
                        next_at = Instant::now();
                    }
                    failures.note(address, Instant::now());
                }
            },
            () = sleep_until(next_at) => {}
        }
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
