//! Upstream resolvers from resolv.conf(5).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// DNS.
const PORT: u16 = 53;
/// MAXNS of resolv.conf(5): resolvers read three, and so do we.
const NAMESERVERS_MAX: usize = 3;

/// The name servers of `text`, in its order, without those at an address of `own`, each once, three at most. Lines that
/// make no sense are passed over, as every resolver does.
pub fn parse(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(server) = words.next().and_then(server) else { continue };
        if !own.contains(&server.ip()) && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers.truncate(NAMESERVERS_MAX);
    servers
}

/// An address; link-local ones may have a numeric scope (`fe80::1%2`). Interface names are not known here.
fn server(text: &str) -> Option<SocketAddr> {
    if let Some((address, scope)) = text.split_once('%') {
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(SocketAddrV6::new(address, PORT, 0, scope.parse().ok()?).into());
    }
    text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_name_servers_and_leaves_out_our_own() {
        let check = |text: &str, expected: &[&str]| {
            let own = ["169.254.53.53".parse().unwrap()];
            let servers: Vec<String> = parse(text, &own).iter().map(SocketAddr::to_string).collect();
            assert_eq!(servers, expected, "{text}");
        };
        check("nameserver 10.0.0.2\n", &["10.0.0.2:53"]);
        check("# nameserver 1.1.1.1\n;nameserver 1.1.1.1\nsearch a\n\tnameserver\t10.0.0.2 # x", &["10.0.0.2:53"]);
        check("nameserver 169.254.53.53\nnameserver 10.0.0.2\nnameserver 10.0.0.2", &["10.0.0.2:53"]);
        check("nameserver ::1\nnameserver fe80::1%2\nnameserver fe80::1%eth0", &["[::1]:53", "[fe80::1%2]:53"]);
        check(
            "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4",
            &["1.1.1.1:53", "1.1.1.2:53", "1.1.1.3:53"],
        );
        check("nameserver\nnameserver x\nnameservers 1.1.1.1\n\0", &[]);
    }
}
