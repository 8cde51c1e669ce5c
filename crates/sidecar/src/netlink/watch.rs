//! News of the kernel: that rules, routes, addresses or interfaces changed. What changed is not read: the state is.

use std::io;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;

use super::NetlinkError;

/// `RTNLGRP_*`: interfaces, IPv4 addresses, IPv4 routes.
const ROUTE_GROUPS: [u32; 3] = [1, 5, 7];
/// `NFNLGRP_NFTABLES`.
const NETFILTER_GROUPS: [u32; 1] = [7];
/// Datagrams read at one wake-up; the rest wakes again.
const READS_MAX: usize = 1024;
const ACTION: &str = "listen to changes of rules and routes";

/// Wakes its owner when the network state changed.
#[derive(Debug)]
pub struct Changes {
    rules: AsyncFd<Socket>,
    routes: AsyncFd<Socket>,
    scratch: Vec<u8>,
}

impl Changes {
    /// Listens from now on. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn listen() -> Result<Self, NetlinkError> {
        let open = |protocol, groups: &[u32]| {
            subscribe(protocol, groups).map_err(|source| NetlinkError::from_io(ACTION, source))
        };
        let rules = open(NETLINK_NETFILTER, &NETFILTER_GROUPS)?;
        let routes = open(NETLINK_ROUTE, &ROUTE_GROUPS)?;
        Ok(Changes { rules, routes, scratch: Vec::with_capacity(4096) })
    }

    /// Waits until something changed; several changes may be one wake-up. Cancel-safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut ready = tokio::select! {
            ready = self.rules.readable() => ready?,
            ready = self.routes.readable() => ready?,
        };
        // Read and forget. An overrun (ENOBUFS) is a change as well.
        for _ in 0..READS_MAX {
            if ready.try_io(|socket| forget(socket.get_ref(), &mut self.scratch)).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn forget(socket: &Socket, scratch: &mut Vec<u8>) -> io::Result<()> {
    scratch.clear();
    socket.recv(scratch, 0).map(drop)
}

fn subscribe(protocol: isize, groups: &[u32]) -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_non_blocking(true)?;
    #[expect(deprecated, reason = "its successor is unsafe, for types that do not own their descriptor; a Socket does")]
    AsyncFd::new(socket)
}
