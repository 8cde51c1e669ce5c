//! A host of its own for each test: a network namespace with a bridge, a container behind it and another node beside it.
//!
//! ```text
//!   container 172.30.0.2 ── br0 172.30.0.1 [host] 10.9.0.1 ── 10.9.0.2 [other]
//! ```

#![allow(dead_code, reason = "each file of tests uses its part")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The host's address on the bridge.
pub(crate) const BRIDGE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The other node.
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Three namespaces, removed at the end.
pub(crate) struct Host {
    name: String,
}

/// One of the namespaces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Host,
    Container,
    Other,
}

impl Host {
    /// `None`, said loudly, without the right to make namespaces.
    pub(crate) fn new() -> Option<Host> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("CI").is_err(), "CI must run as root");
            println!("SKIPPED: needs root for network namespaces");
            return None;
        }
        let name = format!("pl{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let host = Host { name };
        let (h, c, o) = (host.of(Place::Host), host.of(Place::Container), host.of(Place::Other));
        for name in [&h, &c, &o] {
            run(&format!("ip netns add {name}"));
            run(&format!("ip -n {name} link set lo up"));
        }
        for line in [
            format!("ip -n {h} link add br0 type bridge"),
            format!("ip -n {h} addr add {BRIDGE}/24 dev br0"),
            format!("ip -n {h} link set br0 up"),
            format!("ip -n {h} link add c0 type veth peer name e0 netns {c}"),
            format!("ip -n {h} link set c0 master br0 up"),
            format!("ip -n {c} addr add 172.30.0.2/24 dev e0"),
            format!("ip -n {c} link set e0 up"),
            format!("ip -n {c} route add default via {BRIDGE}"),
            format!("ip -n {h} link add o0 type veth peer name e0 netns {o}"),
            format!("ip -n {h} addr add 10.9.0.1/24 dev o0"),
            format!("ip -n {h} link set o0 up"),
            format!("ip -n {o} addr add {OTHER}/24 dev e0"),
            format!("ip -n {o} link set e0 up"),
        ] {
            run(&line);
        }
        host.shell("sysctl -qw net.ipv4.ip_forward=1");
        // The first packets through a new bridge are lost, and retried after a second: wait until that is over.
        for (place, address) in [(Place::Container, BRIDGE), (Place::Host, OTHER)] {
            eventually("the new interfaces carry packets", || host.at(place, move || is_near(address)));
        }
        Some(host)
    }

    pub(crate) fn of(&self, place: Place) -> String {
        let letter = match place {
            Place::Host => 'h',
            Place::Container => 'c',
            Place::Other => 'o',
        };
        format!("{}{letter}", self.name)
    }

    /// Runs a command in the host's namespace; it must succeed.
    pub(crate) fn shell(&self, line: &str) -> String {
        self.shell_at(Place::Host, line)
    }

    pub(crate) fn shell_at(&self, place: Place, line: &str) -> String {
        finish(Command::new("ip").args(["netns", "exec", &self.of(place), "sh", "-c", line]), line)
    }

    /// Runs `work` on a thread in that namespace.
    pub(crate) fn at<T: Send + 'static>(&self, place: Place, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(place, work).join().expect("the thread in the namespace must not panic")
    }

    pub(crate) fn start<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let namespace = self.of(place);
        std::thread::spawn(move || {
            enter(&namespace);
            work()
        })
    }

    /// A server that says its name to everyone and closes. It ends with the test's process.
    pub(crate) fn server(&self, place: Place, address: SocketAddrV4, name: &'static str) -> SocketAddrV4 {
        self.serve(place, address, move |mut stream| {
            stream.write_all(name.as_bytes()).ok();
        })
    }

    /// A server that reads what first comes, answers a byte and keeps all connections, on one thread.
    pub(crate) fn hold(&self, place: Place, address: SocketAddrV4) -> SocketAddrV4 {
        let listener = self.at(place, move || TcpListener::bind(address).unwrap());
        let SocketAddr::V4(bound) = listener.local_addr().unwrap() else { unreachable!("bound to IPv4") };
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for mut stream in listener.incoming().flatten() {
                if matches!(stream.read(&mut [0; 8192]), Ok(1..)) {
                    stream.write_all(b"!").ok();
                    held.push(stream);
                }
            }
        });
        bound
    }

    pub(crate) fn serve(
        &self,
        place: Place,
        address: SocketAddrV4,
        each: impl Fn(TcpStream) + Send + Sync + Clone + 'static,
    ) -> SocketAddrV4 {
        let listener = self.at(place, move || TcpListener::bind(address).unwrap());
        let SocketAddr::V4(bound) = listener.local_addr().unwrap() else { unreachable!("bound to IPv4") };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let each = each.clone();
                std::thread::spawn(move || each(stream));
            }
        });
        bound
    }

    /// Connects, reads until the end, and says how long that took.
    pub(crate) fn fetch(&self, place: Place, address: SocketAddrV4) -> (io::Result<String>, Duration) {
        self.at(place, move || {
            let start = Instant::now();
            (fetch(address), start.elapsed())
        })
    }

    /// Sends a datagram and waits for what comes back.
    pub(crate) fn datagram(&self, place: Place, address: SocketAddrV4) -> (io::Result<usize>, Duration) {
        self.at(place, move || {
            let start = Instant::now();
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let answer = socket.connect(address).and_then(|()| socket.send(b"?"));
            (answer.and_then(|_| socket.recv(&mut [0; 16])), start.elapsed())
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for place in [Place::Host, Place::Container, Place::Other] {
            Command::new("ip").args(["netns", "del", &self.of(place)]).output().ok();
        }
    }
}

/// Whether that host refuses a connection, quickly.
fn is_near(address: Ipv4Addr) -> bool {
    let closed = SocketAddr::from((address, 9));
    TcpStream::connect_timeout(&closed, Duration::from_millis(50))
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

pub(crate) fn fetch(address: SocketAddrV4) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Moves this thread into a namespace.
pub(crate) fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    use std::os::fd::AsFd;
    rustix::thread::move_into_link_name_space(file.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network)).unwrap();
}

/// Waits for a state; says which when it does not come.
pub(crate) fn eventually(state: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {state}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    start.elapsed()
}

fn run(line: &str) -> String {
    finish(Command::new("sh").args(["-c", line]), line)
}

fn finish(command: &mut Command, line: &str) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(status.success(), "{line}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}
