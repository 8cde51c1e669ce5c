//! One sidecar serves a node; another one waits until it is gone, and goes on within a moment.
//!
//! Whoever holds an abstract Unix socket serves. It belongs to the network namespace, as the addresses do, and the kernel
//! lets go of it when the process dies, however it dies. Those that wait are connected to it, so they learn of the end at once;
//! meanwhile they hold duplicates of the sockets that are listened on, so that what comes in between waits and is not refused.

use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::sync::Arc;
use std::time::Duration;

use portolan_runtime::jobs::Jobs;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::sockets::pass::{Message, receive, send};
use crate::sockets::{Duplicates, Sockets, duplicated};

/// The name of the socket.
const NAME: &[u8] = b"portolan-sidecar";
/// How many may wait; one more is let go and tries again.
const WAITING_MAX: usize = 16;
/// How long one that was let go waits before it tries again. Far less than a second, which is the promise.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How to come to one's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// When the one that serves ends.
    Wait,
    /// Now: it lets go of its sockets, and finishes the connections that it has.
    TakeOver,
}

/// The right to serve this node, for as long as it is held.
#[derive(Debug)]
pub struct Turn {
    /// None where somebody else's process holds the name.
    listener: Option<UnixListener>,
    /// The sockets of the one before.
    pub left: Duplicates,
}

/// Waits for this process's turn to serve the node. Cancel-safe.
///
/// # Errors
/// When the socket can be neither made nor reached.
pub async fn wait_for_turn(way: Way) -> io::Result<Turn> {
    let address = SocketAddr::from_abstract_name(NAME)?;
    let (mut told, mut was_let_go, mut left) = (false, false, Duplicates::new());
    loop {
        match StdListener::bind_addr(&address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(Turn { listener: Some(UnixListener::from_std(listener)?), left });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        if was_let_go {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        match StdStream::connect_addr(&address) {
            Ok(stream) if !is_ours(&stream) => {
                error!(
                    "a process of another user holds the socket `@portolan-sidecar`: no other sidecar can wait for this one"
                );
                return Ok(Turn { listener: None, left });
            }
            Ok(stream) => {
                if !std::mem::replace(&mut told, true) {
                    match way {
                        Way::Wait => info!("another sidecar serves this node: waiting until it ends"),
                        Way::TakeOver => info!("another sidecar serves this node: taking over from it"),
                    }
                }
                wait_for_end(stream, way, &mut left).await?;
                was_let_go = true;
            }
            // It ended between the two calls: the next bind succeeds.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => tokio::task::yield_now().await,
            Err(error) => return Err(error),
        }
    }
}

/// Whether the process at the other end is of our own user: sockets come from nobody else and go to nobody else.
fn is_ours(stream: impl AsFd) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid == geteuid())
}

/// Waits until the holder ends, and keeps what it sends until then.
async fn wait_for_end(stream: StdStream, way: Way, left: &mut Duplicates) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    if way == Way::TakeOver && send(&stream, &Message::TakeOver).await.is_err() {
        return Ok(());
    }
    // What ends this is its end.
    while let Ok(Some(message)) = receive(&stream).await {
        match message {
            Message::Sockets(sockets) => *left = sockets,
            Message::TakeOver => {}
        }
    }
    Ok(())
}

/// A turn that is kept. Drop it last: whoever waits takes the sockets at that moment.
#[must_use = "the turn ends when this is dropped"]
#[derive(Debug)]
pub struct Kept {
    _listener: Option<Arc<UnixListener>>,
    room: Arc<Semaphore>,
    asked: CancellationToken,
}

impl Kept {
    /// Whether another sidecar waits to go on.
    pub fn is_awaited(&self) -> bool {
        self.room.available_permits() < WAITING_MAX
    }

    /// Waits until another sidecar is to serve now. Cancel-safe.
    pub async fn taken_over(&self) {
        self.asked.cancelled().await;
    }
}

