//! One question to the upstream resolvers: UDP from a random port with a random id, TCP when the answer was cut.
//!
//! A packet that is not the answer (wrong id, wrong question, garbage) is ignored and the wait goes on: it may be
//! somebody's guess (RFC 5452). The socket is connected, so the kernel drops what comes from elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::packet::{Asked, Read, Stored};

/// How long one attempt may take, in the first and the second round through the upstreams.
const ROUNDS: [Duration; 2] = [Duration::from_millis(800), Duration::from_millis(1500)];
/// How many upstreams are asked: resolv.conf has three at most.
const UPSTREAMS_MAX: usize = 3;
/// For all attempts together; below the patience of those who wait.
const TOTAL: Duration = Duration::from_millis(5500);
/// How long an answer over TCP may take.
const TCP_PATIENCE: Duration = Duration::from_secs(2);
/// We announce 1,232; some send more all the same.
const DATAGRAM_OCTETS_MAX: usize = 4096;
/// Upstream questions a second: half of what a VPC resolver takes from one interface.
const BUDGET_PER_SECOND: u32 = 500;

/// Counts upstream questions within each second.
#[derive(Default)]
pub(super) struct Budget {
    since: Option<Instant>,
    used: u32,
}

impl Budget {
    /// Whether one more may be sent.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.used) = (Some(now), 0);
        }
        self.used += 1;
        self.used <= BUDGET_PER_SECOND
    }
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// Nobody has one.
    Failed,
    /// Too much was asked in this second: says nothing of the name.
    OverBudget,
}

/// The first answer of `upstreams`, asked one after the other, twice, as long as `may_send` agrees.
pub(super) async fn ask(
    upstreams: &[SocketAddr],
    asked: &Asked,
    may_send: impl Fn() -> bool,
) -> Result<Stored, Unanswered> {
    let attempts = async {
        for patience in ROUNDS {
            for upstream in upstreams.iter().take(UPSTREAMS_MAX) {
                if !may_send() {
                    return Err(Unanswered::OverBudget);
                }
                match timeout(patience, by_udp(*upstream, asked)).await {
                    Ok(Ok(Read::Answer(stored))) => return Ok(stored),
                    Ok(Ok(Read::Cut)) if may_send() => {
                        let answer = timeout(TCP_PATIENCE, by_tcp(*upstream, asked)).await;
                        if let Ok(Ok(Read::Answer(stored))) = answer {
                            return Ok(stored);
                        }
                    }
                    // A failure, or nothing in time: the next one may know.
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Err(Unanswered::Failed)
    };
    timeout(TOTAL, attempts).await.unwrap_or(Err(Unanswered::Failed))
}

async fn by_udp(upstream: SocketAddr, asked: &Asked) -> std::io::Result<Read> {
    let any = if upstream.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    let id = rand::random();
    socket.send(&asked.query(id)).await?;
    let mut datagram = vec![0; DATAGRAM_OCTETS_MAX];
    loop {
        let length = socket.recv(&mut datagram).await?;
        match asked.read(&datagram[..length], id) {
            Read::NotOurs => {}
            read @ (Read::Answer(_) | Read::Cut | Read::Failure) => return Ok(read),
        }
    }
}

async fn by_tcp(upstream: SocketAddr, asked: &Asked) -> std::io::Result<Read> {
    let mut stream = TcpStream::connect(upstream).await?;
    let id = rand::random();
    let query = asked.query(id);
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&query);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(asked.read(&message, id))
}
