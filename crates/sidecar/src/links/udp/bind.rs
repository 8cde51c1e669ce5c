//! Where a door is: a port on the relay's address in nobody's way.
//!
//! A socket on any address of a port keeps another one from all addresses of it, so a container that publishes the port would not
//! start. So the first choice is above the ephemeral ports: nobody is given one of those without asking for it.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use rand::RngExt;
use tracing::debug;

/// What the kernel gives out where nobody said otherwise.
const EPHEMERAL_LAST: u16 = 60_999;
/// Ports that are tried before the kernel chooses.
const ATTEMPTS: usize = 16;
/// Room for bursts, and for some of the largest datagrams: they wait here while one thread serves others.
const RECEIVE_OCTETS: usize = 1024 * 1024;

/// A socket on `ip`: at `wish`, if that is free; else at any port.
pub(super) fn bind(ip: Ipv4Addr, wish: Option<u16>) -> io::Result<UdpSocket> {
    let last = ephemeral_last();
    let free = usize::from(u16::MAX - last);
    let any = (0..ATTEMPTS.min(free)).map(|_| u16::MAX - rand::rng().random_range(0..u16::MAX - last));
    let bound = wish.into_iter().chain(any).find_map(|port| UdpSocket::bind((ip, port)).ok());
    let socket = bound.map_or_else(|| UdpSocket::bind((ip, 0)), Ok)?;
    socket.set_nonblocking(true)?;
    if let Err(error) = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_OCTETS) {
        debug!("a UDP link has the usual room for datagrams that wait: {error}");
    }
    Ok(socket)
}

fn ephemeral_last() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_ascii_whitespace().nth(1).and_then(|last| last.parse().ok()).unwrap_or(EPHEMERAL_LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_where_it_was_if_it_can_be_and_above_the_ephemeral_ports_else() {
        let ip = Ipv4Addr::LOCALHOST;
        let socket = bind(ip, None).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(port > ephemeral_last() || ephemeral_last() == u16::MAX, "{port}");
        assert_ne!(bind(ip, Some(port)).unwrap().local_addr().unwrap().port(), port, "it is taken");
        drop(socket);
        assert_eq!(bind(ip, Some(port)).unwrap().local_addr().unwrap().port(), port);
    }
}
