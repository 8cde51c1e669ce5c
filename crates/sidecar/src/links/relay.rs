//! The relay: one listener for all TCP links; a connection's original destination says which.
//!
//! A connection that is not to a link, or one too many, is reset at once; so is one whose service has no endpoint that
//! answers. Listening is on the sidecar's link-local address alone.

use std::fmt;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use portolan_core::endpoint::Protocol;
use portolan_core::labels::LinkOptions;
use portolan_core::view::View;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::choice::{Draws, Target, choose};
use super::connect::{self, Patience, configure};
use super::counters::{Counters, Open, Outcome};
use super::options::{self, Sides};
use super::pipes::Pipes;
use super::pump::{self, Meters};
use super::table::{Link, Table, Targets};
use super::udp::DOORS_MAX;
use super::{Callers, LinkSettings};
use crate::follow::Follows;

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;
/// Files for everything that is not a relayed connection: DNS, Docker, the store of pipes, and a socket for each UDP link.
const FILES_RESERVED: u64 = 1024 + DOORS_MAX as u64;
/// When accepting fails for want of files or memory, others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listening socket, bound before anything leads to it.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) address: SocketAddrV4,
    listener: TcpListener,
}

impl Listening {
    /// The socket, to hold a duplicate of.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Takes over a socket that is bound to the relay's address.
pub(super) fn listen_on(left: std::net::TcpListener, address: SocketAddrV4) -> io::Result<Listening> {
    Ok(Listening { address, listener: TcpListener::from_std(left)? })
}

/// Binds the relay's socket.
pub(super) fn listen(address: SocketAddrV4) -> io::Result<Listening> {
    let socket = TcpSocket::new_v4()?;
    // Connections of the last run may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    configure(SockRef::from(&socket))?;
    socket.bind(address.into())?;
    let listener = socket.listen(BACKLOG)?;
    let port = listener.local_addr()?.port();
    Ok(Listening { address: SocketAddrV4::new(*address.ip(), port), listener })
}

/// What every connection needs.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) settings: LinkSettings,
    view: Reader<View>,
    follows: Follows,
    pub(super) table: Reader<Table>,
    pub(super) counters: Arc<Counters>,
    pub(super) callers: Arc<dyn Callers>,
    pipes: Pipes,
    /// For connections and UDP sessions.
    pub(super) room: Arc<Semaphore>,
    pub(super) room_max: usize,
}

impl Relay {
    pub(super) fn new(
        settings: LinkSettings,
        (view, follows, callers): (Reader<View>, Follows, Arc<dyn Callers>),
        (table, counters): (Reader<Table>, Arc<Counters>),
    ) -> Relay {
        let room = connections_max(settings.limits.connections_max);
        Relay {
            settings,
            view,
            follows,
            table,
            counters,
            callers,
            pipes: Pipes::default(),
            room: Arc::new(Semaphore::new(room)),
            room_max: room,
        }
    }

