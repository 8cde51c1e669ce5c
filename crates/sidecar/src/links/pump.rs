//! Moves bytes between two sockets until both sides are done.
//!
//! Each worker thread has one buffer for all of its connections: it is borrowed between a read and the write that follows
//! at once, so an idle connection owns no buffer. What a slow reader does not take is kept aside until it does, and nothing
//! is read meanwhile.
//!
//! A read that fills the whole buffer is a bulk transfer: its bytes go through a pipe, outside our memory, until the sender
//! pauses. Splicing always would cost a fifth more on small requests; copying always three times as much on bulk.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::counters::{Open, Outcome, Side};
use super::pipes::Pipes;
use super::relay::reset;

/// The buffer of a worker thread: large enough that a bulk transfer is few calls, small enough for its caches.
const BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into());
}

/// Less than this through a pipe is not worth its two calls.
const SPLICE_BYTES_MIN: usize = 16 * 1024;

/// What every way through the pump needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meters<'a> {
    pub(super) open: &'a Open,
    pub(super) pipes: &'a Pipes,
}

/// What a read brought.
enum Moved {
    /// The peer will send no more.
    End,
    /// So much; the rest, if any, waits for a slow reader.
    Bytes(usize, Option<Box<[u8]>>),
}

/// Which side failed: it reset, vanished, or no longer takes anything.
#[derive(Debug)]
struct Failed(Side);

impl Failed {
    fn of(side: Side) -> impl Fn(io::Error) -> Failed {
        move |_| Failed(side)
    }
}

/// Relays until both sides closed, or one failed; then both are reset.
pub(super) async fn relay(client: &mut TcpStream, server: &mut TcpStream, meters: Meters<'_>) -> Outcome {
    match both_ways(client, server, meters).await {
        Ok(()) => Outcome::closed,
        Err(Failed(side)) => {
            if side == Side::Server {
                meters.open.failed_by_endpoint();
            }
            reset(client);
            reset(server);
            Outcome::reset
        }
    }
}

async fn both_ways(client: &mut TcpStream, server: &mut TcpStream, meters: Meters<'_>) -> Result<(), Failed> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let mut up = pin!(one_way(from_client, to_server, (Side::Client, meters)));
    let mut down = pin!(one_way(from_server, to_client, (Side::Server, meters)));
    // Neither way loses anything when it is polled by another branch.
    tokio::select! {
        // Boxed, here and below: what few connections need, or not for long, none keeps room for.
        closed = &mut up => Box::pin(last_way(down, (closed?, Side::Client))).await,
        closed = &mut down => Box::pin(last_way(up, (closed?, Side::Server))).await,
    }
}

/// The way that is still open. A side that sends no more may still fail, and nothing else would tell.
async fn last_way<'a>(
    way: Pin<&mut impl Future<Output = Result<ReadHalf<'a>, Failed>>>,
    (closed, side): (ReadHalf<'_>, Side),
) -> Result<(), Failed> {
    tokio::select! {
        biased;
        ended = way => ended.map(drop),
        _ = closed.ready(Interest::ERROR) => Err(Failed(side)),
    }
}

/// Moves what `from`, that side, sends until it ends, and gives it back.
async fn one_way<'a>(
    mut from: ReadHalf<'a>,
    to: WriteHalf<'_>,
    (side, meters): (Side, Meters<'_>),
) -> Result<ReadHalf<'a>, Failed> {
    loop {
        match poll_fn(|cx| poll_move(cx, &mut from, (&to, side))).await? {
            Moved::End => break,
            Moved::Bytes(count, rest) => {
                meters.open.relayed(side, count);
                if let Some(rest) = rest {
                    Box::pin(write_all(&to, rest)).await.map_err(Failed::of(side.other()))?;
                }
                if count == BUFFER_BYTES {
                    Box::pin(splice_on(from.as_ref(), to.as_ref(), (side, meters))).await?;
                }
            }
        }
    }
    // The other way stays open: this is how `shutdown(SHUT_WR)` passes through.
    match SockRef::from(to.as_ref()).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(Failed(side.other())),
        Ok(()) | Err(_) => Ok(from),
    }
}

fn poll_move(
    cx: &mut Context<'_>,
    from: &mut ReadHalf<'_>,
    (to, side): (&WriteHalf<'_>, Side),
) -> Poll<Result<Moved, Failed>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut read)).map_err(Failed::of(side))?;
        let bytes = read.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(Moved::End));
        }
        let written = match to.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Poll::Ready(Err(Failed(side.other()))),
        };
        let rest = &bytes[written..];
        Poll::Ready(Ok(Moved::Bytes(bytes.len(), (!rest.is_empty()).then(|| rest.into()))))
    })
}

/// Splices until the sender pauses or ends, which the next read tells. Without a free pipe it does nothing.
async fn splice_on(from: &TcpStream, to: &TcpStream, (side, meters): (Side, Meters<'_>)) -> Result<(), Failed> {
    let Some(pipe) = meters.pipes.lend() else { return Ok(()) };
    loop {
        let filled = match from.try_io(Interest::READABLE, || pipe.fill(from)) {
            Ok(filled) => filled,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Failed(side)),
        };
        let mut left = filled;
        while left > 0 {
            match to.try_io(Interest::WRITABLE, || pipe.empty(to, left)) {
                Ok(0) => return Err(Failed(side.other())),
                Ok(moved) => left -= moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    to.writable().await.map_err(Failed::of(side.other()))?;
                }
                Err(_) => return Err(Failed(side.other())),
            }
        }
        meters.open.relayed(side, filled);
        if filled < SPLICE_BYTES_MIN {
            pipe.give_back();
            return Ok(());
        }
        // A fast sender must not keep this thread from its other connections.
        tokio::task::coop::consume_budget().await;
    }
}

async fn write_all(to: &WriteHalf<'_>, rest: Box<[u8]>) -> io::Result<()> {
    let mut bytes = &rest[..];
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
