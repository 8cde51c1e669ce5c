//! Both listeners of one address: bound first, served later, so that a program starts with every port or not at all.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use portolan_runtime::jobs::Jobs;
use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};

use crate::server::Server;
use crate::udp::Socket;
use crate::{tcp, udp};

/// How often a free port is drawn again, when TCP cannot have the one that UDP was given.
const PORT_ATTEMPTS: usize = 16;

/// A UDP socket and a TCP listener on one address and port.
#[derive(Debug)]
pub struct Listeners {
    udp: Socket,
    tcp: TcpListener,
    address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
#[error("bind DNS {transport} to {address}")]
pub struct BindError {
    transport: &'static str,
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

impl Listeners {
    /// Binds both. Port 0 finds one that is free for both. A reply comes from the address that was asked, also where all
    /// of them are bound (`0.0.0.0`).
    ///
    /// # Errors
    /// When either is in use or not allowed.
    pub async fn bind(address: SocketAddr) -> Result<Listeners, BindError> {
        let mut attempt = 1;
        loop {
            let bound = Self::bind_once(address).await;
            if bound.is_ok() || address.port() != 0 || attempt == PORT_ATTEMPTS {
                return bound;
            }
            attempt += 1;
        }
    }

    async fn bind_once(address: SocketAddr) -> Result<Listeners, BindError> {
        let error = |transport| move |source| BindError { transport, address, source };
        let udp = Socket::bind(address).await.map_err(error("udp"))?;
        let address = udp.local_addr().map_err(error("udp"))?;
        let tcp = TcpListener::bind(address).await.map_err(error("tcp"))?;
        Ok(Listeners { udp, tcp, address })
    }

    /// Takes over two that are bound to one address and do not block.
    ///
    /// # Errors
    /// When they are not.
    pub fn of(udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> std::io::Result<Listeners> {
        let address = tcp.local_addr()?;
        Ok(Listeners { udp: Socket::of(UdpSocket::from_std(udp)?)?, tcp: TcpListener::from_std(tcp)?, address })
    }

    /// Both sockets, UDP's first, to hold duplicates of.
    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.udp.as_fd(), self.tcp.as_fd()]
    }

    /// Where they listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves both until shutdown, UDP on threads of its own: whatever else the program does delays no answer.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn serve(self, jobs: &Jobs, server: Arc<Server>) -> std::io::Result<()> {
        udp::serve_on_threads(jobs, self.udp, &server)?;
        tcp::serve(jobs, self.tcp, server);
        Ok(())
    }

    /// Serves both until shutdown on the caller's runtime, whose time a test may pause.
    pub fn serve_here(self, jobs: &Jobs, server: Arc<Server>) {
        udp::serve(jobs, self.udp, server.clone());
        tcp::serve(jobs, self.tcp, server);
    }
}
