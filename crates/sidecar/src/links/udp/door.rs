//! The door of one link: its socket, and the sessions of its clients.
//!
//! At the bounds the session that is idle longest makes room: many clients ask once and never again, from a new port each time.
//! Where none of this link's can, the datagram is dropped.

use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portolan_core::endpoint::Protocol;
use portolan_core::selection::Rank;
use portolan_runtime::jobs::Jobs;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::session::{Held, Session, connect, is_refusal, send, take_batch};
use super::sessions::Sessions;
use crate::links::choice::{Draws, Experience, InUse, Target, choose};
use crate::links::counters::{Open, SessionEnd, Side};
use crate::links::relay::Relay;
use crate::links::table::{Link, Targets};
use crate::netlink::table::LinkAddress;

/// How often idle sessions are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Endpoints tried for one datagram.
const ATTEMPTS_MAX: usize = 16;

/// A door.
#[derive(Debug)]
pub(super) struct Door {
    relay: Arc<Relay>,
    socket: UdpSocket,
    at: LinkAddress,
    sessions: Mutex<Sessions<Held>>,
}

impl Door {
    pub(super) fn new(relay: Arc<Relay>, socket: std::net::UdpSocket, at: LinkAddress) -> io::Result<Door> {
        let socket = UdpSocket::from_std(socket)?;
        Ok(Door { relay, socket, at, sessions: Mutex::default() })
    }

    /// Serves clients until the door is closed.
    pub(super) async fn serve(self: Arc<Self>, jobs: Jobs, closed: CancellationToken) {
        let mut table = self.relay.table.clone();
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            // Each branch only waits.
            tokio::select! {
                biased;
                () = closed.cancelled() => break,
                is_alive = table.changed() => {
                    if !is_alive {
                        break;
                    }
                    self.flush(&mut seen);
                }
                _ = tick.tick() => self.end_idle(),
                ready = self.socket.readable() => {
                    if ready.is_err() {
                        break;
                    }
                    let is_known = tokio::select! {
                        biased;
                        () = closed.cancelled() => break,
                        is_known = self.is_known() => is_known,
                    };
                    self.take(&jobs, is_known);
                    tokio::task::yield_now().await;
                }
            }
        }
        self.end(SessionEnd::closed, |sessions| sessions.take_unless(|_| false));
    }

    /// Whether the endpoints are known, now or soon; meanwhile datagrams wait in the socket.
    async fn is_known(&self) -> bool {
        match self.link() {
            Some(link) => self.relay.targets(&link).await.is_some(),
            None => false,
        }
    }

    fn link(&self) -> Option<Arc<Link>> {
        self.relay.table.peek().link((self.at, Protocol::Udp)).cloned()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<Held>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what waits in the socket, as far as others need not wait for it.
    fn take(self: &Arc<Self>, jobs: &Jobs, is_known: bool) {
        let receive = |buffer: &mut [u8]| {
            let (length, _, from) = recvfrom(&self.socket, buffer, RecvFlags::DONTWAIT)?;
            Ok((length, from.and_then(|from| SocketAddrV4::try_from(from).ok())))
        };
        let pass_on = |datagram: &[u8], from: Option<SocketAddrV4>| match from {
            Some(client) if is_known => self.forward(jobs, client, datagram),
            Some(_) | None => self.relay.counters.session_ended(SessionEnd::unknown),
        };
        match self.socket.try_io(Interest::READABLE, || take_batch(receive, pass_on)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => debug!("a datagram to {}:{} could not be read: {error}", self.at.0, self.at.1),
        }
    }

    fn forward(self: &Arc<Self>, jobs: &Jobs, client: SocketAddrV4, datagram: &[u8]) {
        let known = self.sessions().get(client).map(|held| held.session.clone());
        if let Some(session) = known {
            if session.forward(datagram).is_ok() {
                return;
            }
            // It is told of an earlier datagram; this one goes elsewhere.
            self.refused_by_endpoint(client, &session);
        }
        match self.begin(client, datagram) {
            Ok(session) => jobs.start_work("link: session", Box::pin(session.answer(self.clone(), client))),
            Err(why) => self.relay.counters.session_ended(why),
        }
    }

    /// Sends a client's first datagram to an endpoint; the next ones go there as well.
    fn begin(&self, client: SocketAddrV4, datagram: &[u8]) -> Result<Arc<Session>, SessionEnd> {
        let link = self.link().ok_or(SessionEnd::closed)?;
        let Targets::Known(targets) = &link.targets else { return Err(SessionEnd::unknown) };
        let permit = self.admit(&link)?;
        // The bound was seen to; what ended is counted until its task has gone.
        let open = Open::begin_session(&self.relay.counters, &link.figures, usize::MAX).ok_or(SessionEnd::limit)?;
        link.figures.called_by(self.relay.callers.service_at((*client.ip()).into()));
        let (socket, endpoint) = reach(targets, datagram, &open)?;
        let session = Session::new(socket, open, endpoint).map_err(|_| SessionEnd::limit)?;
        session.relayed(Side::Client, datagram.len());
        let session = Arc::new(session);
        self.sessions().insert(client, Held::new(session.clone(), permit));
        Ok(session)
    }

    /// Makes room for a session.
    fn admit(&self, link: &Link) -> Result<OwnedSemaphorePermit, SessionEnd> {
        let (relay, max) = (&self.relay, self.relay.settings.limits.connections_per_service_max);
        if link.figures.open.load(Ordering::Relaxed) >= max {
            self.note_limit(link, format_args!("{max} sessions and connections over the links of one service"));
            return self.evict().ok_or(SessionEnd::limit);
        }
        relay.room.clone().try_acquire_owned().or_else(|_| {
            self.note_limit(link, format_args!("{} over all links", relay.room_max));
            self.evict().ok_or(SessionEnd::limit)
        })
    }

    /// Ends the session that is idle longest, and gives its place.
    fn evict(&self) -> Option<OwnedSemaphorePermit> {
        let oldest = self.sessions().take_oldest()?;
        self.relay.counters.session_ended(SessionEnd::evicted);
        Some(oldest.permit)
    }

    fn note_limit(&self, link: &Link, limit: fmt::Arguments<'_>) {
        if let Some(count) = link.figures.limited.note(Instant::now()) {
            let key = &link.key;
            warn!(service.name = %key, "UDP sessions of {key} make room for others, {count} by now: the limit is {limit}");
        }
    }

    /// Sends an answer to a client, or loses it.
    pub(super) fn send(&self, datagram: &[u8], client: SocketAddrV4) {
        if let Err(error) = sendto(&self.socket, datagram, SendFlags::DONTWAIT, &client) {
            debug!("an answer to {client} was lost: {error}");
        }
    }

    /// Ends a session whose endpoint refused a datagram; the next one chooses anew.
    pub(super) fn refused_by_endpoint(&self, client: SocketAddrV4, session: &Arc<Session>) {
        let removed = self.sessions().remove(client, |held| Arc::ptr_eq(&held.session, session));
        if removed.is_some() {
            session.failed();
            self.relay.counters.session_ended(SessionEnd::refused);
        }
    }

    fn end_idle(&self) {
        let timeout = self.relay.settings.limits.udp_timeout;
        self.end(SessionEnd::idle, |sessions| sessions.take_idle(Instant::now(), timeout));
    }

    /// Ends the sessions whose endpoints are gone, or failing while there are others. `seen` is the link as it was last.
    fn flush(&self, seen: &mut Option<Arc<Link>>) {
        let link = self.link();
        if link.as_ref().map(Arc::as_ptr) == seen.as_ref().map(Arc::as_ptr) {
            return;
        }
        if let Some(Targets::Known(targets)) = link.as_ref().map(|link| &link.targets) {
            let may_stay = |held: &Held| held.session.endpoint().is_some_and(|endpoint| may_stay(endpoint, targets));
            self.end(SessionEnd::moved, |sessions| sessions.take_unless(may_stay));
        }
        *seen = link;
    }

    fn end(&self, why: SessionEnd, take: impl FnOnce(&mut Sessions<Held>) -> Vec<Held>) {
        let ended = take(&mut self.sessions());
        ended.iter().for_each(|_| self.relay.counters.session_ended(why));
    }
}

