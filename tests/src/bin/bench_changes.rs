//! From a change on one node to the changed answer on another: p50 and p99.
//!
//! Node a has a Docker engine, a registry and a sidecar; node b has a sidecar that follows. One container of a linked service is
//! started and killed over and over; a client on node b asks its sidecar's DNS without pause. Times are from Docker's own
//! stamp of the `start` event, and from the moment the process is dead (its pidfd), to the first changed answer.
//! Usage: bench_changes [CHANGES]; PORTOLAN_BIN names the folder of the programs.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use portolan_tests::container::{Container, EcsTask};
use portolan_tests::dockerd::Engine;
use portolan_tests::namespace::Namespace;
use portolan_tests::process;
use portolan_tests::site::{CLUSTER, NODE_DNS, REGISTRY_GRPC, Site, start_sidecar};
use portolan_tests::wait::{PATIENCE, eventually, pause};
use portolan_tests::wire::Wire;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long Docker's stamp of an event may take to be read.
const STAMP_PATIENCE: Duration = Duration::from_secs(2);
/// Between two questions: the client must not take the processor from what it measures.
const ASK_EVERY: Duration = Duration::from_micros(200);

fn main() -> Result<()> {
    let changes: usize = std::env::args().nth(1).map_or(Ok(500), |text| text.parse()).context("CHANGES is a number")?;
    let site = Site::start()?;
    let other = site.lab.another_node()?;
    let _wire = Wire::lay(&other, site.node(), REGISTRY_GRPC)?;
    let nowhere = std::path::Path::new("/nonexistent/docker.sock");
    let mut follower = start_sidecar(&other, nowhere, &["--node=b"])?;
    follower.listening("node-dns")?;
    let task = EcsTask::new(CLUSTER, "bench");
    let _stays = site.lab.engine.run_task(&task, &["-p", "0:9200"], &["elasticsearch"])?;
    let comes_and_goes = site.lab.engine.run_task(&task, &["-p", "0:9200"], &["elasticsearch"])?;
    let answers = watch_answers(&other)?;
    wait_for(&answers, 2)?;
    let stamps = Stamps::follow(&site.lab.engine)?;
    let mut figures = Figures::default();
    for _ in 0..changes / 2 {
        figures.deaths.push(death(&comes_and_goes, &answers)?);
        comes_and_goes.docker(&["start"])?;
        let changed_ns = wait_for(&answers, 2)?;
        // Docker drops events to slow readers; a change without its stamp is no figure.
        match stamps.newest("start") {
            Ok(started_ns) => figures.starts.push(changed_ns.saturating_sub(started_ns)),
            Err(error) => println!("one start has no figure: {error:#}"),
        }
    }
    figures.print();
    let (sidecar, following) = (site.sidecar.worker_pid()?, follower.worker_pid()?);
    for (name, pid) in [("registry", site.registry.pid()), ("sidecar", sidecar), ("following sidecar", following)] {
        println!("{name}: {} kB resident", process::resident_kb(pid)?);
    }
    Ok(())
}

/// Kills the container; gives the time from its death to the changed answer.
fn death(container: &Container, answers: &Receiver<(u16, u64)>) -> Result<u64> {
    let pid = Pid::from_raw(container.pid()?.cast_signed()).context("a process id")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    std::thread::scope(|scope| -> Result<u64> {
        let dead = scope.spawn(|| {
            poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).ok();
            unix_ns()
        });
        container.kill()?;
        let dead_ns = dead.join().ok().context("the waiting thread panicked")?;
        Ok(wait_for(answers, 1)?.saturating_sub(dead_ns))
    })
}

#[derive(Default)]
struct Figures {
    starts: Vec<u64>,
    deaths: Vec<u64>,
}

impl Figures {
    fn print(self) {
        for (name, mut took_ns) in [("start event", self.starts), ("process death", self.deaths)] {
            took_ns.sort_unstable();
            let at = |share: usize| took_ns[(took_ns.len() - 1) * share / 100] as f64 / 1e6;
            println!(
                "{name} to the changed answer on the other node, {} changes: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
                took_ns.len(),
                at(50),
                at(90),
                at(99),
                at(100)
            );
        }
    }
}

/// Asks without pause; sends (number of answers, when) at each change.
fn watch_answers(node: &Arc<Namespace>) -> Result<Receiver<(u16, u64)>> {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(format!("_9200._tcp.bench.{CLUSTER}.ecs.internal."))?;
    question.add_query(Query::query(name, RecordType::SRV));
    let question = question.to_vec()?;
    let socket = node.inside(|| UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect(NODE_DNS).map(|()| s)))??;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (changes, answers) = channel();
    std::thread::spawn(move || {
        let (mut buffer, mut last) = ([0; 1500], None);
        loop {
            socket.send(&question).ok();
            if socket.recv(&mut buffer).is_ok_and(|length| length >= 12) {
                let now = u16::from_be_bytes([buffer[6], buffer[7]]);
                if last != Some(now) {
                    last = Some(now);
                    if changes.send((now, unix_ns())).is_err() {
                        return;
                    }
                }
            }
            pause(ASK_EVERY);
        }
    });
    Ok(answers)
}

/// When the number of answers became `expected`.
fn wait_for(answers: &Receiver<(u16, u64)>, expected: u16) -> Result<u64> {
    loop {
        let (number, at_ns) = answers.recv_timeout(PATIENCE).with_context(|| format!("wait for {expected} answers"))?;
        if number == expected {
            return Ok(at_ns);
        }
    }
}

/// Docker's own stamps of its newest events, by action.
struct Stamps(Arc<Mutex<HashMap<String, u64>>>);

impl Stamps {
    fn follow(engine: &Engine) -> Result<Stamps> {
        let mut command = engine.command();
        command.args(["events", "--filter", "type=container", "--format", "{{.Action}} {{.TimeNano}}"]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("the events' output")?;
        let stamps = Stamps(Arc::default());
        let written = stamps.0.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((action, at)) = line.split_once(' ') {
                    let at_ns = at.parse().unwrap_or(0);
                    written.lock().unwrap_or_else(PoisonError::into_inner).insert(action.to_owned(), at_ns);
                }
            }
            child.wait().ok();
        });
        Ok(stamps)
    }

    /// Takes the newest stamp of `action`.
    fn newest(&self, action: &str) -> Result<u64> {
        eventually(STAMP_PATIENCE, || {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(action).ok_or("no such event")
        })
    }
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
