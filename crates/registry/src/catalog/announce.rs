//! Which addresses may be announced: those that can be a container's or a node's, and nobody else's.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use portolan_core::refusal::Refusal;

/// How many addresses of one node count.
const NODE_ADDRESSES_MAX: usize = 16;

/// Whether links and answers may lead to `address`; `range` is that of the virtual addresses.
pub(super) fn may_be_announced(address: IpAddr, range: Ipv4Net) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_ordinary(v4) && !range.contains(&v4),
        IpAddr::V6(v6) => {
            // fd00:ec2::254 is the metadata service, which is unique-local.
            let is_metadata = v6.segments()[..2] == [0xfd00, 0x0ec2];
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() || is_metadata)
        }
    }
}

fn is_ordinary(v4: Ipv4Addr) -> bool {
    let [first, ..] = v4.octets();
    first != 0 && first < 224 && !v4.is_loopback() && !v4.is_link_local()
}

/// Those of `addresses` that may be announced.
pub(super) fn announced(addresses: &[IpAddr], range: Ipv4Net) -> Vec<IpAddr> {
    addresses.iter().copied().filter(|address| may_be_announced(*address, range)).collect()
}

/// What is said of something that has no address left.
pub(super) fn refusal(field: impl AsRef<str>) -> Refusal {
    let reason = "has no address that other nodes can reach: loopback, link-local, multicast and virtual addresses are \
                  not announced";
    Refusal::new(field, reason)
}

/// Those of a node's addresses that count, and what is said of the others.
pub(super) fn of_node(addresses: &[IpAddr], range: Ipv4Net) -> (Vec<IpAddr>, Option<Refusal>) {
    let mut counting = announced(addresses, range);
    counting.truncate(NODE_ADDRESSES_MAX);
    let left_out = addresses.len() - counting.len();
    let refusal = (left_out > 0).then(|| {
        let reason = format!(
            "{left_out} were left out: loopback, link-local, multicast and virtual addresses are not announced, and at \
             most {NODE_ADDRESSES_MAX} of a node count"
        );
        Refusal::new("addresses", reason)
    });
    (counting, refusal)
}
