//! One sidecar serves a node; another one waits until it is gone, and goes on within a moment.
//!
//! Whoever holds an abstract Unix socket serves. It belongs to the network namespace, as the addresses do, and the kernel
//! lets go of it when the process dies, however it dies. Those that wait are connected to it, so they learn of the end at once.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::sync::Arc;
use std::time::Duration;

use portolan_runtime::jobs::Jobs;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tracing::{info, warn};

/// The name of the socket.
const NAME: &[u8] = b"portolan-sidecar";
/// How many may wait; one more is let go and tries again.
const WAITING_MAX: usize = 16;
/// How long one that was let go waits before it tries again. Far less than a second, which is the promise.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

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
    let (mut told, mut was_let_go) = (false, false);
    loop {
        match StdListener::bind_addr(&address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(Turn { listener: UnixListener::from_std(listener)? });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        if was_let_go {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        if !told {
            info!("another sidecar serves this node: waiting until it ends");
            told = true;
        }
        match StdStream::connect_addr(&address) {
            Ok(stream) => {
                wait_for_end(stream).await?;
                was_let_go = true;
            }
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

/// Whether the one that waits at the other end is still there. It never writes: what there is to read is its end.
fn is_open(stream: &UnixStream) -> bool {
    stream.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
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
                let accepted = listener.accept().await;
                waiting.retain(is_open);
                match accepted {
                    Ok((stream, _)) if waiting.len() < WAITING_MAX => waiting.push(stream),
                    Ok(_) => warn!("more than {WAITING_MAX} sidecars wait for this node; one was let go"),
                    Err(error) => {
                        warn!("take a waiting sidecar: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
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
        let a_moment = Duration::from_millis(50);
        assert!(tokio::time::timeout(a_moment, &mut second).await.is_err(), "the first still serves");
        jobs.shut_down();
        jobs.finished().await.unwrap();
        assert!(tokio::time::timeout(a_moment, &mut second).await.is_err(), "the first may still hold its sockets");
        drop(kept);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn those_that_gave_up_make_room() {
        let address = SocketAddr::from_abstract_name(b"portolan-sidecar-room").unwrap();
        let listener = StdListener::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let jobs = Jobs::new();
        let _kept = Turn { listener: UnixListener::from_std(listener).unwrap() }.keep(&jobs);
        let is_let_go = async || {
            let stream = StdStream::connect_addr(&address).unwrap();
            let held = stream.try_clone().unwrap();
            let a_moment = Duration::from_millis(50);
            (tokio::time::timeout(a_moment, wait_for_end(stream)).await.is_ok(), held)
        };
        for _ in 0..2 * WAITING_MAX {
            let (is_let_go, gives_up) = is_let_go().await;
            assert!(!is_let_go, "there is room");
            gives_up.shutdown(std::net::Shutdown::Both).unwrap();
        }
        jobs.shut_down();
        jobs.finished().await.unwrap();
    }
}
