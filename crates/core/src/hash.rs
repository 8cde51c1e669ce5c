//! One hash that stays the same on every machine and in every version: stored names and virtual addresses depend on it.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// A stable 64-bit hash of `parts`; the boundaries between parts count.
pub fn stable(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new();
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_changes() {
        assert_eq!(stable(&[b"prod", b"elasticsearch"]), 15_577_640_076_926_773_722);
    }

    #[test]
    fn tells_parts_apart() {
        assert_ne!(stable(&[b"ab", b"c"]), stable(&[b"a", b"bc"]));
    }
}
