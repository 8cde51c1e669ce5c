//! CPU per DNS question: the registry beside other servers with the same names, and beside two programs that do nothing but
//! receive, look up and send, in one run, in turn.
//!
//! 1,000 services of four endpoints. Each server is pinned to CPU 0, the generator to CPU 1; CPU time is the server's own, from
//! /proc, per answered question. What is not installed is left out. All of it runs in a network namespace without rules.
//! Usage: bench_dns PATH/TO/portolan-registry [ROUNDS]

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod limit;
mod load;
mod peers;
mod questions;
mod server;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use portolan_tests::process;

use limit::Way;
use load::{Figure, load};
use questions::{Kind, questions};
use server::{FIXED, PORTOLAN, Server, TABLE};

/// How the program is started again, inside its namespace.
const INSIDE: &str = "inside";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [FIXED, port, replies] => limit::serve(port.parse()?, Way::Fixed, replies),
        [TABLE, port, replies] => limit::serve(port.parse()?, Way::Table, replies),
        [INSIDE, binary, rounds] => compare(binary, rounds.parse().context("ROUNDS is a number")?),
        [binary, ref rest @ ..] => again(&[INSIDE, binary, rest.first().unwrap_or(&"5")]),
        [] => anyhow::bail!("usage: bench_dns PATH/TO/portolan-registry [ROUNDS]"),
    }
}

/// Docker's rules would have every packet on the host's loopback tracked.
fn again(arguments: &[&str]) -> Result<()> {
    let own = std::env::current_exe().context("where this program is")?;
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(own)
        .args(arguments)
        .status()
        .context("run unshare")?;
    ensure!(status.success(), "the benchmark ended with {status}");
    Ok(())
}

fn compare(binary: &str, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (portolan, nodes) = runtime.block_on(server::portolan(binary, folder.path()))?;
    // Silent nodes would be doubted, and their services change.
    for mut node in nodes {
        runtime.spawn(async move { node.speak().await });
    }
    let mut servers = Vec::from(server::limits(folder.path(), &portolan)?);
    servers.push(portolan);
    servers.extend(peers::start(folder.path())?);
    process::pin(std::process::id(), 1)?;
    let mut figures: Vec<Vec<Vec<Figure>>> = vec![vec![Vec::new(); servers.len()]; Kind::ALL.len()];
    for round in 0..rounds {
        for (kind, figures) in Kind::ALL.iter().zip(&mut figures) {
            let questions = questions(*kind)?;
            for turn in 0..servers.len() {
                // Another one begins each round.
                let which = (turn + round) % servers.len();
                let figure = load(&servers[which], &questions, *kind)?;
                println!("round {round} {:8} {:9} {figure}", kind.name(), servers[which].name);
                figures[which].push(figure);
            }
        }
    }
    for (kind, figures) in Kind::ALL.iter().zip(&figures) {
        show(*kind, &servers, figures);
    }
    Ok(())
}

/// One table: medians, and the ratio to the limit program `table` and of Portolan to each, which is the median of the rounds' ratios.
fn show(kind: Kind, servers: &[Server], figures: &[Vec<Figure>]) {
    println!("\n{}: CPU per question, us, median (min-max); of that user; x {TABLE}; Portolan x this one", kind.name());
    let place = |name: &str| servers.iter().position(|server| server.name == name).unwrap_or_default();
    let (limit, portolan) = (&figures[place(TABLE)], &figures[place(PORTOLAN)]);
    for (server, own) in servers.iter().zip(figures) {
        let total = own.iter().map(Figure::total_us).collect::<Vec<_>>();
        let (least, most) = total.iter().fold((f64::MAX, 0f64), |(a, b), us| (a.min(*us), b.max(*us)));
        println!(
            "{:9} {:5.2} ({least:.2}-{most:.2})  user {:4.2}  {:4.2}  {:4.2}  {:7.0}/s",
            server.name,
            median(total),
            median(own.iter().map(|figure| figure.user_us).collect()),
            ratio(own, limit),
            ratio(portolan, own),
            median(own.iter().map(|figure| figure.rate).collect()),
        );
    }
}

fn ratio(one: &[Figure], other: &[Figure]) -> f64 {
    median(one.iter().zip(other).map(|(one, other)| one.total_us() / other.total_us()).collect())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
