//! UDP links: a socket for each link (its *door*), and a session for each client of it.
//!
//! ```text
//! client ──> virtual address:port ──(map udp-links, conntrack)──> door ──> session ──> endpoint
//! ```
//!
//! The kernel does the addresses, both ways, and a door's own port says which link a datagram is of. Datagrams are relayed as they
//! came, never split, joined or kept: what does not fit into a socket at once is lost, as UDP may be. Everything is bounded:
//! doors, sessions, and one buffer for each thread.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use portolan_runtime::jobs::Jobs;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::relay::Relay;
use crate::netlink::table::LinkAddress;
use door::Door;

mod bind;
mod door;
mod session;
mod sessions;

/// UDP links that are served at once; each is a socket, and a port that nobody else has.
pub(super) const DOORS_MAX: usize = 1024;

/// The doors of all UDP links.
#[derive(Debug)]
pub(super) struct Doors {
    relay: Arc<Relay>,
    jobs: Jobs,
    /// Where they are: the relay's address.
    ip: Ipv4Addr,
    /// Each is closed when its guard is dropped.
    open: HashMap<LinkAddress, DropGuard>,
}

impl Doors {
    pub(super) fn new(relay: Arc<Relay>, jobs: Jobs, ip: Ipv4Addr) -> Doors {
        Doors { relay, jobs, ip, open: HashMap::new() }
    }

    /// Opens the door of a link, at the port `wish` if that is free. Gives its port.
    pub(super) fn open(&mut self, at: LinkAddress, wish: Option<u16>) -> io::Result<u16> {
        if self.open.len() >= DOORS_MAX {
            return Err(io::Error::other(format!("{DOORS_MAX} UDP links are served, and no more")));
        }
        let socket = bind::bind(self.ip, wish)?;
        let port = socket.local_addr()?.port();
        let door = Arc::new(Door::new(self.relay.clone(), socket, at)?);
        let closed = CancellationToken::new();
        self.jobs.start_work("link: door", Box::pin(door.serve(self.jobs.clone(), closed.clone())));
        self.open.insert(at, closed.drop_guard());
        Ok(port)
    }

    /// Closes the door of a link, and ends its sessions.
    pub(super) fn close(&mut self, at: LinkAddress) {
        self.open.remove(&at);
    }
}
