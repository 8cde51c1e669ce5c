//! What has to be written for a report that came: nothing, when it says what is there already.
//!
//! Two reports say the same when their bytes without session and generation are the same: the bytes and not what this
//! version reads of them, so that news in a field of a newer sidecar counts.

use bytes::Bytes;
use portolan_core::hash;

use super::Session;
use super::sessions::Held;
use crate::clock::Now;
use crate::store::record::{self, Presence};
use crate::store::{Expectation, Key, Transaction};

/// A report that came.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) session: &'a Session,
    pub(super) boot_id: &'a str,
    pub(super) generation: u64,
    pub(super) bytes: &'a Bytes,
    pub(super) fingerprint: u64,
}

/// What has to be written, with the presence in it if that changes; `None` when the report says nothing new.
pub(super) fn transaction(incoming: &Incoming<'_>, held: &Held, now: Now) -> Option<(Transaction, Option<Presence>)> {
    let node = &incoming.session.node;
    if held.is_speaking && held.fingerprint == Some((incoming.session.number, incoming.fingerprint)) {
        return None;
    }
    let expect = |key: Key, revision: Option<u64>| match revision {
        Some(revision) => Expectation::AtRevision(key, revision),
        None => Expectation::Absent(key),
    };
    let key = Key::Node(node.clone());
    let transaction = Transaction::at(now.unix_ms)
        .expecting(expect(key.clone(), held.report_revision))
        .putting(key, incoming.bytes.clone());
    if held.is_speaking {
        return Some((transaction, None));
    }
    let key = Key::Presence(node.clone());
    let presence = Presence { boot_id: incoming.boot_id.to_owned(), since_ms: now.unix_ms, silence: None };
    let expectation = expect(key.clone(), held.presence_revision);
    Some((transaction.expecting(expectation).putting(key, record::encode(&presence)), Some(presence)))
}

/// `session` and `generation` of `portolan.v1.NodeReport`.
const COUNTERS: [u64; 2] = [4, 5];

/// The fingerprint of an encoded report. Bytes that are not a message have that of their whole.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((field, length)) = field(rest) else { return hash::stable(&[bytes]) };
        let (this, next) = rest.split_at(length);
        if !COUNTERS.contains(&field) {
            parts.push(this);
        }
        rest = next;
    }
    hash::stable(&parts)
}

/// The number of the first field and its length with its tag, in bytes.
fn field(bytes: &[u8]) -> Option<(u64, usize)> {
    let (tag, start) = varint(bytes)?;
    let value = bytes.get(start..)?;
    let length = match tag & 7 {
        0 => varint(value)?.1,
        1 => 8,
        2 => {
            let (length, prefix) = varint(value)?;
            prefix.checked_add(usize::try_from(length).ok()?)?
        }
        5 => 4,
        _ => return None,
    };
    (length <= value.len()).then_some((tag >> 3, start + length))
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A report of these counters and this version text, written by hand.
    fn report(session: u8, generation: u8, version: &str) -> Vec<u8> {
        let mut bytes = vec![0x0a, 1, b'c', 0x20, session, 0x28, generation, 0x4a, version.len() as u8];
        bytes.extend_from_slice(version.as_bytes());
        bytes
    }

    #[test]
    fn passes_over_the_counters_and_nothing_else() {
        assert_eq!(fingerprint(&report(1, 2, "v")), fingerprint(&report(3, 4, "v")));
        assert_ne!(fingerprint(&report(1, 2, "v")), fingerprint(&report(1, 2, "w")));
        let mut with_news = report(1, 2, "v");
        with_news.extend_from_slice(&[0xa2, 0x06, 1, b'x']);
        assert_ne!(fingerprint(&with_news), fingerprint(&report(1, 2, "v")));
    }

    proptest! {
        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            fingerprint(&bytes);
        }
    }
}
