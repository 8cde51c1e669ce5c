//! Connections whose endpoint wishes more than bytes: a header that says who connects, and an end to connections that live on
//! and on.
//!
//! *Age.* A connection for many requests (HTTP/2, gRPC, a pool) sticks to its endpoint, so that a new one gets nothing. We
//! speak no protocol, so we cannot say "no more requests". What a client suffers least from is an end in a pause, as servers
//! end idle connections every day: pools and gRPC connect again and nothing was under way. So once the age is over (less up
//! to a tenth by chance, lest all end at once) it ends as soon as nothing came for a while: shortly after the endpoint's last
//! word, longer after the client's, who may wait for an answer. A connection without pause is reset at last.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use portolan_core::labels::LinkOptions;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::counters::{Open, Outcome};
use super::pump::{self, Meters};
use super::relay::{original_destination, reset};

/// A pause after the endpoint's last bytes: its answer is most likely whole.
const PAUSE: Duration = Duration::from_secs(1);
/// A pause after the client's last bytes: nothing is likely to be under way.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// How long a pause is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks for a pause.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The part of its age that a connection may end earlier.
const JITTER: f64 = 0.1;
/// What a header of the PROXY protocol, version 2, begins with (haproxy's doc/proxy-protocol.txt, 2.2): the signature, version 2
/// and command PROXY, TCP over IPv4, and the length of the addresses.
const HEADER_START: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";

/// Both sides of a connection.
pub(super) struct Sides<'a> {
    pub(super) client: &'a mut TcpStream,
    pub(super) server: &'a mut TcpStream,
}

/// How a connection that is too old ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    InAPause,
    UnderWay,
}

/// As [`pump::relay`], with what the endpoint wishes.
pub(super) async fn relay(sides: Sides<'_>, options: LinkOptions, meters: Meters<'_>) -> Outcome {
    if options.reads_proxy_header
        && let Some(header) = header_for(sides.client)
        && sides.server.write_all(&header).await.is_err()
    {
        meters.open.failed_by_endpoint();
        reset(sides.client);
        return Outcome::reset;
    }
    let Some(age_max) = options.age_max else {
        return pump::relay(sides.client, sides.server, meters).await;
    };
    let age = age_max.mul_f64(1.0 - JITTER * rand::random::<f64>());
    let ending = tokio::select! {
        outcome = pump::relay(sides.client, sides.server, meters) => return outcome,
        ending = too_old(age, meters.open) => ending,
    };
    // In a pause both are closed in order; else bytes may be lost, and nobody is to take the rest for the whole.
    if ending == Ending::UnderWay {
        reset(sides.client);
        reset(sides.server);
    }
    Outcome::aged
}

/// Waits until a connection is older than `age` and rests, or never rests.
async fn too_old(age: Duration, open: &Open) -> Ending {
    sleep(age).await;
    let late = Instant::now() + PATIENCE;
    let (mut progress, mut since) = (open.progress(), Instant::now());
    loop {
        sleep(LOOK_EVERY).await;
        let now = open.progress();
        if now != progress {
            (progress, since) = (now, Instant::now());
        }
        let (_, is_last_from_server) = progress;
        if since.elapsed() >= if is_last_from_server { PAUSE } else { LONG_PAUSE } {
            return Ending::InAPause;
        }
        if Instant::now() >= late {
            return Ending::UnderWay;
        }
    }
}

fn header_for(client: &TcpStream) -> Option<[u8; 28]> {
    header(client.peer_addr().ok()?, original_destination(client)?.into())
}

/// Who connects, and to what. Links are IPv4 alone.
fn header(from: SocketAddr, to: SocketAddr) -> Option<[u8; 28]> {
    let (IpAddr::V4(from_ip), IpAddr::V4(to_ip)) = (from.ip(), to.ip()) else { return None };
    let mut header = [0; 28];
    header[..16].copy_from_slice(&HEADER_START);
    header[16..20].copy_from_slice(&from_ip.octets());
    header[20..24].copy_from_slice(&to_ip.octets());
    header[24..26].copy_from_slice(&from.port().to_be_bytes());
    header[26..].copy_from_slice(&to.port().to_be_bytes());
    Some(header)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::counters::{Counters, Side};
    use super::*;

    fn open() -> Open {
        Open::begin(&Arc::new(Counters::default()), &Arc::default(), 1).unwrap()
    }

    const AGE: Duration = Duration::from_secs(100);

    /// After how long it ends when that side sends a byte each `every` for as long as `busy`.
    async fn ends_after(side: Side, (busy, every): (Duration, Duration)) -> (Ending, Duration) {
        let (open, began) = (open(), Instant::now());
        let load = async {
            while began.elapsed() < busy {
                open.relayed(side, 1);
                sleep(every).await;
            }
            std::future::pending::<()>().await;
        };
        let ending = tokio::select! {
            ending = too_old(AGE, &open) => ending,
            () = load => unreachable!("it waits for ever"),
        };
        (ending, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_connection_ends_in_a_pause_and_one_without_at_last() {
        let busy = (Duration::from_secs(110), Duration::from_millis(100));
        let (ending, took) = ends_after(Side::Server, busy).await;
        assert_eq!(ending, Ending::InAPause);
        assert!((111.0..112.0).contains(&took.as_secs_f64()), "{took:?}");
        let (ending, took) = ends_after(Side::Client, busy).await;
        assert_eq!(ending, Ending::InAPause);
        assert!((115.0..116.0).contains(&took.as_secs_f64()), "who asked may wait: {took:?}");
        let always = (Duration::MAX, Duration::from_millis(100));
        let (ending, took) = ends_after(Side::Client, always).await;
        assert_eq!(ending, Ending::UnderWay);
        assert!((160.0..161.0).contains(&took.as_secs_f64()), "{took:?}");
    }

    #[test]
    fn the_header_is_the_one_of_the_specification() {
        let header = header("10.0.0.1:4660".parse().unwrap(), "198.18.0.7:80".parse().unwrap()).unwrap();
        let expected: [u8; 28] = [
            0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12, 10, 0, 0, 1,
            198, 18, 0, 7, 0x12, 0x34, 0, 80,
        ];
        assert_eq!(header, expected);
    }
}
