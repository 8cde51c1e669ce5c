//! UDP links against a real kernel: each test in namespaces of its own, as root.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests fail as tests do")]

#[path = "links/host.rs"]
mod host;
#[path = "links/rig.rs"]
mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::Duration;

use host::{Host, OTHER, PATIENCE, Place, eventually};
use portolan_core::endpoint::{Endpoint, Protocol, State};
use portolan_core::view::{EndpointSet, LinkPort, Service};
use portolan_sidecar::links::LinkLimits;
use rig::{RELAY, Rig, VIP, endpoint, process, service, view, vip, web};
use tokio::time::Instant;

/// No time-out, on a machine that is busy with other tests.
const AT_ONCE: Duration = Duration::from_millis(150);
/// How long an answer takes at most.
const SOON: Duration = Duration::from_millis(500);

/// A server that answers each datagram with its name and the datagram. Dropping it closes its port.
struct Echo {
    address: SocketAddrV4,
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Echo {
    fn start(host: &Host, name: &'static str, port: u16) -> Echo {
        let socket = host.at(Place::Other, move || UdpSocket::bind((OTHER, port)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { unreachable!("bound to IPv4") };
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let answer = [name.as_bytes(), b":", &buffer[..length]].concat();
                    // One that has no room for the name comes back as it is.
                    socket.send_to(&answer, from).or_else(|_| socket.send_to(&buffer[..length], from)).ok();
                }
            }
        });
        Echo { address, stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.send(()).ok();
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Service `web` at [`VIP`], its port 80 of both protocols.
fn both(endpoints: impl IntoIterator<Item = (SocketAddrV4, Protocol, State)>) -> Service {
    let made = |(index, (address, protocol, state)): (usize, (SocketAddrV4, Protocol, State))| {
        let mut made: Endpoint = endpoint(index, address, state);
        made.key.protocol = protocol;
        made
    };
    let mut service = service(("web", VIP), EndpointSet::Known(endpoints.into_iter().enumerate().map(made).collect()));
    let ports = [Protocol::Tcp, Protocol::Udp].map(|protocol| LinkPort { port: 80, container_port: 8080, protocol });
    service.link.as_mut().unwrap().ports = ports.to_vec();
    service
}

fn echoes(servers: &[&Echo]) -> Service {
    both(servers.iter().map(|server| (server.address, Protocol::Udp, State::Usable)))
}

/// A client's socket: bound in that place, to any port, or to one of its own.
fn socket(host: &Host, place: Place) -> UdpSocket {
    let socket = host.at(place, || UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// A socket that hears the virtual address alone.
fn client(host: &Host, place: Place, to: SocketAddrV4) -> UdpSocket {
    let socket = socket(host, place);
    socket.connect(to).unwrap();
    socket
}

/// Asks, and gives the name of who answers.
fn ask(client: &UdpSocket) -> io::Result<String> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let question = format!("q{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    client.send(question.as_bytes())?;
    let mut buffer = [0; 256];
    // Answers of earlier questions may still come.
    loop {
        let length = client.recv(&mut buffer)?;
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if let Some((name, said)) = answer.split_once(':')
            && said == question
        {
            return Ok(name.to_owned());
        }
    }
}

fn is_answered(client: &UdpSocket, by: &str) -> bool {
    ask(client).is_ok_and(|name| name == by)
}

fn is_refused(client: &UdpSocket) -> bool {
    ask(client).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Waits for a state of each client; how long at most.
fn each(clients: &[UdpSocket], state: &str, holds: impl Fn(&UdpSocket) -> bool) -> Duration {
    clients.iter().map(|client| eventually(state, || holds(client))).max().unwrap()
}

#[test]
fn datagrams_go_both_ways_and_answers_come_from_the_virtual_address() {
    let Some(host) = Host::new() else { return };
    let (one, other) = (Echo::start(&host, "one", 0), Echo::start(&host, "other", 0));
    let tcp = host.server(Place::Other, SocketAddrV4::new(OTHER, 0), "tcp");
    let mut service = echoes(&[&one, &other]);
    let EndpointSet::Known(udp) = service.endpoints.clone() else { panic!("known") };
    let all = udp.iter().cloned().chain([endpoint(9, tcp, State::Usable)]);
    service.endpoints = EndpointSet::Known(all.collect());
    let rig = Rig::start(&host, vec![service]);
    for place in [Place::Container, Place::Host] {
        let seen: BTreeSet<String> = (0..40)
            .map(|_| {
                let client = client(&host, place, vip(80));
                let name = ask(&client).unwrap_or_else(|error| panic!("{place:?}: {error}"));
                assert!((0..5).all(|_| is_answered(&client, &name)), "a session stays with its endpoint, {place:?}");
                name
            })
            .collect();
        assert_eq!(seen, BTreeSet::from(["one".to_owned(), "other".to_owned()]), "{place:?}");
        assert_eq!(host.fetch(place, vip(80)).0.unwrap(), "tcp", "TCP at the same port, {place:?}");
        for port in [81, 53] {
            let (answer, took) = host.datagram(place, vip(port));
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused, "UDP {port}, {place:?}");
            assert!(took < AT_ONCE, "{place:?} {took:?}");
        }
        // An unconnected socket sees where answers come from.
        let unconnected = socket(&host, place);
        unconnected.send_to(b"hello", vip(80)).unwrap();
        assert_eq!(unconnected.recv_from(&mut [0; 64]).unwrap().1, SocketAddr::V4(vip(80)), "{place:?}");
    }
    let status = rig.links.status();
    let ports: Vec<_> = status[0].ports.iter().map(|port| (port.port, port.protocol)).collect();
    assert_eq!(ports, [(80, Protocol::Tcp), (80, Protocol::Udp)]);
    let of_udp = status[0].endpoints.iter().filter(|met| met.protocol == Protocol::Udp);
    assert_eq!(of_udp.map(|met| met.total).sum::<u64>(), 82, "a session for each client");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &rig.metrics).unwrap();
    assert!(text.contains("link_sessions_open 82"), "{text}");
}

#[test]
fn datagrams_of_any_size_come_whole() {
    let Some(host) = Host::new() else { return };
    let server = Echo::start(&host, "s", 0);
    let _rig = Rig::start(&host, vec![echoes(&[&server])]);
    for place in [Place::Container, Place::Host] {
        let client = client(&host, place, vip(80));
        for length in [0, 1, 1472, 1473, 8_000, 60_000, 65_507] {
            let datagram: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            client.send(&datagram).unwrap();
            let mut answer = vec![0; 65_536];
            let got = client.recv(&mut answer).unwrap_or_else(|error| panic!("{place:?} {length}: {error}"));
            let answer = &answer[..got];
            assert!(answer.ends_with(&datagram) && got <= length + 2, "{place:?} {length}: {got} octets");
        }
    }
}

#[test]
fn a_client_that_keeps_its_port_follows_every_change_of_the_link() {
    let Some(host) = Host::new() else { return };
    let (mut servers, names) = (Vec::new(), ["a", "b", "c"]);
    servers.extend(names.map(|name| Echo::start(&host, name, 0)));
    let rig = Rig::start(&host, vec![both([])]);
    let clients = [Place::Container, Place::Host].map(|place| client(&host, place, vip(80)));
    for _ in 0..2 {
        for (server, name) in servers.iter().zip(names) {
            // A host's refused datagram leaves a flow to port 0 behind.
            each(&clients, "refused", is_refused);
            rig.publish(vec![echoes(&[server])]);
            for client in &clients {
                eventually("answered", || is_answered(client, name));
            }
            rig.publish(vec![both([])]);
        }
    }
    rig.publish(vec![echoes(&[&servers[0]])]);
    each(&clients, "answered", |client| is_answered(client, "a"));
    // Its endpoint leaves, and another one is there: the door stays, the sessions go.
    rig.publish(vec![echoes(&[&servers[1]])]);
    for client in &clients {
        let took = eventually("moved", || is_answered(client, "b"));
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    // The address is another service's now, at the same port.
    let mut moved = echoes(&[&servers[2]]);
    moved.key.service = portolan_core::name::Label::fixed("heir");
    rig.publish(vec![moved]);
    each(&clients, "the heir answers", |client| is_answered(client, "c"));
}

#[test]
fn an_endpoint_that_refuses_is_left_and_avoided() {
    let Some(host) = Host::new() else { return };
    let mut servers = BTreeMap::from(["one", "other"].map(|name| (name, Echo::start(&host, name, 0))));
    let rig = Rig::start(&host, vec![echoes(&servers.values().collect::<Vec<_>>())]);
    let client = client(&host, Place::Container, vip(80));
    let first = ask(&client).unwrap();
    let (left, stays) = if first == "one" { ("one", "other") } else { ("other", "one") };
    let refusing = servers.remove(left).unwrap().address;
    let took = eventually("moved", || is_answered(&client, stays));
    assert!(took < Duration::from_secs(2), "{took:?}");
    let status = rig.links.status();
    let met = status[0].endpoints.iter().find(|met| met.address == refusing.into()).unwrap();
    assert!(met.failures == 1 && met.ejections == 1 && met.ejected_ms > 0, "{met:?}");
    for _ in 0..20 {
        assert_eq!(ask(&self::client(&host, Place::Host, vip(80))).unwrap(), stays, "the one that refused is ejected");
    }
}

#[test]
fn sessions_are_bounded_and_idle_ones_end() {
    let Some(host) = Host::new() else { return };
    let server = Echo::start(&host, "s", 0);
    let limits = LinkLimits {
        connections_max: 8,
        connections_per_service_max: 5,
        udp_timeout: Duration::from_secs(2),
        ..LinkLimits::default()
    };
    let rig = Rig::start_with(&host, vec![echoes(&[&server])], limits);
    let faithful = client(&host, Place::Container, vip(80));
    for round in 0..60 {
        assert!(is_answered(&faithful, "s"), "one that is used does not make room, round {round}");
        assert!(is_answered(&client(&host, Place::Container, vip(80)), "s"), "a new client has room, round {round}");
    }
    let status = rig.links.status();
    assert!(status[0].open <= 5 && status[0].limited >= 50, "{:?}", status[0]);
    let endpoint = &status[0].endpoints[0];
    assert_eq!(endpoint.total, 61, "the faithful one has one session: {endpoint:?}");
    eventually("idle sessions end", || rig.links.status()[0].open == 0);
    assert!(is_answered(&faithful, "s"), "and a new one begins");
}

#[test]
fn the_map_is_put_back_when_somebody_changes_it() {
    let Some(host) = Host::new() else { return };
    let server = Echo::start(&host, "s", 0);
    let rig = Rig::start(&host, vec![echoes(&[&server])]);
    let listed = || host.shell("nft list map ip portolan udp-links");
    let before = listed();
    assert!(before.contains(&format!("{VIP} . 80 : ")), "{before}");
    for line in [
        "nft flush map ip portolan udp-links",
        "nft add element ip portolan udp-links '{ 198.18.0.9 . 53 : 9 }'",
        "nft 'delete element ip portolan udp-links { 198.18.0.7 . 80 }; add element ip portolan udp-links { 198.18.0.7 . 80 : 9 }'",
        "nft flush ruleset",
        "nft flush chain ip portolan link-output",
    ] {
        // The kernel remembers none of their flows.
        let clients = [Place::Container, Place::Host].map(|place| client(&host, place, vip(80)));
        host.shell(line);
        // What they send meanwhile, the kernel remembers.
        clients.iter().for_each(|client| drop(client.send(b"?")));
        for client in &clients {
            let took = eventually("answered", || is_answered(client, "s"));
            assert!(took < Duration::from_secs(2), "{line}: {took:?}");
        }
        eventually("as it was", || {
            Command::new("ip")
                .args(["netns", "exec", &host.of(Place::Host), "nft", "list", "map", "ip", "portolan", "udp-links"])
                .output()
                .is_ok_and(|output| output.stdout == before.as_bytes())
        });
    }
    drop(rig);
}

#[test]
fn flows_outlive_a_process_that_is_killed_and_a_stranger_at_its_port() {
    let Some(host) = Host::new() else { return };
    let server = Echo::start(&host, "s", 0);
    let mut first = process(&host, server.address);
    eventually("the route is there", || socket(&host, Place::Host).connect(vip(80)).is_ok());
    let clients = [Place::Container, Place::Host].map(|place| client(&host, place, vip(80)));
    each(&clients, "served", |client| is_answered(client, "s"));
    let port = || {
        let map = host.shell("nft list map ip portolan udp-links");
        let (_, rest) = map.split_once("198.18.0.7 . 80 : ").unwrap_or_else(|| panic!("{map}"));
        rest.split_once(' ').unwrap().0.parse::<u16>().unwrap()
    };
    let before = port();
    first.kill().unwrap();
    first.wait().unwrap();
    each(&clients, "refused", is_refused);
    let mut second = process(&host, server.address);
    each(&clients, "served again", |client| is_answered(client, "s"));
    assert_eq!(port(), before, "the port is kept");
    second.kill().unwrap();
    second.wait().unwrap();
    let stranger = host.at(Place::Host, move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, before)).unwrap());
    let mut third = process(&host, server.address);
    each(&clients, "served elsewhere", |client| is_answered(client, "s"));
    assert_ne!(port(), before);
    drop(stranger);
    third.kill().unwrap();
    third.wait().unwrap();
}

#[test]
fn a_service_that_nobody_followed_answers_its_first_datagram() {
    let Some(host) = Host::new() else { return };
    let server = Echo::start(&host, "s", 0);
    let unknown = Service { endpoints: EndpointSet::Unfollowed, ..echoes(&[]) };
    let mut rig = Rig::start(&host, vec![unknown]);
    let client = client(&host, Place::Container, vip(80));
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let asks = std::thread::spawn(move || (ask(&client).map_err(|error| error.kind()), Instant::now()));
    assert_eq!(rig.followed.blocking_recv().unwrap().service.as_str(), "web");
    rig.publish_view(view(vec![echoes(&[&server])]));
    assert_eq!(asks.join().unwrap().0, Ok("s".to_owned()));
}

#[test]
fn a_flood_from_many_ports_is_survived_and_bounded() {
    let Some(host) = Host::new() else { return };
    let server = Echo::start(&host, "s", 0);
    let limits = LinkLimits { connections_per_service_max: 100, ..LinkLimits::default() };
    let rig = Rig::start_with(&host, vec![echoes(&[&server])], limits);
    let open = || rig.links.status()[0].open;
    let flood = host.start(Place::Container, || {
        for _ in 0..3_000 {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(b"flood", SocketAddrV4::new(VIP, 80)).unwrap();
        }
    });
    let mut most = 0;
    while !flood.is_finished() {
        most = most.max(open());
    }
    flood.join().unwrap();
    assert!(most <= 100 + 2 * 64, "{most} open");
    let client = client(&host, Place::Container, vip(80));
    eventually("served after it", || is_answered(&client, "s"));
}

/// Not a test: what `process` of the rig starts.
#[test]
fn links_as_a_process_of_their_own() {
    let Ok(backend) = std::env::var("LINK_TO") else { return };
    let backend: SocketAddrV4 = backend.parse().unwrap();
    let _rig = Rig::start_here(vec![both([(backend, Protocol::Udp, State::Usable)])]);
    loop {
        std::thread::park();
    }
}

#[test]
fn the_relay_s_dns_port_is_left_alone() {
    let Some(host) = Host::new() else { return };
    let _rig = Rig::start(&host, vec![web(&[])]);
    let dns = host.at(Place::Host, || UdpSocket::bind((RELAY, 53)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = dns.recv_from(&mut buffer) {
            dns.send_to(&[b"dns:", &buffer[..length]].concat(), from).ok();
        }
    });
    for place in [Place::Container, Place::Host] {
        assert_eq!(ask(&client(&host, place, SocketAddrV4::new(RELAY, 53))).unwrap(), "dns", "{place:?}");
    }
}
