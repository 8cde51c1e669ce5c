//! Which networks may ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Loopback, RFC 1918, RFC 6598 (carriers' NAT, and container networks), link-local: nobody is there but who was let in.
const PRIVATE_V4: [Ipv4Net; 6] = [
    v4([127, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v4([100, 64, 0, 0], 10),
    v4([169, 254, 0, 0], 16),
];
/// Loopback, unique local, link-local.
const PRIVATE_V6: [Ipv6Net; 3] = [
    Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
    Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever is in a private network.
    Private,
    /// Whoever is in one of these.
    Networks(Vec<IpNet>),
}

impl Access {
    /// Whether `peer` may ask, who is in a private network if `is_near`.
    pub(super) fn allows(&self, peer: IpAddr, is_near: bool) -> bool {
        match self {
            Access::Private => is_near,
            Access::Networks(networks) => networks.iter().any(|network| network.contains(&peer)),
        }
    }
}

/// Whether `peer` is in a private network.
pub(super) fn is_private(peer: IpAddr) -> bool {
    match peer {
        IpAddr::V4(v4) => PRIVATE_V4.iter().any(|network| network.contains(&v4)),
        IpAddr::V6(v6) => PRIVATE_V6.iter().any(|network| network.contains(&v6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(access: &Access, peer: &str, expected: bool) {
        let address = peer.parse().unwrap();
        assert_eq!(access.allows(address, is_private(address)), expected, "{peer}");
    }

    #[test]
    fn private_networks_may_ask_and_their_neighbours_may_not() {
        for (peer, expected) in [
            ("127.0.0.1", true),
            ("127.255.255.255", true),
            ("128.0.0.0", false),
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("172.15.255.255", false),
            ("172.16.0.1", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("192.167.255.255", false),
            ("192.168.0.1", true),
            ("192.169.0.0", false),
            ("100.63.255.255", false),
            ("100.64.0.1", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("169.254.53.53", true),
            ("169.253.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::1", true),
            ("::2", false),
            ("::", false),
            ("fbff::1", false),
            ("fc00::1", true),
            ("fdff::1", true),
            ("fe00::1", false),
            ("fe80::1", true),
            ("febf::1", true),
            ("fec0::1", false),
            ("2001:db8::1", false),
        ] {
            check(&Access::Private, peer, expected);
        }
    }

    #[test]
    fn a_list_counts_instead() {
        let only = Access::Networks(vec!["203.0.113.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        check(&only, "203.0.113.255", true);
        check(&only, "203.0.112.255", false);
        check(&only, "2001:db8:ffff::1", true);
        check(&only, "2001:db9::1", false);
        check(&only, "10.0.0.1", false);
        let everyone = Access::Networks(vec!["0.0.0.0/0".parse().unwrap()]);
        check(&everyone, "198.51.100.1", true);
        check(&everyone, "2001:db8::1", false);
    }
}
