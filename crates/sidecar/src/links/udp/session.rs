//! One client's datagrams to one endpoint: a socket that is connected to it, so that what the network says of it is heard.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::door::Door;
use super::sessions::Aged;
use crate::links::choice::{Experience, InUse};
use crate::links::counters::{Open, Side};

/// More than any datagram has: 65,535 less the headers.
const BUFFER_OCTETS: usize = 65_536;
/// Datagrams of one socket that are taken before others have their turn.
pub(super) const BATCH: usize = 64;

thread_local! {
    /// No datagram is kept, so one buffer serves all sockets of a thread.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_OCTETS].into_boxed_slice());
}

/// Takes up to [`BATCH`] datagrams from a socket and gives each to `take`.
///
/// # Errors
/// When there are no more (`WouldBlock`), or what the socket has to tell.
pub(super) fn take_batch<F>(
    mut receive: impl FnMut(&mut [u8]) -> rustix::io::Result<(usize, F)>,
    mut take: impl FnMut(&[u8], F),
) -> io::Result<()> {
    BUFFER.with_borrow_mut(|buffer| {
        for _ in 0..BATCH {
            let (length, from) = receive(buffer)?;
            take(&buffer[..length], from);
        }
        Ok(())
    })
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    socket: UdpSocket,
    open: Open,
    began: Instant,
    /// When it was used, in microseconds since it began.
    used_us: AtomicU64,
    is_answered: AtomicBool,
    ended: CancellationToken,
}

/// A session's place in the table: it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: Arc<Session>,
    pub(super) permit: OwnedSemaphorePermit,
    _end: DropGuard,
}

impl Held {
    pub(super) fn new(session: Arc<Session>, permit: OwnedSemaphorePermit) -> Held {
        let end = session.ended.clone().drop_guard();
        Held { session, permit, _end: end }
    }
}

impl Aged for Held {
    fn used_at(&self) -> Instant {
        self.session.began + Duration::from_micros(self.session.used_us.load(Ordering::Relaxed))
    }
}

/// A socket to an endpoint.
pub(super) fn connect(endpoint: SocketAddr) -> io::Result<std::net::UdpSocket> {
    // Not bound first: the kernel chooses the address as well as the port.
    let socket = Socket::new(Domain::for_address(endpoint), Type::DGRAM.nonblocking().cloexec(), None)?;
    socket.connect(&endpoint.into())?;
    Ok(socket.into())
}

/// Sends a datagram to the endpoint, or loses it.
///
/// # Errors
/// When the endpoint, or the way to it, refused this one or the one before.
pub(super) fn send(socket: impl AsFd, datagram: &[u8]) -> io::Result<()> {
    // What is told of an earlier datagram is told instead of sending this one: such as that the way takes only smaller packets.
    for _ in 0..2 {
        match rustix::net::send(&socket, datagram, SendFlags::DONTWAIT).map_err(io::Error::from) {
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// Whether an error says that an endpoint cannot be sent to.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, PermissionDenied};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | PermissionDenied)
}

impl Session {
    /// A session over a connected socket.
    pub(super) fn new(socket: std::net::UdpSocket, open: Open, endpoint: InUse) -> io::Result<Session> {
        endpoint.session_began();
        open.reached(endpoint);
        let began = Instant::now();
        Ok(Session {
            socket: UdpSocket::from_std(socket)?,
            open,
            began,
            used_us: AtomicU64::new(0),
            is_answered: AtomicBool::new(false),
            ended: CancellationToken::new(),
        })
    }

    /// Sends a datagram of the client to the endpoint.
    ///
    /// # Errors
    /// As [`send`].
    pub(super) fn forward(&self, datagram: &[u8]) -> io::Result<()> {
        send(&self.socket, datagram)?;
        self.relayed(Side::Client, datagram.len());
        Ok(())
    }

    pub(super) fn relayed(&self, from: Side, octets: usize) {
        self.open.relayed(from, octets);
        let age_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.used_us.fetch_max(age_us, Ordering::Relaxed);
    }

    /// Relays what the endpoint says, until the session ends.
    pub(super) async fn answer(self: Arc<Self>, door: Arc<Door>, client: SocketAddrV4) {
        loop {
            let ready = tokio::select! {
                biased;
                () = self.ended.cancelled() => return,
                ready = self.socket.ready(Interest::READABLE | Interest::ERROR) => ready,
            };
            if ready.is_err() {
                return door.refused_by_endpoint(client, &self);
            }
            // Each is asked apart: both at once are never ready for `try_io`.
            let answered = self.socket.try_io(Interest::READABLE, || self.answer_batch(&door, client));
            let told = self.socket.try_io(Interest::ERROR, || Err::<(), _>(self.told()));
            if [answered, told].into_iter().filter_map(Result::err).any(|error| is_refusal(&error)) {
                return door.refused_by_endpoint(client, &self);
            }
            tokio::task::yield_now().await;
        }
    }

    /// What the network said of an earlier datagram.
    fn told(&self) -> io::Error {
        let told = self.socket.take_error().ok().flatten();
        told.unwrap_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn answer_batch(&self, door: &Door, client: SocketAddrV4) -> io::Result<()> {
        let receive = |buffer: &mut [u8]| Ok((recv(&self.socket, buffer, RecvFlags::DONTWAIT)?.0, ()));
        take_batch(receive, |datagram, ()| {
            door.send(datagram, client);
            self.relayed(Side::Server, datagram.len());
            if !self.is_answered.swap(true, Ordering::Relaxed) {
                self.open.endpoint().into_iter().for_each(|endpoint| endpoint.session_answered(Instant::now()));
            }
        })
    }

    /// Whom it leads to.
    pub(super) fn endpoint(&self) -> Option<&Arc<Experience>> {
        self.open.endpoint().map(InUse::experience)
    }

    /// Its endpoint refused.
    pub(super) fn failed(&self) {
        self.endpoint().into_iter().for_each(|endpoint| endpoint.connect_failed(Instant::now()));
        self.open.endpoints_failed(1);
    }
}
