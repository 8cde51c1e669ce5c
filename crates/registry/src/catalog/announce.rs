//! Which addresses may be announced: those that can be a container's or a node's, and nobody else's.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use portolan_core::reach::may_be_reached;
use portolan_core::refusal::Refusal;

/// How many addresses of one node count.
const NODE_ADDRESSES_MAX: usize = 16;

/// Those of `addresses` that may be announced.
pub(super) fn announced(addresses: &[IpAddr], range: Ipv4Net) -> Vec<IpAddr> {
    addresses.iter().copied().filter(|address| may_be_reached(*address, range)).collect()
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
