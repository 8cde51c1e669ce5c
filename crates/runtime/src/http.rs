//! What every HTTP listener of ours has: bound first and served later, protected against a browser that is led astray,
//! bounded, and with one form of error.
//!
//! A page from the internet can make a browser on this machine speak to loopback. So a request must name a host that
//! cannot be somebody else's domain (against DNS rebinding), and what changes something must not come from another site.
//! This module never authenticates anyone: a listener off loopback is refused by [`require_loopback`] until it is protected.

mod guard;
mod health;
mod problem;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::jobs::Jobs;
use crate::logging;

pub use guard::BODY_BYTES_MAX;
pub use health::health;
pub use problem::Problem;

/// Connections of one listener at once. More are closed as they come: a caller sees that at once, and ours stay bounded.
const CONNECTIONS_MAX: usize = 1024;

/// How long a client may take to send a request's head. Also ends idle connections.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long accepting pauses after the system refused a connection, such as when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or not ours.
    #[error("listen for {listener} on {addr}")]
    Bind {
        /// What would have listened.
        listener: &'static str,
        /// Where.
        addr: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The address can be reached from other hosts, and nothing protects it.
    #[error("setting `{setting}`: {addr} can be reached from other hosts and nothing protects it: give a loopback address, such as 127.0.0.1:{}", addr.port())]
    Unprotected {
        /// The setting that holds the address.
        setting: &'static str,
        /// Its value.
        addr: SocketAddr,
    },
}

/// Refuses an address that other hosts can reach. For listeners without identity and encryption.
///
/// # Errors
/// [`ListenError::Unprotected`], which names the setting.
pub fn require_loopback(setting: &'static str, addr: SocketAddr) -> Result<(), ListenError> {
    if addr.ip().to_canonical().is_loopback() { Ok(()) } else { Err(ListenError::Unprotected { setting, addr }) }
}

/// A socket that is bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    name: &'static str,
    socket: TcpListener,
    addr: SocketAddr,
    host_names: Vec<String>,
}

impl Listener {
    /// Binds; port 0 takes a free one. `name` stands in logs.
    ///
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn bind(name: &'static str, addr: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { listener: name, addr, source };
        let socket = TcpListener::bind(addr).await.map_err(failed)?;
        Self::of(name, socket).map_err(failed)
    }

    /// Takes over one that is bound. `name` stands in logs.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(name: &'static str, socket: TcpListener) -> io::Result<Self> {
        let addr = socket.local_addr()?;
        logging::announce(name, addr);
        Ok(Listener { name, socket, addr, host_names: Vec::new() })
    }

    /// Also accepts requests for these host names, beside `localhost` and addresses.
    #[must_use]
    pub fn with_host_names(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.host_names.extend(names.into_iter().map(|name| name.to_ascii_lowercase()));
        self
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The socket, to hold a duplicate of.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Serves `router` behind the guard, as a job.
    pub fn serve(self, jobs: &Jobs, router: Router) {
        let router = guard::guarded(router, Arc::from(self.host_names));
        let (jobs, name, socket) = (jobs.clone(), self.name, self.socket);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        jobs.clone().start(name, async move {
            loop {
                match socket.accept().await {
                    Ok((stream, _)) => match permits.clone().try_acquire_owned() {
                        Ok(permit) => {
                            let router = router.clone();
                            jobs.start_work("http connection", async move {
                                converse(stream, router).await;
                                drop(permit);
                            });
                        }
                        Err(_) => debug!(listener = name, "closed a connection: {CONNECTIONS_MAX} are open"),
                    },
                    Err(error) => {
                        warn!(listener = name, "accept for {name}: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
    }
}

async fn converse(stream: TcpStream, router: Router) {
    // Answers are small and complete: waiting for more to send would only delay them.
    stream.set_nodelay(true).ok();
    let mut server = http1::Builder::new();
    let server = server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        debug!("http connection: {error}");
    }
}
