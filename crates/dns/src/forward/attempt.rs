//! One question on its way to one upstream: UDP from a random port with a random id, TCP where UDP does not do.
//!
//! A packet that is not the answer (wrong id, wrong question, garbage) is ignored and the wait goes on: it may be
//! somebody's guess (RFC 5452). The socket is connected, so the kernel drops what comes from elsewhere. Whoever makes
//! many guesses at one socket is left guessing: the question goes over TCP. An ICMP error may be forged as well.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::asked::{Asked, Query, Read, Spelling};
use super::exchange::Exchange;
use super::stored::Stored;

/// How long an answer over TCP may take.
const TCP_PATIENCE: Duration = Duration::from_secs(2);
/// We announce 1,232; some send more all the same.
const DATAGRAM_OCTETS_MAX: usize = 4096;
/// Packets that are not the answer, on one socket. None is expected: no two questions share a port.
const STRANGERS_MAX: u32 = 16;

/// A question that was sent to one upstream.
pub(super) struct Attempt<'a> {
    exchange: &'a Exchange,
    upstream: SocketAddr,
    asked: &'a Asked,
    spelling: &'a Spelling,
    socket: UdpSocket,
    query: Query<'a>,
    asked_at: Instant,
    strangers: u32,
}

/// What came of it.
pub(super) enum Heard<'a> {
    Answer(Stored),
    /// The upstream says that it cannot, or cannot be asked.
    Failure,
    /// The upstream keeps no case: it can be asked again in lower case.
    Caseless,
    /// The network says that nobody is there. Listening goes on with [`Attempt::listen`].
    Doubt(Box<Attempt<'a>>),
}

/// An attempt under way.
pub(super) type Listening<'a> = BoxFuture<'a, (SocketAddr, Heard<'a>)>;

impl<'a> Attempt<'a> {
    /// Asks `upstream`.
    pub(super) async fn ask(
        exchange: &'a Exchange,
        upstream: SocketAddr,
        asked: &'a Asked,
        spelling: &'a Spelling,
    ) -> (SocketAddr, Heard<'a>) {
        let asked_at = Instant::now();
        let keeps_case = exchange.standings().keeps_case(upstream, asked_at);
        exchange.standings().asked(upstream, asked_at);
        let query = Query::new(asked, keeps_case.then_some(spelling), rand::random());
        let Ok(socket) = send(upstream, &query).await else { return (upstream, Heard::Failure) };
        let attempt = Attempt { exchange, upstream, asked, spelling, socket, query, asked_at, strangers: 0 };
        attempt.listen().await
    }

    /// Waits until there is something to say, for ever if need be.
    pub(super) async fn listen(mut self) -> (SocketAddr, Heard<'a>) {
        let mut datagram = vec![0; DATAGRAM_OCTETS_MAX];
        while self.strangers <= STRANGERS_MAX {
            let Ok(length) = self.socket.recv(&mut datagram).await else {
                self.strangers += 1;
                return (self.upstream, Heard::Doubt(Box::new(self)));
            };
            let read = self.query.read(&datagram[..length]);
            if matches!(read, Read::Answer(_) | Read::Cut | Read::Failure) {
                self.exchange.heard(self.upstream, self.asked_at);
            }
            let heard = match read {
                Read::Answer(stored) => Heard::Answer(stored),
                Read::Cut => self.by_tcp().await,
                Read::Respelled => self.by_tcp_or_caseless().await,
                Read::Failure => Heard::Failure,
                Read::NotOurs => {
                    self.strangers += 1;
                    self.exchange.metrics.ignored.inc();
                    continue;
                }
            };
            return (self.upstream, heard);
        }
        (self.upstream, self.by_tcp().await)
    }

    /// The answer over TCP, which nobody can forge from afar.
    async fn by_tcp(&self) -> Heard<'a> {
        if !self.exchange.may_send() {
            return Heard::Failure;
        }
        self.over_tcp().await.map_or(Heard::Failure, Heard::Answer)
    }

    /// The same after an answer in another case: with none over TCP there is no telling a forger from an upstream that
    /// keeps no case, and a name that cannot be asked for is worse.
    async fn by_tcp_or_caseless(&self) -> Heard<'a> {
        self.exchange.metrics.ignored.inc();
        if !self.exchange.may_send() {
            return Heard::Failure;
        }
        match self.over_tcp().await {
            Some(stored) => Heard::Answer(stored),
            None => {
                self.exchange.standings().keeps_no_case(self.upstream, Instant::now());
                Heard::Caseless
            }
        }
    }

    async fn over_tcp(&self) -> Option<Stored> {
        let id = rand::random();
        let query = Query::new(self.asked, Some(self.spelling), id);
        let message = timeout(TCP_PATIENCE, exchange_by_tcp(self.upstream, &query.message())).await.ok()?.ok()?;
        let mut read = query.read(&message);
        if matches!(read, Read::Respelled) {
            self.exchange.standings().keeps_no_case(self.upstream, Instant::now());
            read = Query::new(self.asked, None, id).read(&message);
        }
        match read {
            Read::Answer(stored) => Some(stored),
            Read::Cut | Read::Respelled | Read::Failure | Read::NotOurs => None,
        }
    }
}

async fn send(upstream: SocketAddr, query: &Query<'_>) -> std::io::Result<UdpSocket> {
    let any = if upstream.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(&query.message()).await?;
    Ok(socket)
}

async fn exchange_by_tcp(upstream: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    // Room is taken as octets come, not as they are promised.
    let mut message = Vec::new();
    stream.take(length.into()).read_to_end(&mut message).await?;
    Ok(message)
}
