//! DNS over UDP: one or two workers on one socket, which take and send many packets in a call, each on a thread of its own, so
//! that nothing else that the program does delays an answer. No task per packet: only questions that have to wait get one, and
//! of those there is a bounded number; beyond it the answer is SERVFAIL at once, and the client asks again.

mod socket;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use portolan_runtime::jobs::Jobs;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, error};

use crate::server::{Desk, Packet, Pending, Server, Step};
use crate::wire::Transport;
pub(crate) use socket::Socket;
use socket::{Inbox, Outbox, Peer};

/// One for each processor that this program may use; more than two are not for DNS.
const WORKERS_MAX: usize = 2;
/// Questions that may wait for an upstream at once.
const FORWARDS_MAX: usize = 512;
/// Questions that may wait for the registry at once, whatever the upstreams do.
const FOLLOWS_MAX: usize = 256;
/// How many batches one worker answers before its other tasks have their turn.
const BATCHES_MAX: usize = 4;
/// After a receive error: the next call may fail in the same way, and must not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(5);

/// Starts a worker on the caller's runtime.
pub(crate) fn serve(jobs: &Jobs, socket: Socket, server: Arc<Server>) {
    jobs.start("dns udp", Worker::new(jobs, socket, server, &Places::new()).run());
}

/// Starts the workers, each on a thread of its own.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn serve_on_threads(jobs: &Jobs, socket: Socket, server: &Arc<Server>) -> io::Result<()> {
    let socket = socket.into_std()?;
    let places = Places::new();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    for _ in 0..workers {
        let (of, socket, server, places) = (jobs.clone(), socket.try_clone()?, server.clone(), places.clone());
        jobs.start_thread("dns udp", move || async move {
            match UdpSocket::from_std(socket).and_then(Socket::of) {
                Ok(socket) => Worker::new(&of, socket, server, &places).run().await,
                Err(error) => error!(%error, "take the socket of DNS"),
            }
        })?;
    }
    Ok(())
}

/// For questions that wait, of all workers.
#[derive(Clone)]
struct Places {
    follows: Arc<Semaphore>,
    forwards: Arc<Semaphore>,
}

impl Places {
    fn new() -> Self {
        Places { follows: Arc::new(Semaphore::new(FOLLOWS_MAX)), forwards: Arc::new(Semaphore::new(FORWARDS_MAX)) }
    }
}

struct Worker {
    jobs: Jobs,
    socket: Arc<Socket>,
    server: Arc<Server>,
    places: Places,
}

impl Worker {
    fn new(jobs: &Jobs, socket: Socket, server: Arc<Server>, places: &Places) -> Self {
        Worker { jobs: jobs.clone(), socket: Arc::new(socket), server, places: places.clone() }
    }

    async fn run(self) {
        let mut desk = Desk::new(rand::random());
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
        loop {
            if let Err(error) = self.serve_batches(&mut desk, &mut inbox, &mut outbox).await {
                // An ICMP error about an earlier reply, or no memory: neither is a reason to stop.
                debug!(%error, "receive a DNS question");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }

    /// Waits for packets and answers those that are there. One alone is taken and sent by the plain calls, which are cheaper;
    /// where there was more than one last time, many are asked for at once.
    async fn serve_batches(&self, desk: &mut Desk, inbox: &mut Inbox, outbox: &mut Outbox) -> io::Result<()> {
        self.socket.readable().await?;
        // Once for all of them: what is measured by it counts in milliseconds at the least.
        let at = Instant::now();
        for turn in 0..BATCHES_MAX {
            match self.socket.try_receive_batch(inbox, turn > 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                received => received?,
            }
            for (octets, peer) in inbox.packets() {
                let packet = Packet { octets, peer: peer.asker(), transport: Transport::Udp, at };
                match self.server.begin_at(desk, packet, outbox.next()) {
                    Step::Send => outbox.seal(peer.clone()),
                    Step::Drop => {}
                    Step::Wait(pending) => self.wait(pending, peer, outbox),
                }
            }
            self.socket.send_all(outbox, unsent).await;
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Has a question answered later; if too many are, at once.
    fn wait(&self, pending: Pending, peer: &Peer, outbox: &mut Outbox) {
        let places = if pending.is_forward() { &self.places.forwards } else { &self.places.follows };
        let Ok(permit) = places.clone().try_acquire_owned() else {
            self.server.overloaded(&pending, outbox.next());
            return outbox.seal(peer.clone());
        };
        let (server, socket, peer) = (self.server.clone(), self.socket.clone(), peer.clone());
        self.jobs.start_work("dns question", async move {
            let mut reply = Vec::new();
            server.finish(pending, &mut reply).await;
            if let Err(error) = socket.send(&reply, &peer).await {
                unsent(error, &peer);
            }
            drop(permit);
        });
    }
}

fn unsent(error: io::Error, peer: &Peer) {
    debug!(%error, peer = %peer.address, "send a DNS reply");
}
