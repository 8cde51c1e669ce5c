//! What the worst packets cost: CPU time of the worker that gets them, bounded per packet, and nothing that stays behind.
//!
//! `cargo test --profile quick -p portolan-dns --test dns worst -- --nocapture` shows the figures that mean something.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use portolan_dns::wire::Transport;

use crate::desked::Desked;
use crate::fixture;

/// What a packet may cost where the program is optimised; a debug build is held to thirty times as much.
const COST_MAX: Duration = Duration::from_micros(20);
/// What one octet of a long TCP message adds to that: reading it costs more than answering does.
const COST_PER_KIBIOCTET: Duration = Duration::from_micros(1);
const ROUNDS: u32 = 5;
const PACKETS: u32 = 10;

/// CPU time of this thread.
fn cpu() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
}

fn message(counts: [u16; 4], parts: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0];
    counts.iter().for_each(|count| message.extend(count.to_be_bytes()));
    message.extend(parts.concat());
    message
}

fn question(labels: &[&[u8]], record_type: u16) -> Vec<u8> {
    let mut question: Vec<u8> = labels.iter().flat_map(|label| [&[label.len() as u8], *label].concat()).collect();
    question.push(0);
    question.extend([record_type, 1].map(u16::to_be_bytes).concat());
    question
}

fn opt(options: &[u8]) -> Vec<u8> {
    let mut opt = vec![0, 0, 41, 4, 0xd0, 0, 0, 0, 0];
    opt.extend((options.len() as u16).to_be_bytes());
    opt.extend(options);
    opt
}

/// The worst that is known of each kind, for a message of `octets`.
fn worst(octets: usize) -> Vec<(&'static str, Vec<u8>)> {
    let web = question(&[b"web", b"prod", b"ecs", b"internal"], 1);
    let room = octets - 12 - web.len();
    let record: &[u8] = &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    let pointed: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    let many = |one: &[u8]| one.repeat(room / one.len());
    let count = |one: &[u8]| (room / one.len()) as u16;
    let long_name = [&[1, b'a'].repeat(room / 2 - 6)[..], &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    vec![
        ("records", message([1, 0, 0, count(record)], &[&web, &many(record)])),
        ("records in every section", message([1, count(record) / 2, count(record) / 2, 0], &[&web, &many(record)])),
        ("pointers", message([1, count(pointed), 0, 0], &[&web, &many(pointed)])),
        ("counts that lie", message([1, 65_535, 65_535, 65_535], &[&web, &many(record)])),
        ("options", message([1, 0, 0, 1], &[&web, &opt(&[0, 100, 0, 0].repeat((room - 11) / 4))])),
        ("cookies", message([1, 0, 0, 1], &[&web, &opt(&b"\0\x0a\0\x0812345678".repeat((room - 11) / 12))])),
        ("an endless name", message([1, 0, 0, 1], &[&web, &long_name])),
        ("an endless question", message([1, 0, 0, 0], &[&[1, b'a'].repeat(room / 2)])),
    ]
}

/// The worst that can be asked of the view by a good question.
fn questions() -> Vec<(&'static str, Vec<u8>)> {
    let single: Vec<&[u8]> = [&b"a"[..]; 119].into_iter().chain([&b"ecs"[..], b"internal"]).collect();
    let long: Vec<&[u8]> = vec![&[b'x'; 63], &[b'y'; 63], &[b'z'; 63], &[b'w'; 47], b"ecs", b"internal"];
    let cookie = opt(b"\0\x0a\0\x0812345678");
    let asked = |labels: &[&[u8]], record_type| message([1, 0, 0, 1], &[&question(labels, record_type), &cookie]);
    vec![
        ("127 labels", asked(&single, 1)),
        ("255 octets", asked(&long, 1)),
        ("no such name", asked(&[b"nobody", b"prod", b"ecs", b"internal"], 33)),
        ("many addresses", asked(&[b"many", b"prod", b"ecs", b"internal"], 1)),
        ("many services, cut", asked(&[b"many", b"prod", b"ecs", b"internal"], 33)),
        ("a port", asked(&[b"_http", b"_tcp", b"elasticsearch", b"prod", b"ecs", b"internal"], 33)),
        ("another class", message([1, 0, 0, 0], &[b"\x03web\0\0\x01\xff\xff"])),
        ("every record", asked(&[b"many", b"prod", b"ecs", b"internal"], 255)),
        ("a signature", {
            let data = b"\x0bhmac-sha256\0\0\0\0\0\0\0\x01\x2c\0\0\x12\x34\0\0\0\0";
            let record = [b"\0\0\xfa\0\xff\0\0\0\0\0", &[data.len() as u8][..], data].concat();
            message([1, 0, 0, 1], &[&question(&[b"ecs", b"internal"], 6), &record])
        }),
    ]
}

fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/dns_question");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    // The first octet is the fuzz target's own.
    files.filter(|octets| octets.len() > 1).map(|octets| ("fuzz corpus", octets[1..].to_vec())).collect()
}

/// The least of several rounds: what the machine does besides is not what is measured.
fn cost(server: &mut Desked, octets: &[u8], way: Transport) -> Duration {
    let round = |server: &mut Desked| {
        let before = cpu();
        for _ in 0..PACKETS {
            server.ask(("10.0.0.1", way), octets, Duration::ZERO);
        }
        (cpu() - before) / PACKETS
    };
    (0..ROUNDS).map(|_| round(server)).min().unwrap()
}

#[test]
fn no_packet_costs_more_than_20_microseconds() {
    // Twenty times when the other half of the core is idle; CPU time grows by half when it is not.
    let slower = if cfg!(debug_assertions) { 30 } else { 1 };
    let mut server = Desked::of(fixture::view());
    let datagrams = worst(1232).into_iter().chain(questions()).chain(corpus()).map(|known| (Transport::Udp, known));
    let streams = worst(65_535).into_iter().chain(questions()).map(|known| (Transport::Tcp, known));
    for (way, (what, octets)) in datagrams.chain(streams) {
        let cost = cost(&mut server, &octets, way);
        eprintln!("{cost:>10.2?} {way:?} {:>6} octets: {what}", octets.len());
        let most = COST_MAX + COST_PER_KIBIOCTET * (octets.len() as u32 / 1024);
        assert!(cost <= most * slower, "{what} over {way:?}: {cost:?}");
    }
}
