//! Any bytes as a snapshot: refused as they are; with a right header whatever they hold is read without a panic, and what
//! was read is the same when it is written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_sidecar::snapshot::{decode, encode};

fuzz_target!(|input: &[u8]| {
    decode(input).ok();
    let mut whole = b"PTLNVW01".to_vec();
    whole.extend_from_slice(&(input.len() as u64).to_le_bytes());
    whole.extend_from_slice(&crc32fast::hash(input).to_le_bytes());
    whole.extend_from_slice(input);
    if let Ok((view, provenance)) = decode(&whole) {
        let again = decode(&encode(&view, &provenance)).expect("what was written can be read");
        // What is derived (names behind addresses that two entries claim) depends on the order in the bytes, and may differ.
        let (again, its_provenance) = again;
        assert_eq!((again.services, again.nodes, again.index), (view.services, view.nodes, view.index));
        assert_eq!(its_provenance, provenance);
    }
});
