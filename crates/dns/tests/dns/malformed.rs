//! Packets that are no question, and questions that only look odd.

use portolan_dns::wire::{Decoded, Transport, decode};

/// `elasticsearch.prod.ecs.internal A`, with these header octets.
fn packet(flags: [u8; 2], counts: [u8; 8]) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, flags[0], flags[1]];
    packet.extend_from_slice(&counts);
    packet.extend_from_slice(b"\x0delasticsearch\x04prod\x03ecs\x08internal\x00\x00\x01\x00\x01");
    packet
}

const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

fn outcome(packet: &[u8]) -> String {
    match decode(packet, Transport::Udp) {
        Decoded::Ask(request) => format!("ask {}", request.reply_octets_max()),
        Decoded::Refuse(request, code) => {
            assert_eq!(request.id, 0x1234);
            format!("{code:?}")
        }
        Decoded::Drop => "drop".to_owned(),
    }
}

#[test]
fn says_what_is_wrong_with_a_packet() {
    let one = [0, 1, 0, 0, 0, 0, 0, 0];
    let with_opts = |count: u8, opt: &[u8]| {
        let mut packet = packet([1, 0], [0, 1, 0, 0, 0, 0, 0, count]);
        (0..count).for_each(|_| packet.extend_from_slice(opt));
        packet
    };
    let check = |packet: &[u8], expected: &str| assert_eq!(outcome(packet), expected, "{packet:02x?}");
    check(&packet([1, 0], one), "ask 512");
    check(&packet([0, 0xff], one), "ask 512");
    check(&with_opts(1, OPT), "ask 1232");
    check(&with_opts(1, b"\x00\x00\x29\x00\x00\x00\x00\x00\x00\x00\x00"), "ask 512");
    check(&with_opts(1, b"\x00\x00\x29\xff\xff\x00\x00\x00\x00\x00\x00"), "ask 1232");
    check(&with_opts(1, b"\x00\x00\x29\x04\xd0\x00\x00\xff\xff\x00\x00"), "ask 1232");
    check(&with_opts(1, b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x06\xff\xfe\x00\x02ab"), "ask 1232");
    check(&with_opts(1, b"\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x00"), "BADVERS");
    check(&with_opts(2, OPT), "FormErr");
    check(&with_opts(1, &OPT[..9]), "FormErr");
    check(&packet([0x81, 0x80], one), "drop");
    check(&packet([1, 0], one)[..11], "drop");
    check(&packet([1, 0], one)[..12], "FormErr");
    check(&packet([1, 0], [0; 8]), "FormErr");
    check(&packet([1, 0], [0, 2, 0, 0, 0, 0, 0, 0]), "FormErr");
    check(&packet([1, 0], [0xff; 8]), "FormErr");
    for opcode in 1..=15 {
        check(&packet([opcode << 3, 0], one), "NotImp");
    }
    let pointer_loop = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01";
    check(pointer_loop, "FormErr");
}

#[test]
fn a_name_has_255_octets_at_most() {
    let packet = |octets: usize, pointer: bool| {
        let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(pointer)];
        let mut name = [&[63], &[b'a'; 63][..]].concat().repeat(octets / 64);
        let rest = octets % 64;
        if rest > 2 {
            name.extend([&[rest as u8 - 2], &[b'b'; 63][..rest - 2]].concat());
        }
        name.push(0);
        // As the question's, or as the owner of a record.
        let question = if pointer { b"\x03web\0".to_vec() } else { name.clone() };
        packet.extend([&question, &[0, 1, 0, 1][..]].concat());
        if pointer {
            packet.extend([&name, &[0, 1, 0, 1, 0, 0, 0, 0, 0, 0][..]].concat());
        }
        packet
    };
    for is_owner in [false, true] {
        for (octets, expected) in [(64 * 3 + 63, "ask 512"), (64 * 4, "FormErr"), (64 * 4 + 20, "FormErr")] {
            assert_eq!(outcome(&packet(octets, is_owner)), expected, "{octets} {is_owner}");
        }
    }
}
