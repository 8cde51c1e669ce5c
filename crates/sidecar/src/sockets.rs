//! The sockets that this sidecar listens on, and their duplicates elsewhere: whoever holds one keeps connections and questions
//! waiting in its queue while nobody serves it. The keeper and every standby hold them; the next one to serve takes them over.

pub mod pass;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Links' connections.
    Relay,
    /// Questions of containers, over UDP.
    DnsUdp,
    /// The same over TCP.
    DnsTcp,
    /// Status and metrics.
    Admin,
}

impl Purpose {
    /// Each of them.
    pub const ALL: [Purpose; 4] = [Purpose::Relay, Purpose::DnsUdp, Purpose::DnsTcp, Purpose::Admin];

    fn name(self) -> &'static str {
        match self {
            Purpose::Relay => "relay",
            Purpose::DnsUdp => "dns-udp",
            Purpose::DnsTcp => "dns-tcp",
            Purpose::Admin => "admin",
        }
    }

    fn parse(name: &str) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Duplicates of sockets, at most one for each purpose.
pub type Duplicates = Vec<(Purpose, OwnedFd)>;

/// The sockets of this process.
#[derive(Debug)]
pub struct Sockets {
    /// What others left, until it is taken.
    left: Mutex<Duplicates>,
    /// What is listened on.
    held: watch::Sender<Arc<Duplicates>>,
}

impl Default for Sockets {
    fn default() -> Self {
        Sockets::new(Duplicates::new())
    }
}

impl Sockets {
    /// None yet but what others `left`.
    pub fn new(left: Duplicates) -> Self {
        Sockets { left: Mutex::new(left), held: watch::channel(Arc::default()).0 }
    }

    /// A listener for `purpose` on `address` that was left, if there is one.
    pub fn take_listener(&self, purpose: Purpose, address: SocketAddr) -> Option<TcpListener> {
        let listener = TcpListener::from(self.take(purpose)?);
        let fits = listener.local_addr().is_ok_and(|bound| bound == address) && listener.set_nonblocking(true).is_ok();
        fits.then_some(listener)
    }

    /// A UDP socket that was left, likewise.
    pub fn take_socket(&self, purpose: Purpose, address: SocketAddr) -> Option<UdpSocket> {
        let socket = UdpSocket::from(self.take(purpose)?);
        let fits = socket.local_addr().is_ok_and(|bound| bound == address) && socket.set_nonblocking(true).is_ok();
        fits.then_some(socket)
    }

    fn take(&self, purpose: Purpose) -> Option<OwnedFd> {
        let mut left = self.left();
        let place = left.iter().position(|(of, _)| *of == purpose)?;
        Some(left.swap_remove(place).1)
    }

    fn left(&self) -> MutexGuard<'_, Duplicates> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `sockets` are listened on: everybody who should hold duplicates gets them.
    ///
    /// # Errors
    /// When this process may open no more files.
    pub fn hold(&self, sockets: &[(Purpose, BorrowedFd<'_>)]) -> io::Result<()> {
        let mut all = duplicated(&self.held.borrow())?;
        for (purpose, socket) in sockets {
            all.retain(|(of, _)| of != purpose);
            all.push((*purpose, socket.try_clone_to_owned()?));
        }
        self.held.send_replace(Arc::new(all));
        Ok(())
    }

    /// Whether somebody left sockets that were not taken yet.
    pub fn has_left(&self) -> bool {
        !self.left().is_empty()
    }

    /// Everything is bound: what was left and not taken is closed.
    pub fn close_rest(&self) {
        self.left().clear();
    }

    /// What is held, and every change of it.
    pub fn watch(&self) -> watch::Receiver<Arc<Duplicates>> {
        self.held.subscribe()
    }
}

/// Each of them once more.
///
/// # Errors
/// When this process may open no more files.
pub fn duplicated(sockets: &Duplicates) -> io::Result<Duplicates> {
    sockets.iter().map(|(purpose, socket)| Ok((*purpose, socket.as_fd().try_clone_to_owned()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_was_left_to_whoever_asks_for_that_address() {
        let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let (at, elsewhere) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        let sockets = Sockets::new(vec![(Purpose::Relay, one.into()), (Purpose::Admin, other.into())]);
        assert!(sockets.take_listener(Purpose::DnsTcp, at).is_none());
        assert_eq!(sockets.take_listener(Purpose::Relay, at).unwrap().local_addr().unwrap(), at);
        assert!(sockets.take_listener(Purpose::Relay, at).is_none(), "it is taken");
        assert!(sockets.take_listener(Purpose::Admin, at).is_none(), "it is another address");
        TcpListener::bind(elsewhere).expect("what does not fit is closed");
    }

    #[test]
    fn holds_the_newest_of_each() {
        let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let sockets = Sockets::default();
        let held = sockets.watch();
        sockets.hold(&[(Purpose::Relay, one.as_fd()), (Purpose::Admin, one.as_fd())]).unwrap();
        sockets.hold(&[(Purpose::Relay, other.as_fd())]).unwrap();
        let at = |purpose: Purpose| {
            let held = duplicated(&held.borrow()).unwrap();
            let found = held.into_iter().find(|(of, _)| *of == purpose).unwrap();
            TcpListener::from(found.1).local_addr().unwrap()
        };
        assert_eq!(at(Purpose::Relay), other.local_addr().unwrap());
        assert_eq!(at(Purpose::Admin), one.local_addr().unwrap());
    }
}
