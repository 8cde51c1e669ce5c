//! Spoilt questions, by UDP and TCP, to a registry that runs: it answers good ones all the while, says nothing that cannot be read, and
//! keeps nothing.
//!
//! `SECONDS=600 PORTOLAN_BIN=$PWD/target/release cargo test --workspace --test live_fuzz -- --nocapture` does so for longer, to
//! the program that is installed. Arithmetic that overflows is an error in every profile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::{Name, RecordType};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use portolan_tests::janitor::{self, Kind};
use portolan_tests::namespace::Network;
use portolan_tests::programs::Program;
use portolan_tests::site::{REGISTRY_DNS, REGISTRY_HTTP, is_ready};
use portolan_tests::wait::{PATIENCE, now};
use portolan_tests::{needs, process, report};

/// For how long, unless `SECONDS` says otherwise.
const SECONDS: u64 = 5;
/// So many spoilt questions, then a good one. They fit into what a socket holds.
const AT_ONCE: usize = 64;
/// What it may keep in memory of them, kB.
const GROWTH_KB_MAX: u64 = 16 * 1024;
/// Longer than any reply by UDP.
const REPLY_BYTES_MAX: usize = 4096;

/// What the questions are made from: the fuzzer's kept inputs, without the octet that chooses, and whole questions.
fn seeds() -> anyhow::Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/dns_question");
    for entry in std::fs::read_dir(&corpus).with_context(|| corpus.display().to_string())? {
        seeds.extend(std::fs::read(entry?.path())?.split_first().map(|(_, packet)| packet.to_vec()));
    }
    anyhow::ensure!(seeds.len() >= 10, "the corpus has {} inputs", seeds.len());
    for name in ["ecs.internal.", "database.production.ecs.internal.", "ip-10-9-9-9.addr.ecs.internal."] {
        for kind in [RecordType::A, RecordType::SRV, RecordType::ANY, RecordType::AXFR, RecordType::SOA] {
            seeds.push(question(name, kind)?);
        }
    }
    Ok(seeds)
}

fn question(name: &str, kind: RecordType) -> anyhow::Result<Vec<u8>> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name)?, kind));
    Ok(message.to_vec()?)
}

/// A question of these, with up to eight things done to it.
fn spoilt(dice: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = seeds[dice.random_range(0..seeds.len())].clone();
    for _ in 0..dice.random_range(0..8) {
        let at = dice.random_range(0..=packet.len());
        match dice.random_range(0..7) {
            0 => packet.truncate(at),
            1 => packet.insert(at, dice.random()),
            2 if at < packet.len() => packet[at] = dice.random(),
            3 if at < packet.len() => packet[at] ^= 1 << dice.random_range(0..8),
            // Lengths and pointers.
            4 if at < packet.len() => packet[at] = [0, 1, 63, 64, 0xc0, 0xff][dice.random_range(0..6)],
            5 => {
                let other = &seeds[dice.random_range(0..seeds.len())];
                packet.splice(at.., other[dice.random_range(0..=other.len())..].iter().copied());
            }
            _ => {
                let part = packet[at..].to_vec();
                packet.extend(part);
            }
        }
    }
    packet.truncate(REPLY_BYTES_MAX);
    packet
}

/// A good question is answered; what came before its answer can be read.
fn answers(socket: &UdpSocket, dice: &mut impl Rng) -> anyhow::Result<u64> {
    let mut good = question("database.production.ecs.internal.", RecordType::SRV)?;
    let (mut buffer, mut replies) = ([0; REPLY_BYTES_MAX], 0);
    for _ in 0..3 {
        let id = dice.random::<[u8; 2]>();
        good[..2].copy_from_slice(&id);
        socket.send(&good)?;
        // A datagram that was lost is asked for again.
        while let Ok(length) = socket.recv(&mut buffer) {
            let reply = Message::from_vec(&buffer[..length]).with_context(|| format!("{:02x?}", &buffer[..length]))?;
            anyhow::ensure!(reply.metadata.message_type == MessageType::Response, "{reply}");
            replies += 1;
            if buffer[..2] == id && reply.answers.len() == 1 {
                return Ok(replies);
            }
        }
    }
    anyhow::bail!("a good question got no answer")
}

/// Sends spoilt questions on one connection, in pieces, and reads what comes until it is closed.
fn by_tcp(addr: SocketAddr, dice: &mut StdRng, seeds: &[Vec<u8>]) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut octets = Vec::new();
    for _ in 0..dice.random_range(1..8) {
        let packet = spoilt(dice, seeds);
        // Now and then the length lies.
        let length = if dice.random_bool(0.05) { dice.random() } else { packet.len() as u16 };
        octets.extend([&length.to_be_bytes()[..], &packet].concat());
    }
    for piece in octets.chunks(dice.random_range(1..=octets.len())) {
        // It may have been closed meanwhile, for what was sent before.
        if stream.write_all(piece).is_err() {
            return Ok(());
        }
    }
    stream.shutdown(std::net::Shutdown::Write).ok();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).ok();
    let mut rest = received.as_slice();
    while let Some((length, tail)) = rest.split_first_chunk() {
        let Some((reply, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { break };
        Message::from_vec(reply).with_context(|| format!("{reply:02x?}"))?;
        rest = tail;
    }
    Ok(())
}

#[test]
fn spoilt_questions_harm_nobody() -> anyhow::Result<()> {
    needs!("ip", "nsenter");
    let network = Network::new()?;
    let host = network.node("host")?;
    let data = format!("--data-dir={}", janitor::folder(&janitor::unique("data"), Kind::Folder)?.display());
    let mut registry = Program::start(&host, "portolan-registry", &[&data])?;
    registry.listening("dns")?;
    is_ready(&host, REGISTRY_HTTP)?;
    host.portolan(&["external", "set", "database.production", "10.9.9.9:5432"])?.done()?;
    let socket = host.inside(|| UdpSocket::bind("127.0.0.1:0"))??;
    socket.connect(REGISTRY_DNS)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let seconds = std::env::var("SECONDS").ok().map_or(Ok(SECONDS), |text| text.parse())?;
    let seed = rand::random();
    let dice = &mut StdRng::seed_from_u64(seed);
    let (seeds, before_kb) = (seeds()?, process::resident_kb(registry.pid())?);
    let (began, mut sent, mut replies) = (now(), 0_u64, 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..AT_ONCE {
            socket.send(&spoilt(dice, &seeds))?;
            sent += 1;
        }
        replies += answers(&socket, dice).with_context(|| format!("seed {seed}, after {sent}"))?;
        host.inside(|| by_tcp(REGISTRY_DNS, dice, &seeds))?.with_context(|| format!("seed {seed}, after {sent}"))?;
    }
    let grown_kb = process::resident_kb(registry.pid())?.saturating_sub(before_kb);
    report::say(&format!("{sent} spoilt questions, {replies} replies, {grown_kb} kB more than before (seed {seed})"));
    assert!(grown_kb <= GROWTH_KB_MAX, "{grown_kb} kB more than before, seed {seed}");
    assert!(!registry.log().contains("panicked"), "seed {seed}: {}", registry.log());
    Ok(())
}