    /// Accepts connections, for ever.
    pub(super) async fn accept(self: Arc<Self>, jobs: Jobs, listening: Listening) {
        loop {
            match listening.listener.accept().await {
                Ok((client, from)) => self.admit(&jobs, client, from),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.counters.accept_failed();
                    warn!("a link's connection could not be accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, jobs: &Jobs, client: TcpStream, from: SocketAddr) {
        let Some(link) = original_destination(&client).and_then(|to| self.link(to)) else {
            return self.refuse(&client, Outcome::stray);
        };
        let max = self.settings.limits.connections_per_service_max;
        let Some(open) = Open::begin(&self.counters, &link.figures, max) else {
            return self.limited(&client, &link, format_args!("{max} connections over the links of one service"));
        };
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return self.limited(&client, &link, format_args!("{} over all links", self.room_max));
        };
        link.figures.called_by(self.callers.service_at(from.ip()));
        let serve = self.clone().serve(client, link, (open, permit));
        // Boxed, because the wrappers of a piece of work each keep room for it.
        jobs.start_work("link", Box::pin(serve));
    }

    /// Refuses one too many, and says so now and then.
    fn limited(&self, client: &TcpStream, link: &Link, limit: fmt::Arguments<'_>) {
        if let Some(count) = link.figures.limited.note(Instant::now()) {
            let key = &link.key;
            warn!(service.name = %key, "connections to {key} are refused, {count} by now: the limit is {limit}");
        }
        self.refuse(client, Outcome::limit);
    }

    fn link(&self, to: SocketAddrV4) -> Option<Arc<Link>> {
        self.table.peek().link(((*to.ip(), to.port()), Protocol::Tcp)).cloned()
    }

    fn refuse(&self, client: &TcpStream, why: Outcome) {
        reset(client);
        self.counters.ended(why);
    }

    async fn serve(
        self: Arc<Self>,
        mut client: TcpStream,
        link: Arc<Link>,
        (open, permit): (Open, OwnedSemaphorePermit),
    ) {
        // Boxed, so that what connecting needs is not kept for as long as the connection is open.
        let connected = Box::pin(self.connect(&link, &open)).await;
        drop(link);
        let outcome = match connected {
            Ok((mut server, options)) => {
                let sides = Sides { client: &mut client, server: &mut server };
                let meters = Meters { open: &open, pipes: &self.pipes };
                if options == LinkOptions::default() {
                    pump::relay(sides.client, sides.server, meters).await
                } else {
                    // Boxed: few connections have options, and all would keep room for them.
                    Box::pin(options::relay(sides, options, meters)).await
                }
            }
            Err(why) => {
                reset(&client);
                why
            }
        };
        self.counters.ended(outcome);
        drop(permit);
    }

    async fn connect(&self, link: &Link, open: &Open) -> Result<(TcpStream, LinkOptions), Outcome> {
        let limits = &self.settings.limits;
        let Some(known) = self.targets(link).await else {
            debug!(service.name = %link.key, "endpoints of {} did not become known in time", link.key);
            return Err(Outcome::unknown);
        };
        let mut draws = Draws::new(rand::random());
        let mut tried = Vec::new();
        let next = || {
            // The view may have moved on meanwhile: a replaced endpoint is no reason to fail.
            let newest = self.newest_targets(link);
            let targets = newest.as_deref().unwrap_or(&known);
            let target = choose(targets, &tried, (&mut draws, Instant::now()))?;
            tried.push(target.address());
            Some(target.endpoint.begin())
        };
        let patience = Patience { step: limits.next_endpoint_after, total: limits.connect_deadline };
        let (connected, failed) = connect::first(next, patience).await;
        if failed > 0 {
            open.endpoints_failed(failed);
        }
        let (server, endpoint) = connected.ok_or(Outcome::unreachable)?;
        let options = endpoint.options;
        open.reached(endpoint);
        Ok((server, options))
    }

    fn newest_targets(&self, link: &Link) -> Option<Arc<[Target]>> {
        match &self.table.peek().same(link)?.targets {
            Targets::Known(targets) => Some(targets.clone()),
            Targets::Unknown => None,
        }
    }

    /// Those of the table, so that all connections share what was met with them; of a service that is not followed, as soon
    /// as it is.
    pub(super) async fn targets(&self, link: &Link) -> Option<Arc<[Target]>> {
        if let Targets::Known(targets) = &link.targets {
            return Some(targets.clone());
        }
        let patience = self.settings.limits.follow_patience;
        self.follows.followed(&self.view, &link.key, patience).await?;
        let is_known = |table: &Table| table.same(link).is_none_or(|link| matches!(link.targets, Targets::Known(_)));
        timeout(patience, self.table.clone().wait_for(is_known)).await.ok()??;
        self.newest_targets(link)
    }
}

/// Where the client wanted to go before our rules sent it here.
pub(super) fn original_destination(client: &TcpStream) -> Option<SocketAddrV4> {
    SockRef::from(client).original_dst_v4().ok()?.as_socket_ipv4()
}

/// Makes the close that follows a reset.
pub(super) fn reset(stream: &TcpStream) {
    // It fails only on a socket that is closed already.
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
}

/// Each connection is two files. The soft limit is a default for programs that use `select`; we use what we may.
fn connections_max(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let is_raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let files = if is_raised { maximum } else { current }.unwrap_or(u64::MAX);
    let possible = usize::try_from(files.saturating_sub(FILES_RESERVED.min(files / 4)) / 2).unwrap_or(usize::MAX);
    if possible < wanted {
        warn!("the limit of open files ({files}) allows {possible} link connections at once, not {wanted}");
    }
    wanted.min(possible).min(Semaphore::MAX_PERMITS)
}
