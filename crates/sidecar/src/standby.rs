//! One sidecar serves a node; another one waits until it is gone, and goes on within a moment.
//!
//! Whoever holds an abstract Unix socket serves. It belongs to the network namespace, as the addresses do, and the kernel
//! lets go of it when the process dies, however it dies. Those that wait are connected to it, so they learn of the end at once.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::sync::Arc;

use portolan_runtime::jobs::Jobs;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tracing::{info, warn};

/// The name of the socket.
const NAME: &[u8] = b"portolan-sidecar";
/// How many may wait; one more is let go and tries again.
const WAITING_MAX: usize = 16;

/// The right to serve this node, for as long as it is held.
#[derive(Debug)]
pub struct Turn {
    listener: UnixListener,
}

/// Waits for this process's turn to serve the node. Cancel-safe.
///
/// # Errors
/// When the socket can be neither made nor reached.
pub async fn wait_for_turn() -> io::Result<Turn> {
    let address = SocketAddr::from_abstract_name(NAME)?;
    let mut told = false;
    loop {
        match StdListener::bind_addr(&address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(Turn { listener: UnixListener::from_std(listener)? });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        if !told {
            info!("another sidecar serves this node: waiting until it ends");
            told = true;
        }
        match StdStream::connect_addr(&address) {
            Ok(stream) => wait_for_end(stream).await?,
            // It ended between the two calls: the next bind succeeds.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => tokio::task::yield_now().await,
            Err(error) => return Err(error),
        }
    }
}

async fn wait_for_end(stream: StdStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    // The holder never writes: what ends this read is its end.
    stream.read(&mut [0; 1]).await.map(drop).or(Ok(()))
}

/// A turn that is kept. Drop it last: whoever waits binds the same sockets at that moment.
#[must_use = "the turn ends when this is dropped"]
#[derive(Debug)]
pub struct Kept {
    _listener: Arc<UnixListener>,
}

impl Turn {
    /// Keeps the turn until what is returned is dropped, which must be after everything else has ended. Until shutdown
    /// those that wait stay connected; then they ask again, and wait in the socket's own queue.
    pub fn keep(self, jobs: &Jobs) -> Kept {
        let listener = Arc::new(self.listener);
        let kept = Kept { _listener: listener.clone() };
        jobs.start("standby", async move {
            let mut waiting = Vec::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) if waiting.len() < WAITING_MAX => waiting.push(stream),
                    Ok(_) => warn!("more than {WAITING_MAX} sidecars wait for this node; one was let go"),
                    Err(error) => {
                        warn!("take a waiting sidecar: {error}");
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                }
            }
        });
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_serves_when_the_first_ends() {
        let first = wait_for_turn().await.unwrap();
        let jobs = Jobs::new();
        let kept = first.keep(&jobs);
        let second = wait_for_turn();
        tokio::pin!(second);
        let a_moment = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(a_moment, &mut second).await.is_err(), "the first still serves");
        jobs.shut_down();
        jobs.finished().await.unwrap();
        assert!(tokio::time::timeout(a_moment, &mut second).await.is_err(), "the first may still hold its sockets");
        drop(kept);
        second.await.unwrap();
    }
}
