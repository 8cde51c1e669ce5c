//! Floods of every kind, against the real programs: questions of the zone are answered all the while, and memory is bounded.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use portolan_tests::janitor::{self, Kind};
use portolan_tests::namespace::{Namespace, Network};
use portolan_tests::programs::Program;
use portolan_tests::site::{NODE_DNS, REGISTRY_HTTP, is_ready, start_sidecar};
use portolan_tests::wait::{PATIENCE, eventually, pause};
use portolan_tests::{needs, process, report};

/// What is declared, so that the zone has something.
const NAME: &str = "database.production";
const PLACE: &str = "10.9.9.9:5432";
/// What a question of the zone is answered.
const QUESTION: &str = "database.production.ecs.internal SRV";
/// A datagram that the kernel had no room for is sent again, by every resolver.
const TRIES: &str = "+tries=3";
/// Connections that do nothing.
const IDLE_CONNECTIONS: usize = 10_000;
/// Datagrams of a flood at least; it goes on until every good question was asked.
const DATAGRAMS: u64 = 50_000;
/// So many of them come at once, some 5,000 in a second: what an unoptimised build on a loaded machine can read. What nobody
/// reads in time the kernel loses, whoever sent it.
const AT_ONCE: u64 = 8;
/// Between those.
const MOMENT: Duration = Duration::from_millis(1);
/// Good questions while a flood goes on.
const QUESTIONS: usize = 50;
/// What a flood may leave in memory, kB. The table of limited networks and the forwarder's store are smaller in sum.
const GROWTH_KB_MAX: u64 = 24 * 1024;

/// A registry that may be asked from elsewhere, somebody who asks, and somebody who floods.
struct Scene {
    registry: Program,
    host: Arc<Namespace>,
    asker: Arc<Namespace>,
    flooder: Arc<Namespace>,
    _network: Network,
}

impl Scene {
    fn start() -> anyhow::Result<Self> {
        let network = Network::new()?;
        let (host, asker, flooder) = (network.node("host")?, network.node("asker")?, network.node("flooder")?);
        let data = format!("--data-dir={}", janitor::folder(&janitor::unique("data"), Kind::Folder)?.display());
        let args = [data.as_str(), "--dns-listen=0.0.0.0:8600"];
        let mut registry = Program::start(&host, "portolan-registry", &args)?;
        registry.listening("dns")?;
        is_ready(&host, REGISTRY_HTTP)?;
        host.portolan(&["external", "set", NAME, PLACE])?.done()?;
        let scene = Scene { registry, host, asker, flooder, _network: network };
        eventually(PATIENCE, || scene.asks(""))?;
        Ok(scene)
    }

    fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.host.addr(), 8600)
    }

    /// Asks the registry, as resolvers do.
    fn asks(&self, how: &str) -> anyhow::Result<()> {
        let dug = self.asker.dig(self.dns(), &format!("{QUESTION} +norecurse {TRIES} {how}"))?;
        anyhow::ensure!(dug.status == "NOERROR" && dug.data("SRV").len() == 1, "{}", dug.text);
        Ok(())
    }

    fn is_not_harmed(&self, before_kb: u64) -> anyhow::Result<()> {
        grew(self.registry.pid(), before_kb)
    }
}

fn grew(pid: u32, before_kb: u64) -> anyhow::Result<()> {
    let grown_kb = process::resident_peak_kb(pid)?.saturating_sub(before_kb);
    report::say(&format!("at most {grown_kb} kB more than the {before_kb} kB before"));
    anyhow::ensure!(grown_kb <= GROWTH_KB_MAX, "{grown_kb} kB more than before");
    Ok(())
}

fn question(name: &str, record_type: RecordType) -> anyhow::Result<Vec<u8>> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name)?, record_type));
    Ok(message.to_vec()?)
}

fn framed(message: &[u8]) -> anyhow::Result<Vec<u8>> {
    Ok([&u16::try_from(message.len())?.to_be_bytes()[..], message].concat())
}

/// A name that nobody asked before.
fn random_name(dice: &mut impl Rng, suffix: &str) -> String {
    format!("{:016x}.{suffix}", dice.random::<u64>())
}

/// Sends datagrams until `good` was done and enough are sent; how many.
fn flood(
    mut datagram: impl FnMut(u64) -> anyhow::Result<()> + Send,
    good: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) || sent.load(Ordering::Relaxed) < DATAGRAMS {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                datagram(number)?;
                if number % AT_ONCE == 0 {
                    pause(MOMENT);
                }
            }
            anyhow::Ok(())
        });
        let good = eventually(PATIENCE, || if sent.load(Ordering::Relaxed) > 1_000 { Ok(()) } else { Err("no flood") })
            .and_then(|()| good());
        is_over.store(true, Ordering::Relaxed);
        sending.join().map_err(|_| anyhow::anyhow!("flooding panicked"))??;
        good.map(|()| sent.load(Ordering::Relaxed))
    })
}

