//! Server cookies (RFC 9018): SipHash-2-4 over the asker's cookie, a time, and his address, with a secret of this process.
//!
//! Nothing is kept of anybody. Each reply has a fresh one. A cookie of another process is merely no proof: the asker then
//! counts against the limit of his network once, and has a good one with the reply.

use std::net::IpAddr;

use siphasher::sip::SipHasher24;
use tokio::time::Instant;

use super::Beginning;
use crate::wire::{Cookie, CookieReply};

/// Version 1 and three reserved octets (RFC 9018 section 4).
const VERSION: [u8; 4] = [1, 0, 0, 0];
/// How old a cookie may be (RFC 9018 section 4.3).
const AGE_SECONDS_MAX: i32 = 3600;
/// How far in the future; our own clock never goes back, so this is only what the RFC says.
const AHEAD_SECONDS_MAX: i32 = 300;
/// Client half, version, time, and the longer kind of address.
const HASHED_OCTETS_MAX: usize = 8 + 4 + 4 + 16;

/// Makes cookies and knows its own.
#[derive(Debug)]
pub(super) struct Cookies {
    hasher: SipHasher24,
    beginning: Beginning,
}

impl Cookies {
    /// With that secret.
    pub(super) fn new(secret: [u8; 16], beginning: Beginning) -> Cookies {
        Cookies { hasher: SipHasher24::new_with_key(&secret), beginning }
    }

    /// What the reply carries.
    pub(super) fn reply(&self, sent: &Cookie, peer: IpAddr, now: Instant) -> CookieReply {
        self.made(&sent.client, peer, self.seconds(now))
    }

    /// Whether the server's half is one that this process gave to that asker within the hour.
    pub(super) fn is_ours(&self, sent: &Cookie, peer: IpAddr, now: Instant) -> bool {
        let Some(server) = sent.server else { return false };
        let time = u32::from_be_bytes([server[4], server[5], server[6], server[7]]);
        // Serial arithmetic (RFC 1982): seconds wrap in 2106.
        let age = self.seconds(now).wrapping_sub(time).cast_signed();
        let is_fresh = (-AHEAD_SECONDS_MAX..=AGE_SECONDS_MAX).contains(&age);
        is_fresh && is_equal(&self.made(&sent.client, peer, time)[8..], &server)
    }

    fn made(&self, client: &[u8; 8], peer: IpAddr, seconds: u32) -> CookieReply {
        let mut hashed = [0; HASHED_OCTETS_MAX];
        hashed[..8].copy_from_slice(client);
        hashed[8..12].copy_from_slice(&VERSION);
        hashed[12..16].copy_from_slice(&seconds.to_be_bytes());
        let end = match peer {
            IpAddr::V4(v4) => {
                hashed[16..20].copy_from_slice(&v4.octets());
                20
            }
            IpAddr::V6(v6) => {
                hashed[16..].copy_from_slice(&v6.octets());
                HASHED_OCTETS_MAX
            }
        };
        let mut cookie = [0; 24];
        cookie[..16].copy_from_slice(&hashed[..16]);
        cookie[16..].copy_from_slice(&self.hasher.hash(&hashed[..end]).to_le_bytes());
        cookie
    }

    fn seconds(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.beginning.at).as_secs();
        // The low 32 bits are what a cookie holds.
        (self.beginning.unix_seconds + since) as u32
    }
}

/// Compares in a time that does not tell how much was right.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn octets<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    fn cookies(secret: &str, unix_seconds: u64) -> (Cookies, Instant) {
        let at = Instant::now();
        (Cookies::new(octets(secret), Beginning { at, unix_seconds }), at)
    }

    #[test]
    fn makes_those_of_the_rfcs_examples() {
        // RFC 9018 appendix A: secret, client cookie, address, time, whole cookie.
        for (secret, client, peer, time, expected) in [
            (
                "e5e973e5a6b2a43f48e7dc849e37bfcf",
                "2464c4abcf10c957",
                "198.51.100.100",
                1_559_731_985,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            ),
            (
                "e5e973e5a6b2a43f48e7dc849e37bfcf",
                "fc93fc62807ddb86",
                "203.0.113.203",
                1_559_734_700,
                "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
            ),
            (
                "445536bcd2513298075a5d379663c962",
                "22681ab97d52c298",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1_559_741_961,
                "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
            ),
        ] {
            let (cookies, now) = cookies(secret, time);
            let sent = Cookie { client: octets(client), server: None };
            assert_eq!(cookies.reply(&sent, peer.parse().unwrap(), now), octets(expected), "{peer}");
        }
    }

    #[test]
    fn knows_its_own_for_an_hour_and_for_that_asker() {
        let (cookies, now) = cookies("e5e973e5a6b2a43f48e7dc849e37bfcf", u64::from(u32::MAX) - 10);
        let peer: IpAddr = "203.0.113.1".parse().unwrap();
        let client = [1, 2, 3, 4, 5, 6, 7, 8];
        let reply = cookies.reply(&Cookie { client, server: None }, peer, now);
        let sent = Cookie { client, server: reply[8..].try_into().ok() };
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(cookies.is_ours(&sent, peer, now) && cookies.is_ours(&sent, peer, at(3600)));
        assert!(!cookies.is_ours(&sent, peer, at(3601)));
        assert!(!cookies.is_ours(&sent, "203.0.113.2".parse().unwrap(), now), "another asker");
        assert!(!cookies.is_ours(&Cookie { client: [0; 8], ..sent }, peer, now), "another client cookie");
        assert!(!cookies.is_ours(&Cookie { server: None, ..sent }, peer, now), "none of ours");
        for octet in 0..16 {
            let mut server = sent.server.unwrap();
            server[octet] ^= 1;
            assert!(!cookies.is_ours(&Cookie { server: Some(server), ..sent }, peer, at(1)), "octet {octet}");
        }
        let later = cookies.reply(&sent, peer, at(400));
        let later = Cookie { client, server: later[8..].try_into().ok() };
        assert!(!cookies.is_ours(&later, peer, now), "from the future");
    }
}
