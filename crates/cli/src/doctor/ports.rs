//! Ports that Portolan wants and somebody else may have, as the kernel lists them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Check;
use super::dns::ADDRESS;
use super::programs::Programs;

/// Whose a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Registry,
    Sidecar,
}

/// A port that Portolan wants.
struct Want {
    check: &'static str,
    address: IpAddr,
    port: u16,
    setting: &'static str,
    owner: Owner,
}

/// Sockets that wait for clients, as `/proc/net` lists them.
type Listening = Vec<(IpAddr, u16)>;

/// Every port.
pub(super) fn all(programs: &Programs) -> Vec<Check> {
    let tables = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];
    let read = |(name, state)| listening(&fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default(), state);
    let listening: Listening = tables.into_iter().flat_map(read).collect();
    let is_running = |owner| match owner {
        Owner::Registry => programs.has_registry(),
        Owner::Sidecar => programs.sidecar.is_some(),
    };
    wants().iter().map(|want| judge(want, &listening, is_running(want.owner))).collect()
}

fn wants() -> [Want; 6] {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let want = |check, port, setting, owner| Want { check, address: loopback, port, setting, owner };
    [
        Want { address: ADDRESS.into(), ..want("port 53", 53, "sidecar.dns", Owner::Sidecar) },
        want("port 8500", 8500, "http.listen", Owner::Registry),
        want("port 8502", 8502, "grpc.listen", Owner::Registry),
        want("port 8600", 8600, "dns.listen", Owner::Registry),
        want("port 8510", 8510, "sidecar.admin", Owner::Sidecar),
        // Ours listens on the node's own addresses: what stands in its way is a listener on all of them.
        want("port 8511", 8511, "sidecar.owners_port", Owner::Sidecar),
    ]
}

/// `is_running`: a program of ours answers, so a taken port is as it should be.
fn judge(want: &Want, listening: &Listening, is_running: bool) -> Check {
    let clash = listening
        .iter()
        .find(|(address, port)| *port == want.port && (*address == want.address || address.is_unspecified()));
    let Some((address, port)) = clash else {
        return Check::ok(want.check, if is_running { "free here: ours listens elsewhere" } else { "free" });
    };
    let place = std::net::SocketAddr::new(*address, *port);
    if is_running && *address == want.address {
        return Check::ok(want.check, format!("{place} is in use, and ours answers"));
    }
    let fix = format!("stop what listens there (`ss -lntup 'sport = :{port}'` names it), or set `{}`", want.setting);
    if is_running {
        return Check::warning(want.check, format!("{place} is taken by another program"), fix);
    }
    Check::failed(want.check, format!("{place} is taken by another program"), fix)
}

/// The sockets in `state`, from the text of a table of `/proc/net`.
fn listening(table: &str, state: &str) -> Listening {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (local, remote, found) = (words.nth(1)?, words.next()?, words.next()?);
        let is_waiting = found == state && remote.ends_with(":0000");
        let (address, port) = local.split_once(':')?;
        is_waiting.then_some((address_of(address)?, u16::from_str_radix(port, 16).ok()?))
    });
    rows.collect()
}

/// An address as the kernel writes it: 32-bit words in the machine's own order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return Some(IpAddr::V4(word(hex)?.into()));
    }
    let mut octets = [0; 16];
    for (at, part) in octets.chunks_exact_mut(4).enumerate() {
        part.copy_from_slice(&word(hex.get(at * 8..at * 8 + 8)?)?);
    }
    Some(Ipv6Addr::from(octets).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:2134 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0100007F:2136 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   3: broken
";

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_the_kernels_tables() {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert_eq!(listening(TCP, "0A"), [(any, 53), (Ipv4Addr::LOCALHOST.into(), 8500)]);
        assert_eq!(address_of("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(address_of("zz"), None);
    }

    #[test]
    fn a_taken_port_is_good_only_when_ours_has_it() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let [dns, http, ..] = wants();
        assert_eq!(judge(&http, &vec![], false).outcome, Outcome::Ok);
        assert_eq!(judge(&http, &vec![(loopback, 8500)], true).outcome, Outcome::Ok);
        let clash = judge(&http, &vec![(loopback, 8500)], false);
        assert_eq!(clash.outcome, Outcome::Failed);
        assert!(clash.fix.unwrap().contains("http.listen"));
        assert_eq!(judge(&dns, &vec![(loopback, 53)], false).outcome, Outcome::Ok, "another address");
        assert_eq!(judge(&dns, &vec![(any, 53)], false).outcome, Outcome::Failed);
    }
}