impl Turn {
    /// Keeps the turn until what is returned is dropped, which must be after everything else has ended. Until shutdown
    /// those that wait stay connected, and have duplicates of `sockets`; then they ask again, and wait in the socket's own queue.
    pub fn keep(self, jobs: &Jobs, sockets: &Sockets) -> Kept {
        let listener = self.listener.map(Arc::new);
        let (room, asked) = (Arc::new(Semaphore::new(WAITING_MAX)), CancellationToken::new());
        let kept = Kept { _listener: listener.clone(), room: room.clone(), asked: asked.clone() };
        let Some(listener) = listener else { return kept };
        let (works, held) = (jobs.clone(), sockets.watch());
        jobs.start("standby", async move {
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) if is_ours(&stream) => stream,
                    Ok(_) => {
                        warn!("a process of another user asked for this sidecar's sockets: it gets none");
                        continue;
                    }
                    Err(error) => {
                        warn!("take a waiting sidecar: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                };
                let Ok(permit) = room.clone().try_acquire_owned() else {
                    warn!("more than {WAITING_MAX} sidecars wait for this node; one was let go");
                    continue;
                };
                let (held, asked) = (held.clone(), asked.clone());
                works.start_work("waiting sidecar", async move {
                    if let Err(error) = talk(&stream, held, asked).await {
                        warn!("a waiting sidecar cannot be told of the sockets: {error}");
                    }
                    drop(permit);
                });
            }
        });
        kept
    }
}

/// Tells whoever waits of the sockets, and hears it, until it goes.
async fn talk(
    stream: &UnixStream,
    mut held: watch::Receiver<Arc<Duplicates>>,
    asked: CancellationToken,
) -> io::Result<()> {
    held.mark_changed();
    loop {
        tokio::select! {
            changed = held.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let sockets = duplicated(&held.borrow_and_update())?;
                send(stream, &Message::Sockets(sockets)).await?;
            }
            message = receive(stream) => match message? {
                Some(Message::TakeOver) => asked.cancel(),
                Some(Message::Sockets(_)) => {}
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::sockets::Purpose;

    /// The name is the network namespace's, which all tests share.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    const A_MOMENT: Duration = Duration::from_millis(50);

    async fn turn(way: Way) -> Turn {
        tokio::time::timeout(Duration::from_secs(10), wait_for_turn(way)).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn the_second_serves_when_the_first_ends() {
        let _alone = ALONE.lock().await;
        let (jobs, sockets) = (Jobs::new(), Sockets::default());
        let kept = turn(Way::Wait).await.keep(&jobs, &sockets);
        let mut second = Box::pin(wait_for_turn(Way::Wait));
        assert!(tokio::time::timeout(A_MOMENT, &mut second).await.is_err(), "the first still serves");
        assert!(kept.is_awaited());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        sockets.hold(&[(Purpose::Relay, listener.as_fd())]).unwrap();
        assert!(tokio::time::timeout(A_MOMENT, &mut second).await.is_err(), "it waits, and is told");
        jobs.shut_down();
        jobs.finished().await.unwrap();
        assert!(tokio::time::timeout(A_MOMENT, &mut second).await.is_err(), "the first may still hold its sockets");
        drop(kept);
        let mut left = second.await.unwrap().left;
        let (purpose, socket) = left.pop().unwrap();
        assert_eq!(purpose, Purpose::Relay);
        assert_eq!(TcpListener::from(socket).local_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn whoever_takes_over_has_the_sockets_when_the_first_lets_go() {
        let _alone = ALONE.lock().await;
        let (jobs, sockets) = (Jobs::new(), Sockets::default());
        let kept = turn(Way::Wait).await.keep(&jobs, &sockets);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        sockets.hold(&[(Purpose::Admin, listener.as_fd())]).unwrap();
        let first = async {
            kept.taken_over().await;
            jobs.shut_down();
            jobs.finished().await.unwrap();
            drop(kept);
        };
        let ((), second) = tokio::join!(first, turn(Way::TakeOver));
        assert_eq!(second.left.len(), 1);
    }

    #[tokio::test]
    async fn those_that_gave_up_make_room() {
        let address = SocketAddr::from_abstract_name(b"portolan-sidecar-room").unwrap();
        let listener = StdListener::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (jobs, sockets) = (Jobs::new(), Sockets::default());
        let listener = Some(UnixListener::from_std(listener).unwrap());
        let _kept = Turn { listener, left: Duplicates::new() }.keep(&jobs, &sockets);
        let is_let_go = async || {
            let stream = StdStream::connect_addr(&address).unwrap();
            let held = stream.try_clone().unwrap();
            let mut left = Duplicates::new();
            (tokio::time::timeout(A_MOMENT, wait_for_end(stream, Way::Wait, &mut left)).await.is_ok(), held)
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
