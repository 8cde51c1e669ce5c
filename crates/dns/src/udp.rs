//! DNS over UDP: one or two workers on one socket, which take and send many packets in a call. No task per packet: only
//! questions that have to wait get one, and of those there is a bounded number; beyond it the answer is SERVFAIL at once, and the
//! client asks again.

mod socket;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use portolan_runtime::jobs::Jobs;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

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
/// How many packets are taken one by one: where there are no more, that is cheaper.
const ALONE_MAX: usize = 2;
/// How many batches one worker then answers before others have their turn.
const BATCHES_MAX: usize = 2;
/// After a receive error: the next call may fail in the same way, and must not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(5);

/// Starts the workers.
pub(crate) fn serve(jobs: &Jobs, socket: Socket, server: &Arc<Server>) {
    let socket = Arc::new(socket);
    let follows = Arc::new(Semaphore::new(FOLLOWS_MAX));
    let forwards = Arc::new(Semaphore::new(FORWARDS_MAX));
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    for _ in 0..workers {
        let worker = Worker {
            jobs: jobs.clone(),
            socket: socket.clone(),
            server: server.clone(),
            follows: follows.clone(),
            forwards: forwards.clone(),
        };
        jobs.start("dns udp", worker.run());
    }
}

struct Worker {
    jobs: Jobs,
    socket: Arc<Socket>,
    server: Arc<Server>,
    follows: Arc<Semaphore>,
    forwards: Arc<Semaphore>,
}

impl Worker {
    async fn run(self) {
        let mut desk = Desk::new(rand::random());
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
        loop {
            if let Err(error) = self.serve_batch(&mut desk, &mut inbox, &mut outbox).await {
                // An ICMP error about an earlier reply, or no memory: neither is a reason to stop.
                debug!(%error, "receive a DNS question");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }

    /// Waits for packets and answers those that are there. Asking the kernel straight away, rather than the runtime for each
    /// packet, saves a twentieth of the time; asking it for many at once another.
    async fn serve_batch(&self, desk: &mut Desk, inbox: &mut Inbox, outbox: &mut Outbox) -> io::Result<()> {
        self.socket.readable().await?;
        // Once for all of them: what is measured by it counts in milliseconds at the least.
        let at = Instant::now();
        for turn in 0..ALONE_MAX + BATCHES_MAX {
            let received = match turn {
                ..ALONE_MAX => self.socket.try_receive_one(inbox),
                _ => self.socket.try_receive_all(inbox),
            };
            match received {
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
        let places = if pending.is_forward() { &self.forwards } else { &self.follows };
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
