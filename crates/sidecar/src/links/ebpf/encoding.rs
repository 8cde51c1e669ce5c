//! Keys and values of the kernel's maps as bytes: the layout of `bpf/links.bpf.c`.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Endpoints of one link, `ENDPOINTS_MAX` there.
pub(super) const ENDPOINTS_MAX: usize = 64;
const COUNT_BYTES: usize = 8;
const ENDPOINT_BYTES: usize = 24;
const LINK_BYTES: usize = COUNT_BYTES + ENDPOINTS_MAX * ENDPOINT_BYTES;

/// An address and a port in network order; of an endpoint, its weight behind them.
pub(super) type Place = [u8; 8];
/// All endpoints of a link.
pub(super) type LinkValue = [u8; LINK_BYTES];
/// A link and one of its endpoints.
pub(super) type Pair = [u8; 16];
/// Connections and failures.
pub(super) type FiguresValue = [u8; 16];

/// A share of a link's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share {
    /// Where they go; `None`: to the relay, which may go where the kernel may not.
    pub(super) to: Option<SocketAddrV4>,
    /// How many, beside the others.
    pub(super) weight: u16,
}

/// A share that ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leased {
    pub(super) share: Share,
    /// In nanoseconds since the machine's start, as the kernel counts them for `bpf_ktime_get_boot_ns`.
    pub(super) until_ns: u64,
}

/// The key of a link, or an endpoint without its weight.
pub(super) fn place(address: Ipv4Addr, port: u16) -> Place {
    weighted(address, port, 0)
}

/// A place as address and port.
pub(super) fn place_in(place: Place) -> SocketAddrV4 {
    let [a, b, c, d, high, low, ..] = place;
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))
}

fn weighted(address: Ipv4Addr, port: u16, weight: u16) -> Place {
    let ([a, b, c, d], [high, low], [first, second]) = (address.octets(), port.to_be_bytes(), weight.to_le_bytes());
    [a, b, c, d, high, low, first, second]
}

/// The value of link `key`. What is more than fits is left out; whoever makes the list sees to it that it fits.
pub(super) fn link_value(key: Place, endpoints: &[Leased]) -> LinkValue {
    let mut value = [0; LINK_BYTES];
    let (count, slots) = value.split_at_mut(COUNT_BYTES);
    count.copy_from_slice(&(endpoints.len().min(ENDPOINTS_MAX) as u64).to_le_bytes());
    for (slot, endpoint) in slots.chunks_exact_mut(ENDPOINT_BYTES).zip(endpoints) {
        let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let to = endpoint.share.to.unwrap_or(nowhere);
        let place = weighted(*to.ip(), to.port(), endpoint.share.weight);
        let words = [u64::from_le_bytes(place), endpoint.until_ns, seal(key, place, endpoint.until_ns)];
        slot.iter_mut().zip(words.into_iter().flat_map(u64::to_le_bytes)).for_each(|(byte, word)| *byte = word);
    }
    value
}

/// What a link's value says. What does not bear the link's seal is no part of it.
pub(super) fn link_value_in(key: Place, value: &LinkValue) -> Vec<Leased> {
    let (count, slots) = value.split_at(COUNT_BYTES);
    let count = usize::try_from(word(count)).unwrap_or(ENDPOINTS_MAX);
    let slots = slots.chunks_exact(ENDPOINT_BYTES).take(count);
    let endpoint = |slot: &[u8]| {
        let (place, until_ns, sealed) = (word(slot).to_le_bytes(), word(&slot[8..]), word(&slot[16..]));
        let to = Some(place_in(place)).filter(|to| !to.ip().is_unspecified());
        let share = Share { to, weight: u16::from_le_bytes([place[6], place[7]]) };
        (sealed == seal(key, place, until_ns)).then_some(Leased { share, until_ns })
    };
    slots.filter_map(endpoint).collect()
}

/// The figures of one link and endpoint: the link, and how many connections and failures.
pub(super) fn figures_in(pair: &Pair, value: &FiguresValue) -> (SocketAddrV4, [u64; 2]) {
    (place_in(word(pair).to_le_bytes()), [word(value), word(&value[8..])])
}

/// The first eight bytes; what is missing counts as 0.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

/// Proves that an endpoint's fields belong together, and to link `key`: `seal` of the programs.
fn seal(key: Place, endpoint: Place, until_ns: u64) -> u64 {
    mix(u64::from_le_bytes(endpoint) ^ mix(until_ns ^ mix(u64::from_le_bytes(key))))
}

fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    value ^ value >> 32
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn leased() -> impl Strategy<Value = Leased> {
        let to = prop::option::of((1..u32::MAX, any::<u16>()));
        (to, any::<u16>(), any::<u64>()).prop_map(|(to, weight, until_ns)| {
            let to = to.map(|(address, port)| SocketAddrV4::new(address.into(), port));
            Leased { share: Share { to, weight }, until_ns }
        })
    }

    #[test]
    fn has_the_layout_of_the_programs() {
        let key = place([198, 18, 0, 7].into(), 9200);
        assert_eq!(key, [198, 18, 0, 7, 0x23, 0xf0, 0, 0]);
        let to = Some("10.0.0.1:32768".parse().unwrap());
        let value = link_value(key, &[Leased { share: Share { to, weight: 0x0102 }, until_ns: 3 }]);
        assert_eq!(value.len(), 1544);
        assert_eq!(value[..24], [1, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1, 0x80, 0, 2, 1, 3, 0, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn a_value_is_read_as_it_was_written(key: Place, endpoints in vec(leased(), 0..=ENDPOINTS_MAX)) {
            prop_assert_eq!(link_value_in(key, &link_value(key, &endpoints)), endpoints);
        }

        #[test]
        fn what_is_put_together_of_two_values_is_nobody_s(
            keys in any::<[Place; 2]>().prop_filter("two links", |[one, other]| one != other),
            endpoints in [leased(), leased()],
            cut in 9_usize..COUNT_BYTES + ENDPOINT_BYTES,
        ) {
            let [one, other] = [0, 1].map(|i| link_value(keys[i], &[endpoints[i]]));
            let mut torn = one;
            torn[cut..].copy_from_slice(&other[cut..]);
            for (key, whole) in keys.into_iter().zip([one, other]) {
                prop_assert!(torn == whole || link_value_in(key, &torn).is_empty());
            }
        }

        #[test]
        fn any_bytes_are_read(key: Place, bytes in vec(any::<u8>(), LINK_BYTES)) {
            let value: LinkValue = bytes.try_into().unwrap();
            prop_assert!(link_value_in(key, &value).len() <= ENDPOINTS_MAX);
        }
    }
}
