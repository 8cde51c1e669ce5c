//! Where a connection of ours may go: to addresses that can be a node's or a container's, and nowhere else.
//!
//! What a registration announced is input: without this, a label could lead a client, or a node that is asked to try a
//! connection, to the metadata service or to something that listens on its own loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

/// Whether `address` can be a node's or a container's: not loopback, link-local (the metadata service is there), multicast,
/// unspecified or reserved, and not in the `range` of the virtual addresses. An IPv4 address in an IPv6 one counts as itself.
pub fn may_be_reached(address: IpAddr, range: Ipv4Net) -> bool {
    let is_v4 = |v4: Ipv4Addr| is_ordinary(v4) && !range.contains(&v4);
    match address.to_canonical() {
        IpAddr::V4(v4) => is_v4(v4),
        IpAddr::V6(v6) => is_ordinary_v6(v6) && translated(v6).is_none_or(is_v4),
    }
}

/// Where a gateway takes an address of the well-known prefix, 64:ff9b::/96 (RFC 6052); a VPC's NAT gateway is one.
fn translated(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [prefix @ .., a, b, c, d] = v6.octets();
    (prefix == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]).then_some(Ipv4Addr::new(a, b, c, d))
}

fn is_ordinary(v4: Ipv4Addr) -> bool {
    let [first, ..] = v4.octets();
    // From 224 on: multicast, reserved, broadcast.
    first != 0 && first < 224 && !v4.is_loopback() && !v4.is_link_local()
}

fn is_ordinary_v6(v6: Ipv6Addr) -> bool {
    // fd00:ec2::254 is the metadata service, which is unique-local.
    let is_metadata = v6.segments()[..2] == [0xfd00, 0x0ec2];
    // ::/96: unspecified, loopback, and IPv4 addresses as nobody writes them any more (RFC 4291 section 2.5.5.1).
    let is_outdated = v6.segments()[..6] == [0; 6];
    !(is_outdated || v6.is_multicast() || v6.is_unicast_link_local() || is_metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_containers_are_reached_and_nothing_special_is() {
        let range: Ipv4Net = "198.18.0.0/16".parse().unwrap();
        let yes =
            ["10.0.0.1", "172.17.0.2", "198.19.0.1", "::ffff:10.0.0.1", "2001:db8::1", "fd12::1", "64:ff9b::10.0.0.1"];
        let no = [
            "127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.53.53",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "198.18.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:198.18.0.1",
            "::127.0.0.1",
            "::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::198.18.0.1",
        ];
        for (addresses, expected) in [(&yes[..], true), (&no[..], false)] {
            for address in addresses {
                assert_eq!(may_be_reached(address.parse().unwrap(), range), expected, "{address}");
            }
        }
    }
}
