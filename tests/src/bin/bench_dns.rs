//! CPU per DNS question: the registry beside NSD with the same names, in one run, in turn.
//!
//! 1,000 services of four endpoints; SRV with four answers and four addresses, and A with four, half and half, EDNS. Each
//! server is pinned to CPU 0, the generator to CPU 1; CPU time is the server's own, from /proc, per answered question.
//! Usage: bench_dns PATH/TO/portolan-registry [ROUNDS]

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use portolan_tests::process;
use portolan_tests::synthetic::{SyntheticNode, container};
use portolan_tests::wait::{now, pause};

const SERVICES: usize = 1_000;
const NODES: usize = 4;
const ROUND: Duration = Duration::from_millis(1_500);
const IN_FLIGHT: usize = 128;
const PORTOLAN_PORT: u16 = 18_600;
const NSD_PORT: u16 = 18_601;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().context("usage: bench_dns PATH/TO/portolan-registry [ROUNDS]")?;
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse()).context("ROUNDS is a number")?;
    let folder = tempfile::tempdir()?;
    let portolan = Server::start("portolan", portolan_command(&binary, folder.path()))?;
    let _nodes = register().await?;
    let nsd = Server::start("nsd", nsd_command(folder.path())?)?;
    let questions = questions()?;
    for (name, port) in [("portolan", PORTOLAN_PORT), ("nsd", NSD_PORT)] {
        wait_for_answer(port, &questions[0]).with_context(|| format!("wait for {name}"))?;
    }
    pin(std::process::id(), 1)?;
    let mut figures = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for (which, (server, port)) in [(&portolan, PORTOLAN_PORT), (&nsd, NSD_PORT)].into_iter().enumerate() {
            let figure = load(server, port, &questions)?;
            println!(
                "round {round} {:9} {:6.2} us/question {:8.0} questions/s",
                server.name, figure.cpu_us, figure.rate
            );
            figures[which].push(figure.cpu_us);
        }
    }
    let [ours, theirs] = figures.map(median);
    println!("median: portolan {ours:.2} us, nsd {theirs:.2} us, ratio {:.2}", ours / theirs);
    Ok(())
}

struct Server {
    name: &'static str,
    child: Child,
}

impl Server {
    fn start(name: &'static str, mut command: Command) -> Result<Server> {
        let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("start {name}"))?;
        pin(child.id(), 0)?;
        Ok(Server { name, child })
    }

    /// CPU time of the process and its children so far.
    fn cpu(&self) -> Result<Duration> {
        let all = std::iter::once(self.child.id()).chain(process::children(self.child.id()));
        all.map(process::cpu).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for pid in process::children(self.child.id()) {
            Command::new("kill").arg(pid.to_string()).status().ok();
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn pin(pid: u32, cpu: u32) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-a", "-cp", &cpu.to_string(), &pid.to_string()])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "taskset failed");
    Ok(())
}

fn portolan_command(binary: &str, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["--dns-listen", &format!("127.0.0.1:{PORTOLAN_PORT}")]);
    command.args(["--http-listen", "127.0.0.1:18500", "--grpc-listen", "127.0.0.1:18502"]);
    command.arg("--data-dir").arg(folder.join("data")).stderr(Stdio::null());
    command
}

async fn register() -> Result<Vec<SyntheticNode>> {
    let mut nodes = Vec::new();
    for n in 0..NODES {
        let address = Ipv4Addr::new(10, 0, 0, n as u8 + 1).into();
        let mut node = None;
        for _ in 0..100 {
            match SyntheticNode::connect("http://127.0.0.1:18502", &format!("n{n}"), address).await {
                Ok(connected) => node = Some(connected),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            if node.is_some() {
                break;
            }
        }
        let mut node = node.context("the registry did not come up within 5 s")?;
        let made = |s: usize| container(&format!("service-{s}"), (s * NODES + n) as u64, address, 30_000 + s as u16);
        node.register((0..SERVICES).map(made).collect::<Result<_>>()?).await?;
        nodes.push(node);
    }
    Ok(nodes)
}

fn nsd_command(folder: &Path) -> Result<Command> {
    let mut zone =
        "$ORIGIN ecs.internal.\n$TTL 1\n@ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns A 10.0.0.1\n".to_owned();
    for n in 1..=NODES {
        zone += &format!("ip-10-0-0-{n}.addr A 10.0.0.{n}\n");
    }
    for s in 0..SERVICES {
        for n in 1..=NODES {
            let port = 30_000 + s;
            zone += &format!("service-{s}.local A 10.0.0.{n}\nservice-{s}.local SRV 0 1 {port} ip-10-0-0-{n}.addr\n");
        }
    }
    std::fs::write(folder.join("zone"), zone)?;
    let at = folder.display();
    let config = format!(
        "server:\n ip-address: 127.0.0.1@{NSD_PORT}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{at}\"\n database: \"\"\n pidfile: \"{at}/nsd.pid\"\n \
         xfrdfile: \"{at}/xfrd\"\n xfrdir: \"{at}\"\n zonelistfile: \"{at}/zonelist\"\n server-count: 1\n minimal-responses: no\n \
         rrl-ratelimit: 0\nremote-control:\n control-enable: no\nzone:\n name: ecs.internal\n zonefile: zone\n"
    );
    std::fs::write(folder.join("nsd.conf"), config)?;
    let mut command = Command::new("nsd");
    command.arg("-d").arg("-c").arg(folder.join("nsd.conf")).stderr(Stdio::null());
    Ok(command)
}

fn questions() -> Result<Vec<Vec<u8>>> {
    let mut questions = Vec::new();
    for s in 0..SERVICES {
        for record_type in [RecordType::SRV, RecordType::A] {
            let mut message = Message::new(questions.len() as u16, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(Name::from_ascii(format!("service-{s}.local.ecs.internal."))?, record_type));
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            message.edns = Some(edns);
            questions.push(message.to_vec()?);
        }
    }
    Ok(questions)
}

fn wait_for_answer(port: u16, question: &[u8]) -> Result<()> {
    let socket = socket(port)?;
    for _ in 0..100 {
        socket.send(question).ok();
        let mut buffer = [0; 1500];
        if let Ok(length) = socket.recv(&mut buffer)
            && Message::from_vec(&buffer[..length])?.answers.len() == NODES
        {
            return Ok(());
        }
        pause(Duration::from_millis(20));
    }
    bail!("no answer with {NODES} records")
}

fn socket(port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

struct Figure {
    cpu_us: f64,
    rate: f64,
}

/// Keeps `IN_FLIGHT` questions under way for one round.
fn load(server: &Server, port: u16, questions: &[Vec<u8>]) -> Result<Figure> {
    let socket = socket(port)?;
    let (cpu, began) = (server.cpu()?, now());
    let mut questions = questions.iter().cycle();
    let mut buffer = [0; 4096];
    let mut answered = 0u64;
    while began.elapsed() < ROUND {
        for _ in 0..IN_FLIGHT {
            socket.send(questions.next().context("questions cycle")?)?;
        }
        for _ in 0..IN_FLIGHT {
            if socket.recv(&mut buffer).is_ok() {
                answered += 1;
            }
        }
    }
    let took = began.elapsed().as_secs_f64();
    let cpu = server.cpu()?.saturating_sub(cpu);
    Ok(Figure { cpu_us: cpu.as_secs_f64() * 1e6 / answered as f64, rate: answered as f64 / took })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
