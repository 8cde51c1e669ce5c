//! DNS over TCP (RFC 7766): a small accept loop of our own.
//!
//! hickory-server's was rejected: it has no cap on connections, and it brings a second encoder and a task per question.
//! Here every bound is in sight: connections, idle time, questions in flight per connection. Replies go out as they
//! are ready, in any order (RFC 7766 section 6.2.1.1). When all places are taken, who is idle makes room ([`places`]).

mod places;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use portolan_runtime::jobs::Jobs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use crate::server::{Packet, Server, Standing, Step};
use crate::wire::Transport;
use places::{Place, Places};

/// Open connections per listener, of near askers and of those from elsewhere.
const CONNECTIONS_MAX: usize = 100;
/// The same of askers who are refused: one reply each, and they keep out nobody else.
const REFUSED_CONNECTIONS_MAX: usize = 8;
/// How long a connection may be without a whole question (RFC 7766 section 6.2.3 asks for seconds).
const IDLE: Duration = Duration::from_secs(10);
/// How long a reply may take to be written: a peer that reads nothing holds its place no longer.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// Questions of one connection that may wait at once; the next is read when one of them is answered.
const WAITING_MAX: usize = 32;
/// How many questions of one connection are answered before other connections have their turn.
const TURN_MAX: usize = 8;
/// After an accept error (no file descriptors left): the next call would fail in the same way.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// What is read at once.
const READ_OCTETS: usize = 4096;

/// Starts the accept loop.
pub(crate) fn serve(jobs: &Jobs, listener: TcpListener, server: Arc<Server>) {
    let [near, far, refused] = [CONNECTIONS_MAX, CONNECTIONS_MAX, REFUSED_CONNECTIONS_MAX].map(Places::new);
    let work = jobs.clone();
    jobs.start("dns tcp", async move {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "accept a DNS connection");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let asker = peer.ip().to_canonical();
            let places = match server.standing(asker) {
                Standing::Near => &near,
                Standing::Far => &far,
                Standing::Refused => &refused,
            };
            let Some(place) = places.take(asker, Instant::now()) else {
                debug!(%peer, "too many DNS connections: closed");
                continue;
            };
            let server = server.clone();
            work.start_work("dns connection", async move {
                let ended = tokio::select! {
                    ended = converse(stream, asker, &server, &place) => ended,
                    () = place.displaced() => Err(std::io::Error::other("it made room for another")),
                };
                if let Err(error) = ended {
                    debug!(%error, %peer, "DNS connection ended");
                }
            });
        }
    });
}

/// Answers the questions of one connection until it ends, idles, or breaks the framing.
async fn converse(mut stream: TcpStream, peer: IpAddr, server: &Server, place: &Place) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = BytesMut::with_capacity(READ_OCTETS);
    let mut reply = Vec::new();
    let mut waiting = FuturesUnordered::new();
    let mut is_open = true;
    let is_refused = server.standing(peer) == Standing::Refused;
    let mut idle_at = Instant::now() + IDLE;
    while is_open || !waiting.is_empty() {
        let mut answered = 0;
        while waiting.len() < WAITING_MAX {
            answered += 1;
            if answered % TURN_MAX == 0 {
                tokio::task::yield_now().await;
            }
            let Some(octets) = take_message(&mut received) else { break };
            let at = Instant::now();
            place.asked(at);
            idle_at = at + IDLE;
            let packet = Packet { octets: &octets, peer, transport: Transport::Tcp, at };
            match server.begin(packet, &mut reply) {
                Step::Send if is_refused => return send(&mut stream, &reply).await,
                Step::Send => send(&mut stream, &reply).await?,
                Step::Drop => return Ok(()),
                Step::Wait(pending) => waiting.push(async move {
                    let mut reply = Vec::new();
                    server.finish(pending, &mut reply).await;
                    reply
                }),
            }
        }
        // Both branches are cancel-safe: what was read stays in the buffer, what waits stays in the set.
        tokio::select! {
            Some(reply) = waiting.next() => {
                send(&mut stream, &reply).await?;
                idle_at = Instant::now() + IDLE;
            }
            read = timeout_at(idle_at, stream.read_buf(&mut received)), if is_open && waiting.len() < WAITING_MAX => {
                match read {
                    Ok(length) => is_open = length? > 0,
                    // Idle, unless something still waits for its answer.
                    Err(_) if waiting.is_empty() => return Ok(()),
                    Err(_) => idle_at = Instant::now() + IDLE,
                }
            }
        }
    }
    Ok(())
}

/// The next whole message, without its two octets of length.
fn take_message(received: &mut BytesMut) -> Option<BytesMut> {
    let length = usize::from(u16::from_be_bytes(*received.first_chunk()?));
    if received.len() < 2 + length {
        return None;
    }
    received.advance(2);
    Some(received.split_to(length))
}

/// Writes length and message in one go (RFC 7766 section 8).
async fn send(stream: &mut TcpStream, reply: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(reply.len()).expect("replies are cut to what the length can say");
    let mut framed = Vec::with_capacity(2 + reply.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(reply);
    timeout(WRITE_PATIENCE, stream.write_all(&framed)).await?
}
