//! Which address this machine has, as far as its routes tell. It asks nobody.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// Where a connected UDP socket would send from tells the address of the default route; nothing is sent.
const SOMEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 0, 8), 9);

/// The IPv4 address of the default route; none where there is no such route.
pub fn of_default_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SOMEWHERE).ok()?;
    let address = socket.local_addr().ok()?.ip();
    Some(address).filter(|address| !address.is_loopback() && !address.is_unspecified())
}
