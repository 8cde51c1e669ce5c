//! Moves bytes between two sockets until both sides are done.
//!
//! Each worker thread has one buffer for all of its connections: it is borrowed between a read and the write that follows
//! at once, so an idle connection owns no buffer. What a slow reader does not take is kept aside until it does, and nothing
//! is read meanwhile.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::try_join;
use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::counters::{Open, Outcome};
use super::relay::reset;

/// The buffer of a worker thread: large enough that a bulk transfer is few calls, small enough for its caches.
const BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into());
}

/// What a read brought.
enum Moved {
    /// The peer will send no more.
    End,
    /// All was passed on.
    Bytes(usize),
    /// Some was passed on; the rest waits for the reader.
    Held(usize, Box<[u8]>),
}

/// Relays until both sides closed, or one failed; then both are reset.
pub(super) async fn relay(mut client: TcpStream, mut server: TcpStream, open: &Open) -> Outcome {
    let both = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        try_join(one_way(from_client, to_server, open), one_way(from_server, to_client, open)).await
    };
    match both {
        Ok(((), ())) => Outcome::closed,
        Err(_reset) => {
            reset(&client);
            reset(&server);
            Outcome::reset
        }
    }
}

async fn one_way(mut from: ReadHalf<'_>, to: WriteHalf<'_>, open: &Open) -> io::Result<()> {
    loop {
        match poll_fn(|cx| poll_move(cx, &mut from, &to)).await? {
            Moved::End => break,
            Moved::Bytes(count) => open.relayed(count),
            Moved::Held(count, rest) => {
                open.relayed(count);
                write_all(&to, &rest).await?;
            }
        }
    }
    // The other way stays open: this is how `shutdown(SHUT_WR)` passes through.
    match SockRef::from(to.as_ref()).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn poll_move(cx: &mut Context<'_>, from: &mut ReadHalf<'_>, to: &WriteHalf<'_>) -> Poll<io::Result<Moved>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut read))?;
        let bytes = read.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(Moved::End));
        }
        let written = match to.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let rest = &bytes[written..];
        Poll::Ready(Ok(if rest.is_empty() { Moved::Bytes(bytes.len()) } else { Moved::Held(bytes.len(), rest.into()) }))
    })
}

async fn write_all(to: &WriteHalf<'_>, mut bytes: &[u8]) -> io::Result<()> {
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
