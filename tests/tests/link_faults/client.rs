//! Clients that send pseudo-random bytes, read their echo, and compare checksums.

use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use portolan_tests::namespace::Namespace;
use portolan_tests::wait::now;

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Every byte came back, and the end of the stream.
    Identical,
    /// What came back is not what was sent.
    Different,
    /// Less came back, and then an end as if that were all.
    Cut,
    /// It was refused.
    Refused,
    /// It was reset.
    Reset,
    /// Nothing came for as long as the client waits.
    TimedOut,
}

/// One connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) end: End,
    /// From the connect to the first byte.
    pub(crate) first_byte: Duration,
}

/// Sends `bytes`, closes its half, and reads the echo.
pub(crate) fn exchange(to: SocketAddr, bytes: usize, patience: Duration) -> Exchange {
    let began = now();
    let mut first_byte = Duration::ZERO;
    let end = attempt(to, bytes, patience, || first_byte = began.elapsed());
    Exchange { end: end.unwrap_or_else(|error| end_of(&error)), first_byte }
}

pub(crate) fn end_of(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => End::Refused,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => End::TimedOut,
        _ => End::Reset,
    }
}

fn attempt(to: SocketAddr, bytes: usize, patience: Duration, mut on_first: impl FnMut()) -> io::Result<End> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut sending = stream.try_clone()?;
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || -> io::Result<u64> {
            let mut hasher = DefaultHasher::new();
            let mut source = Source(bytes as u64);
            let mut left = bytes;
            while left > 0 {
                let block = source.block();
                let block = &block[..left.min(block.len())];
                sending.write_all(block)?;
                hasher.write(block);
                left -= block.len();
            }
            sending.shutdown(Shutdown::Write)?;
            Ok(hasher.finish())
        });
        let (mut hasher, mut received) = (DefaultHasher::new(), 0);
        let mut buffer = vec![0; 16 << 10];
        // Hashed in the blocks of the sender, because a hasher counts its writes.
        let mut block = Vec::with_capacity(BLOCK);
        loop {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            if received == 0 {
                on_first();
            }
            received += length;
            for byte in &buffer[..length] {
                block.push(*byte);
                if block.len() == BLOCK {
                    hasher.write(&block);
                    block.clear();
                }
            }
        }
        if !block.is_empty() {
            hasher.write(&block);
        }
        let sent = sent.join().map_err(|_| io::Error::other("the sender panicked"))?;
        // A reset is told once, to whoever looks first.
        let sent = sent?;
        Ok(match received {
            less if less < bytes => End::Cut,
            _ if sent == hasher.finish() => End::Identical,
            _ => End::Different,
        })
    })
}

const BLOCK: usize = 4096;

/// Xorshift: other bytes for each length.
struct Source(u64);

impl Source {
    fn block(&mut self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        for part in block.chunks_exact_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            part.copy_from_slice(&self.0.to_le_bytes());
        }
        block
    }
}

/// A load: so many connections by each of so many clients, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    pub(crate) bytes: usize,
    pub(crate) patience: Duration,
}

impl Load {
    /// Runs it on a node.
    pub(crate) fn run(self, node: &Namespace, to: SocketAddr) -> anyhow::Result<Vec<Exchange>> {
        let client =
            || node.inside(|| (0..self.connections).map(|_| exchange(to, self.bytes, self.patience)).collect());
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients).map(|_| scope.spawn(client)).collect();
            let mut all: Vec<Exchange> = Vec::new();
            for client in clients {
                let done: Vec<Exchange> = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
                all.extend(done);
            }
            Ok(all)
        })
    }
}

/// One line of figures.
pub(crate) fn summary(exchanges: &[Exchange]) -> String {
    let count = |end: End| exchanges.iter().filter(|exchange| exchange.end == end).count();
    let mut times: Vec<Duration> = exchanges
        .iter()
        .filter(|exchange| exchange.end == End::Identical)
        .map(|exchange| exchange.first_byte)
        .collect();
    times.sort();
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1))).copied();
    let ends = [End::Identical, End::Different, End::Cut, End::Refused, End::Reset, End::TimedOut];
    let counts: Vec<String> =
        ends.iter().filter(|end| count(**end) > 0).map(|end| format!("{} {end:?}", count(*end))).collect();
    let [p50, p99, max] = [50, 99, 100].map(|part| at(part).unwrap_or_default());
    format!("{}; first byte p50 {p50:.1?} p99 {p99:.1?} max {max:.1?}", counts.join(", "))
}
