//! Virtual addresses: which slot of the link range belongs to which service name (DESIGN section 4).
//!
//! A slot is chosen by hash, so registries that start empty agree; the choice is stored with the name and never changes.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::hash;
use crate::name::ServiceKey;

/// The first slot that `key` may have: its hash's, or the next one that `is_free` says is free. `None` when the range is
/// used up. The first and last address of the range are never given (tools take them for network and broadcast).
pub fn choose(range: Ipv4Net, key: &ServiceKey, is_free: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let size = 1u64 << (32 - u64::from(range.prefix_len()));
    let slots = size.checked_sub(2).filter(|slots| *slots > 0)?;
    let start = hash::stable(&[key.cluster.as_str().as_bytes(), key.service.as_str().as_bytes()]) % slots;
    let base = u64::from(u32::from(range.network()));
    (0..slots).map(|step| Ipv4Addr::from((base + 1 + (start + step) % slots) as u32)).find(|address| is_free(*address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Label;

    fn key(service: &'static str) -> ServiceKey {
        ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed(service) }
    }

    #[test]
    fn is_the_same_everywhere_and_in_the_range() {
        let range: Ipv4Net = "198.18.0.0/16".parse().unwrap();
        let address = choose(range, &key("elasticsearch"), |_| true).unwrap();
        assert!(range.contains(&address));
        assert_eq!(choose(range, &key("elasticsearch"), |_| true), Some(address));
    }

    #[test]
    fn takes_the_next_free_slot_and_ends_when_none_is_left() {
        let range: Ipv4Net = "198.18.0.0/29".parse().unwrap();
        let mut taken = Vec::new();
        for _ in 0..6 {
            let address = choose(range, &key("a"), |a| !taken.contains(&a)).unwrap();
            taken.push(address);
        }
        taken.sort();
        assert_eq!(taken.first(), Some(&"198.18.0.1".parse().unwrap()));
        assert_eq!(taken.last(), Some(&"198.18.0.6".parse().unwrap()));
        assert_eq!(choose(range, &key("a"), |a| !taken.contains(&a)), None);
    }
}
