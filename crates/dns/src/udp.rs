//! DNS over UDP: a fixed number of workers on one socket. No task per packet: only questions that have to wait get one,
//! and of those there is a bounded number; beyond it the answer is SERVFAIL at once, and the client asks again.

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
use socket::Peer;
pub(crate) use socket::Socket;

/// One waits in the kernel while the other answers; more than two cores are not for DNS.
const WORKERS: usize = 2;
/// Questions that may wait for an upstream at once.
const FORWARDS_MAX: usize = 512;
/// Questions that may wait for the registry at once, whatever the upstreams do.
const FOLLOWS_MAX: usize = 256;
/// Larger than what we announce (1,232), so that nobody who respects it is cut.
const PACKET_OCTETS_MAX: usize = 2048;
/// How many packets one worker answers before others have their turn.
const BATCH_MAX: usize = 64;
/// After a receive error: the next call may fail in the same way, and must not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(5);

/// Starts the workers.
pub(crate) fn serve(jobs: &Jobs, socket: Socket, server: &Arc<Server>) {
    let socket = Arc::new(socket);
    let follows = Arc::new(Semaphore::new(FOLLOWS_MAX));
    let forwards = Arc::new(Semaphore::new(FORWARDS_MAX));
    for _ in 0..WORKERS {
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
        let (mut packet, mut reply) = (vec![0; PACKET_OCTETS_MAX], Vec::with_capacity(PACKET_OCTETS_MAX));
        loop {
            if let Err(error) = self.serve_batch(&mut desk, &mut packet, &mut reply).await {
                // An ICMP error about an earlier reply, or no memory: neither is a reason to stop.
                debug!(%error, "receive a DNS question");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }

    /// Waits for packets and answers those that are there. Asking the kernel straight away, rather than the runtime for each
    /// packet, saves a twentieth of the time.
    async fn serve_batch(&self, desk: &mut Desk, packet: &mut [u8], reply: &mut Vec<u8>) -> io::Result<()> {
        self.socket.readable().await?;
        // Once for all of them: what is measured by it counts in milliseconds at the least.
        let at = Instant::now();
        for _ in 0..BATCH_MAX {
            let (length, peer) = match self.socket.try_receive(packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                received => received?,
            };
            let packet = Packet { octets: &packet[..length], peer: peer.asker(), transport: Transport::Udp, at };
            match self.server.begin_at(desk, packet, reply) {
                Step::Send => send(&self.socket, reply, &peer).await,
                Step::Drop => {}
                Step::Wait(pending) => self.wait(pending, peer, reply).await,
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn wait(&self, pending: Pending, peer: Peer, reply: &mut Vec<u8>) {
        let places = if pending.is_forward() { &self.forwards } else { &self.follows };
        let Ok(permit) = places.clone().try_acquire_owned() else {
            self.server.overloaded(&pending, reply);
            return send(&self.socket, reply, &peer).await;
        };
        let (server, socket) = (self.server.clone(), self.socket.clone());
        self.jobs.start_work("dns question", async move {
            let mut reply = Vec::new();
            server.finish(pending, &mut reply).await;
            send(&socket, &reply, &peer).await;
            drop(permit);
        });
    }
}

async fn send(socket: &Socket, reply: &[u8], peer: &Peer) {
    if let Err(error) = socket.send(reply, peer).await {
        debug!(%error, peer = %peer.address, "send a DNS reply");
    }
}
