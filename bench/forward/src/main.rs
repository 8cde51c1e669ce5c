//! CPU and memory of forwarded questions: from a packet to the packet of its reply, by our forwarder or by hickory-resolver.
//!
//! Usage: portolan-bench-forward ours|hickory UPSTREAM MISSES HITS. It asks for that many names that nobody asked for before, 400 a
//! second (our forwarder asks at most 500), then for a thousand names over and over. `run` starts an upstream and does it in turn.

mod hickory;
mod ours;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

const BETWEEN_MISSES: Duration = Duration::from_micros(2_500);
const NAMES: usize = 1_000;

/// Whoever forwards.
enum Forwarder {
    Ours(ours::Ours),
    Hickory(hickory::Hickory),
}

impl Forwarder {
    async fn reply(&self, packet: &[u8]) -> Result<Vec<u8>> {
        match self {
            Forwarder::Ours(ours) => ours.reply(packet).await,
            Forwarder::Hickory(hickory) => hickory.reply(packet).await,
        }
    }
}

/// One worker thread, so that what is measured is work and not its distribution.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [which, upstream, misses, hits] = &arguments[..] else {
        bail!("usage: portolan-bench-forward ours|hickory UPSTREAM MISSES HITS");
    };
    let upstream: SocketAddr = upstream.parse().context("UPSTREAM is an address and a port")?;
    let (misses, hits): (usize, usize) = (misses.parse()?, hits.parse()?);
    let forwarder = match which.as_str() {
        "ours" => Forwarder::Ours(ours::Ours::new(upstream)),
        "hickory" => Forwarder::Hickory(hickory::Hickory::new(upstream)?),
        _ => bail!("no such forwarder: {which}"),
    };
    let idle_kb = resident_kb()?;
    let packets = questions("miss", misses)?;
    let before = cpu()?;
    let mut ticks = tokio::time::interval(BETWEEN_MISSES);
    for packet in &packets {
        ticks.tick().await;
        ask(&forwarder, packet).await?;
    }
    let miss_us = (cpu()? - before).as_secs_f64() * 1e6 / misses as f64;
    let full_kb = resident_kb()?;
    let packets = questions("hit", NAMES)?;
    for packet in &packets {
        ticks.tick().await;
        ask(&forwarder, packet).await?;
    }
    let before = cpu()?;
    for packet in packets.iter().cycle().take(hits) {
        ask(&forwarder, packet).await?;
    }
    let hit_us = (cpu()? - before).as_secs_f64() * 1e6 / hits as f64;
    println!("{which:8} miss {miss_us:7.1} us  hit {hit_us:6.2} us  resident {idle_kb} kB, {full_kb} kB after the misses");
    Ok(())
}

async fn ask(forwarder: &Forwarder, packet: &[u8]) -> Result<()> {
    let reply = forwarder.reply(packet).await?;
    ensure!(reply.len() > 12 && reply[..2] == packet[..2] && reply[7] == 1, "no answer: {reply:?}");
    Ok(())
}

fn questions(prefix: &str, count: usize) -> Result<Vec<Vec<u8>>> {
    let question = |n: usize| {
        let mut message = Message::new(n as u16, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(format!("{prefix}-{n}.example."))?, RecordType::A));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        message.edns = Some(edns);
        anyhow::Ok(message.to_vec()?)
    };
    (0..count).map(question).collect()
}

/// CPU time of the one thread that does the work, to the nanosecond.
fn cpu() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("read CPU time")?;
    let spent = text.split_whitespace().next().context("a figure")?.parse()?;
    Ok(Duration::from_nanos(spent))
}

fn resident_kb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
