//! Names of addresses under `in-addr.arpa` (RFC 1035 section 3.5) and `ip6.arpa` (RFC 3596 section 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that a complete reverse name stands for; the labels stand leftmost first.
pub(super) fn address_of(name: &[&[u8]]) -> Option<IpAddr> {
    let (digits, tail) = name.split_at(name.len().checked_sub(2)?);
    if !tail[1].eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    if tail[0].eq_ignore_ascii_case(b"in-addr") {
        let [d, c, b, a] = digits else { return None };
        return Some(Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?).into());
    }
    if !tail[0].eq_ignore_ascii_case(b"ip6") || digits.len() != 32 {
        return None;
    }
    let bits = digits.iter().rev().try_fold(0u128, |bits, digit| Some(bits << 4 | nibble(digit)?))?;
    Some(Ipv6Addr::from(bits).into())
}

/// One to three decimal digits without leading zeros.
fn octet(bytes: &[u8]) -> Option<u8> {
    let is_plain = bytes.iter().all(u8::is_ascii_digit) && (bytes.len() == 1 || bytes.first() != Some(&b'0'));
    std::str::from_utf8(bytes).ok().filter(|_| is_plain)?.parse().ok()
}

fn nibble(bytes: &[u8]) -> Option<u128> {
    let [digit] = bytes else { return None };
    char::from(*digit).to_digit(16).map(u128::from)
}

/// The name under which PTR records of `address` stand, with the final dot.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            let nibbles: String = (0..32).map(|i| format!("{:x}.", bits >> (4 * i) & 0xf)).collect();
            format!("{nibbles}ip6.arpa.")
        }
    }
}
