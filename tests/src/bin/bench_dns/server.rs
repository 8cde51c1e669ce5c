//! A server under test: how it is started, pinned and asked; Portolan itself, and the limit programs with Portolan's replies.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use portolan_tests::process::{self, Cpu};
use portolan_tests::synthetic::{SyntheticNode, container};
use portolan_tests::wait::pause;

use crate::limit::Replies;
use crate::questions::{Kind, NODES, SERVICES, questions};

/// What Portolan is called in the figures.
pub(crate) const PORTOLAN: &str = "portolan";
const PORTOLAN_PORT: u16 = 18_600;
/// What the limit programs are called, and started by.
pub(crate) const FIXED: &str = "fixed";
pub(crate) const TABLE: &str = "table";
const FIXED_PORT: u16 = 18_601;
const TABLE_PORT: u16 = 18_602;
const GRPC: &str = "127.0.0.1:18502";

/// A server that runs, on one port of loopback, and has every name; it ends with this value.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    /// Starts it, on CPU 0.
    pub(crate) fn start(name: &'static str, port: u16, mut command: Command) -> Result<Server> {
        let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("start {name}"))?;
        let server = Server { name, port, child };
        process::pin(server.child.id(), 0)?;
        Ok(server)
    }

    /// Waits until it answers each kind of question, with as many records as there are.
    pub(crate) fn ready(self) -> Result<Server> {
        for kind in Kind::ALL {
            self.first_reply(kind)?;
        }
        Ok(self)
    }

    /// CPU time of the process and its children so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let all = std::iter::once(self.child.id()).chain(process::children(self.child.id()));
        all.map(process::cpu).sum()
    }

    fn first_reply(&self, kind: Kind) -> Result<Vec<u8>> {
        let (socket, question) = (socket(self.port)?, questions(kind)?.swap_remove(0));
        for _ in 0..200 {
            socket.send(&question).ok();
            let mut buffer = [0; 1500];
            if let Ok(length) = socket.recv(&mut buffer)
                && (buffer[3] & 0b1111, buffer[7]) == kind.expected()
            {
                return Ok(buffer[..length].to_vec());
            }
            pause(Duration::from_millis(20));
        }
        bail!("{} does not answer {}", self.name, kind.name())
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

/// A socket that is connected to a server.
pub(crate) fn socket(port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

/// The registry, with every service; the nodes have to be kept.
pub(crate) async fn portolan(binary: &str, folder: &Path) -> Result<(Server, Vec<SyntheticNode>)> {
    let mut command = Command::new(binary);
    command.args(["--dns-listen", &format!("127.0.0.1:{PORTOLAN_PORT}")]);
    command.args(["--http-listen", "127.0.0.1:18500", "--grpc-listen", GRPC]);
    command.arg("--data-dir").arg(folder.join("data")).stderr(Stdio::null());
    let server = Server::start(PORTOLAN, PORTOLAN_PORT, command)?;
    let nodes = register().await?;
    Ok((server.ready()?, nodes))
}

async fn register() -> Result<Vec<SyntheticNode>> {
    let mut nodes = Vec::new();
    for n in 0..NODES {
        let address = Ipv4Addr::new(10, 0, 0, n as u8 + 1).into();
        let mut node = None;
        for _ in 0..100 {
            match SyntheticNode::connect(&format!("http://{GRPC}"), &format!("n{n}"), address).await {
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

/// The limit programs, with `portolan`'s replies.
pub(crate) fn limits(folder: &Path, portolan: &Server) -> Result<[Server; 2]> {
    let (socket, file) = (socket(portolan.port)?, folder.join("replies"));
    let mut replies = Replies::new();
    for question in [Kind::Absent, Kind::Mixed].map(questions) {
        for question in question? {
            socket.send(&question)?;
            let mut reply = vec![0; 1500];
            let length = socket.recv(&mut reply).context("Portolan's replies, for the limit programs")?;
            reply.truncate(length);
            replies.push((question, reply));
        }
    }
    fs::write(&file, serde_json::to_vec(&replies)?)?;
    let start = |name, port: u16| {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(name).arg(port.to_string()).arg(&file);
        Server::start(name, port, command)?.ready()
    };
    Ok([start(FIXED, FIXED_PORT)?, start(TABLE, TABLE_PORT)?])
}
