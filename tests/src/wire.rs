//! A wire from a node to another node's loopback, which a test can stall, cut and mend.
//!
//! It carries bytes between real parts that may only listen on loopback, and stands for the network between them. Two
//! threads per connection; all end with the wire.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::Context;

use crate::namespace::Namespace;

/// How a wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Bytes pass.
    Whole,
    /// Connections are taken and stay open, and no byte passes: as when packets are lost for good.
    Stalled,
    /// Every connection was closed, and new ones are closed at once.
    Cut,
}

/// A wire. Dropped: cut.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    listener: TcpListener,
}

#[derive(Debug)]
struct Shared {
    condition: Mutex<Condition>,
    changed: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    taken: AtomicU64,
    to: Arc<Namespace>,
    addr: SocketAddr,
}

impl Wire {
    /// Lays one: `addr` as seen inside `from` leads to `addr` as seen inside `to`.
    ///
    /// # Errors
    /// When the address is taken in `from`.
    pub fn lay(from: &Namespace, to: &Arc<Namespace>, addr: SocketAddr) -> anyhow::Result<Self> {
        let listener = from.inside(|| TcpListener::bind(addr))?.with_context(|| format!("listen on {addr}"))?;
        let shared = Arc::new(Shared {
            condition: Mutex::new(Condition::Whole),
            changed: Condvar::new(),
            connections: Mutex::default(),
            taken: AtomicU64::new(0),
            to: to.clone(),
            addr,
        });
        let (accepting, taking) = (listener.try_clone()?, shared.clone());
        std::thread::spawn(move || {
            // `drop` shuts the listener down, and this loop ends by the error.
            while let Ok((stream, _)) = accepting.accept() {
                taking.taken.fetch_add(1, Ordering::SeqCst);
                let shared = taking.clone();
                std::thread::spawn(move || shared.carry(stream));
            }
        });
        Ok(Wire { shared, listener })
    }

    /// From now on no byte passes, and nobody is told.
    pub fn stall(&self) {
        self.shared.put(Condition::Stalled);
    }

    /// Closes every connection, and new ones at once.
    pub fn cut(&self) {
        self.shared.put(Condition::Cut);
        let connections = std::mem::take(&mut *lock(&self.shared.connections));
        connections.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    /// Bytes pass again; what a stalled wire held back goes on its way.
    pub fn mend(&self) {
        self.shared.put(Condition::Whole);
    }

    /// How many connections were begun so far, also those that came to nothing.
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).ok();
    }
}

impl Shared {
    fn put(&self, condition: Condition) {
        *lock(&self.condition) = condition;
        self.changed.notify_all();
    }

    /// Waits while the wire is stalled; says whether it is whole.
    fn is_whole(&self) -> bool {
        let stalled = |condition: &mut Condition| *condition == Condition::Stalled;
        let condition = self.changed.wait_while(lock(&self.condition), stalled);
        *condition.unwrap_or_else(PoisonError::into_inner) == Condition::Whole
    }

    fn carry(&self, client: TcpStream) -> anyhow::Result<()> {
        lock(&self.connections).push(client.try_clone()?);
        if !self.is_whole() {
            return Ok(client.shutdown(Shutdown::Both)?);
        }
        let Ok(server) = self.to.inside(|| TcpStream::connect(self.addr))? else {
            // Nobody listens there: whoever asks sees that, as on any wire.
            return Ok(client.shutdown(Shutdown::Both)?);
        };
        lock(&self.connections).push(server.try_clone()?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        std::thread::scope(|scope| {
            scope.spawn(|| self.pass(&client, &server));
            self.pass(&server, &client)
        })
    }

    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream) -> anyhow::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            if !self.is_whole() {
                from.shutdown(Shutdown::Both).ok();
                return Ok(to.shutdown(Shutdown::Both)?);
            }
            if length == 0 {
                return Ok(to.shutdown(Shutdown::Write)?);
            }
            to.write_all(&buffer[..length])?;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