/// A kernel that has no room for a datagram loses it; that is the flood's own limit.
fn send(socket: &UdpSocket, octets: &[u8], to: SocketAddr) {
    if socket.send_to(octets, to).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn ten_thousand_idle_connections_and_slow_ones_keep_out_nobody() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig");
    let scene = Scene::start()?;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let enough = IDLE_CONNECTIONS as u64 + 1_000;
    let maximum = maximum.map(|most| most.max(enough));
    setrlimit(Resource::Nofile, Rlimit { current: Some(enough), maximum }).context("open as many files")?;
    let before_kb = process::resident_kb(scene.registry.pid())?;
    let mut idle = Vec::new();
    for number in 0..IDLE_CONNECTIONS {
        idle.push(scene.flooder.inside(|| TcpStream::connect_timeout(&scene.dns(), PATIENCE))??);
        if number % (IDLE_CONNECTIONS / QUESTIONS) == 0 {
            scene.asks("+tcp").with_context(|| format!("beside {number} idle connections"))?;
            scene.asks("+notcp")?;
        }
    }
    // Those that begin a question and never end it, and those that ask without reading the replies.
    let octets = framed(&question(&format!("{NAME}.ecs.internal."), RecordType::SRV)?)?;
    for number in 0..200 {
        let mut stream = scene.flooder.inside(|| TcpStream::connect_timeout(&scene.dns(), PATIENCE))??;
        stream.set_nonblocking(true)?;
        let many = octets.repeat(if number % 2 == 0 { 2_000 } else { 0 });
        // What the kernel does not take is not sent.
        stream.write_all(&[&many[..], &octets[..octets.len() / 2]].concat()).ok();
        idle.push(stream);
        if number % 10 == 0 {
            scene.asks("+tcp").with_context(|| format!("beside {number} slow connections"))?;
        }
    }
    scene.is_not_harmed(before_kb)
}

#[test]
fn random_names_and_forged_sources_neither_stay_nor_disturb() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig");
    let scene = Scene::start()?;
    let before_kb = process::resident_kb(scene.registry.pid())?;
    let seed = 7;
    let dice = &mut StdRng::seed_from_u64(seed);
    // Any address of a shared and of a public network is the flooder's own: it sends from all of them.
    for network in ["100.64.0.0/10", "198.51.100.0/24", "203.0.113.0/24"] {
        scene.flooder.ip(&format!("route add local {network} dev lo"))?;
    }
    let to = scene.dns();
    let mut socket = scene.flooder.inside(|| UdpSocket::bind("0.0.0.0:0"))??;
    let suffixes = ["production.ecs.internal.", "ecs.internal.", "example.com."];
    let good = || (0..QUESTIONS).try_for_each(|number| scene.asks(["+notcp", "+tcp"][number % 2]));
    let sent = flood(
        |number| {
            if number % 16 == 0 {
                let shared =
                    Ipv4Addr::from_bits(Ipv4Addr::new(100, 64, 0, 0).to_bits() + dice.random_range(1..1 << 22));
                let public = Ipv4Addr::new(203, 0, 113, dice.random_range(1..255));
                let source = if dice.random_bool(0.5) { shared } else { public };
                socket = scene.flooder.inside(|| UdpSocket::bind((source, 0)))??;
            }
            let name = random_name(dice, suffixes[(number % 3) as usize]);
            send(&socket, &question(&name, RecordType::A)?, to);
            Ok(())
        },
        good,
    );
    let sent = sent.with_context(|| format!("seed {seed}"))?;
    report::say(&format!("{sent} datagrams of random names from random addresses"));
    scene.is_not_harmed(before_kb)
}

#[test]
fn names_of_others_that_nobody_answers_leave_the_zone_alone() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    // An upstream that takes every question and says nothing.
    let silent = scene.flooder.inside(|| UdpSocket::bind((scene.flooder.addr(), 53)))??;
    let upstream = format!("--upstreams={}", silent.local_addr()?);
    let mut sidecar = start_sidecar(&scene.host, Path::new("/nonexistent"), &["--node=a", &upstream])?;
    sidecar.listening("node-dns")?;
    let asks = || {
        let dug = scene.host.dig(NODE_DNS, &format!("{QUESTION} {TRIES}"))?;
        anyhow::ensure!(dug.status == "NOERROR" && dug.data("SRV").len() == 1, "{}", dug.text);
        Ok(())
    };
    eventually(PATIENCE, asks)?;
    let before_kb = process::resident_kb(sidecar.worker_pid()?)?;
    let socket = scene.host.inside(|| UdpSocket::bind("0.0.0.0:0"))??;
    let seed = 8;
    let dice = &mut StdRng::seed_from_u64(seed);
    let sent = flood(
        |_| {
            send(&socket, &question(&random_name(dice, "example.com."), RecordType::A)?, NODE_DNS);
            Ok(())
        },
        || (0..QUESTIONS).try_for_each(|_| asks()),
    );
    let sent = sent.with_context(|| format!("seed {seed}"))?;
    report::say(&format!("{sent} questions for names that nobody answers"));
    grew(sidecar.worker_pid()?, before_kb)
}