/// Sends a first datagram to one of `targets`: the next one where the network says at once that it cannot be.
fn reach(targets: &[Target], datagram: &[u8], open: &Open) -> Result<(std::net::UdpSocket, InUse), SessionEnd> {
    let (mut draws, mut tried) = (Draws::new(rand::random()), Vec::new());
    while tried.len() < ATTEMPTS_MAX {
        let target = choose(targets, &tried, (&mut draws, Instant::now())).ok_or(SessionEnd::unreachable)?;
        tried.push(target.address());
        let endpoint = target.endpoint.begin();
        match connect(target.address()).and_then(|socket| send(&socket, datagram).map(|()| socket)) {
            Ok(socket) => return Ok((socket, endpoint)),
            Err(error) if is_refusal(&error) => {
                endpoint.connect_failed(Instant::now());
                open.endpoints_failed(1);
            }
            // Files, ports or memory are used up here.
            Err(_) => return Err(SessionEnd::limit),
        }
    }
    Err(SessionEnd::unreachable)
}

/// Whether a session may stay with its endpoint. A draining one keeps what it has, as with connections.
fn may_stay(endpoint: &Arc<Experience>, targets: &[Target]) -> bool {
    let is_failing = |target: &Target| matches!(target.rank, Rank::Unusable | Rank::DrainingUnusable);
    let target = targets.iter().find(|target| Arc::ptr_eq(&target.endpoint, endpoint));
    target.is_some_and(|target| !is_failing(target) || targets.iter().all(is_failing))
}

#[cfg(test)]
mod tests;
