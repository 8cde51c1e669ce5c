//! The packet parser alone, for numbers: never a panic, and what it takes for a question has a name that is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_dns::wire::{Decoded, Transport, decode};

/// RFC 1035 section 2.3.4.
const NAME_OCTETS_MAX: usize = 255;

fuzz_target!(|packet: &[u8]| {
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Decoded::Ask(request) = decode(packet, transport) {
            let question = request.question.as_ref().expect("a request to answer has a question");
            assert!(question.name.len() <= NAME_OCTETS_MAX, "{question:?}");
            assert!(request.reply_octets_max() >= 512);
        }
    }
});
