//! The kernel path of links, against a real kernel: each test in namespaces and a cgroup of its own, as root.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests fail as tests do")]

#[path = "links/host.rs"]
mod host;
#[path = "links/led.rs"]
mod led;
#[path = "links/rig.rs"]
mod rig;

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::process::Command;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::loaded_links;
use host::{Host, OTHER, PATIENCE, Place, eventually, fetch};
use led::{Led, is_led_to, plane};
use portolan_core::endpoint::State;
use portolan_core::evidence::LinkPlane;
use portolan_core::view::{Readiness, Service, View};
use rig::{Rig, view, vip, web};
use socket2::{Domain, Socket, Type};

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(60);

/// Everything that a test of the kernel path needs, or `None`, said loudly.
fn start() -> Option<(Host, Led)> {
    let host = Host::new()?;
    if Command::new("clang").arg("--version").output().is_err() {
        assert!(std::env::var("CI").is_err(), "clang not found (apt install clang), and CI is set");
        println!("SKIPPED: clang not found (apt install clang): the kernel path was not built");
        return None;
    }
    let led = Led::new(&host);
    Some((host, led))
}

fn any_port() -> SocketAddrV4 {
    SocketAddrV4::new(OTHER, 0)
}

/// A port of the other node where nothing listens.
fn closed(host: &Host) -> SocketAddrV4 {
    host.at(Place::Other, || {
        let listener = std::net::TcpListener::bind(any_port()).unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("IPv4 was asked for") };
        address
    })
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    while let Ok(1..) = stream.read(&mut bytes[..1]) {
        stream.write_all(&bytes[..1]).ok();
    }
}

/// Sends a byte and waits for it to come back.
fn is_alive(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"?").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

/// Connections that the relay took for the first link.
fn relayed(rig: &Rig) -> u64 {
    rig.links.status()[0].total
}

fn stale(services: Vec<Service>) -> View {
    View { readiness: Readiness::Stale, ..view(services) }
}

#[test]
fn a_connection_goes_to_the_endpoint_itself() {
    let Some((host, led)) = start() else { return };
    let backend = host.server(Place::Other, any_port(), "other");
    let rig = Rig::start_led(&host, view(vec![web(&[(backend, State::Usable)])]), led.settings(LONG));
    is_led_to(&rig.links, 1);
    // Docker hides a container behind its node; here the other node is told the way back.
    host.shell_at(Place::Other, "ip route add 172.30.0.0/24 via 10.9.0.1");
    for place in [Place::Host, Place::Container] {
        assert_eq!(led.at((&host, place), || fetch(vip(80))).unwrap(), "other", "{place:?}");
    }
    let status = plane(&rig.links);
    assert_eq!((status.plane, status.why_not, status.connections, status.failures), (LinkPlane::Ebpf, None, 2, 0));
    assert_eq!(relayed(&rig), 0, "no byte passes through the relay");
    assert_eq!(rig.links.status()[0].bytes, 0);
    // Who is not in the cgroup takes the other way.
    assert_eq!(host.fetch(Place::Host, vip(80)).0.unwrap(), "other");
    assert_eq!((relayed(&rig), plane(&rig.links).connections), (1, 2));
}

#[test]
fn the_client_sees_the_address_that_it_asked_for() {
    let Some((host, led)) = start() else { return };
    let backend = host.serve(Place::Other, any_port(), echo);
    let rig = Rig::start_led(&host, view(vec![web(&[(backend, State::Usable)])]), led.settings(LONG));
    is_led_to(&rig.links, 1);
    led.at((&host, Place::Host), move || {
        let stream = TcpStream::connect(vip(80)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), SocketAddr::V4(vip(80)));
        assert!(is_alive(&stream));
        let direct = TcpStream::connect(backend).unwrap();
        assert_eq!(direct.peer_addr().unwrap(), SocketAddr::V4(backend), "who asked for the endpoint sees it");
        let mapped = SocketAddrV6::new(vip(80).ip().to_ipv6_mapped(), 80, 0, 0);
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.connect(&mapped.into()).unwrap();
        assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(mapped.into()));
        assert!(is_alive(&socket.into()));
    });
    assert_eq!((relayed(&rig), plane(&rig.links).connections), (0, 2));
}

#[test]
fn a_failed_endpoint_is_refused_once_and_then_skipped() {
    let Some((host, led)) = start() else { return };
    let backend = host.server(Place::Other, any_port(), "other");
    let endpoints = [(backend, State::Usable), (closed(&host), State::Usable)];
    let rig = Rig::start_led(&host, view(vec![web(&endpoints)]), led.settings(LONG));
    is_led_to(&rig.links, 2);
    let refused = led.at((&host, Place::Host), || {
        let connects = (0..100).filter_map(|_| TcpStream::connect(vip(80)).err());
        connects.inspect(|error| assert_eq!(error.kind(), ErrorKind::ConnectionRefused)).count()
    });
    assert_eq!(refused, 1, "one of a hundred that are led at random meets it, and nobody after that");
    let status = plane(&rig.links);
    assert_eq!((status.connections, status.failures, relayed(&rig)), (99, 1, 0));
}

#[test]
fn an_endpoint_that_does_not_answer_is_skipped_before_its_clients_give_up() {
    let Some((host, led)) = start() else { return };
    let [backend, mute] = ["other", "mute"].map(|name| host.server(Place::Other, any_port(), name));
    host.shell_at(
        Place::Other,
        "nft 'add table ip mute; add chain ip mute input { type filter hook input priority 0; }'",
    );
    host.shell_at(Place::Other, &format!("nft add rule ip mute input tcp dport {} drop", mute.port()));
    let endpoints = [(backend, State::Usable), (mute, State::Usable)];
    let rig = Rig::start_led(&host, view(vec![web(&endpoints)]), led.settings(LONG));
    is_led_to(&rig.links, 2);
    // One in a million million: that none of them is led to the mute one.
    let clients: Vec<_> = (0..40).map(|_| led.start((&host, Place::Host), || fetch(vip(80)))).collect();
    let failed = MapData::from_pin(led.pins().join("v1/failed")).unwrap();
    let failed: HashMap<_, [u8; 8], [u8; 8]> = Map::LruHashMap(failed).try_into().unwrap();
    eventually("the mute one is noted", || failed.keys().next().is_some());
    assert!(clients.iter().any(|client| !client.is_finished()), "nobody gave up");
    for _ in 0..40 {
        assert_eq!(led.at((&host, Place::Host), || fetch(vip(80))).unwrap(), "other");
    }
    host.shell_at(Place::Other, "nft delete table ip mute");
    for client in clients {
        client.join().unwrap().unwrap();
    }
    assert_eq!((plane(&rig.links).failures, relayed(&rig)), (0, 0));
}

#[test]
fn when_all_failed_the_relay_tries() {
    let Some((host, led)) = start() else { return };
    let rig = Rig::start_led(&host, view(vec![web(&[(closed(&host), State::Usable)])]), led.settings(LONG));
    is_led_to(&rig.links, 1);
    for (number, relayed_then) in [(0, 0), (1, 1)] {
        let error = led.at((&host, Place::Host), || fetch(vip(80))).unwrap_err();
        let kinds = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];
        assert!(kinds.contains(&error.kind()), "connect {number}: {error}");
        assert_eq!(relayed(&rig), relayed_then, "after connect {number}");
    }
}

#[test]
fn connections_are_led_by_weight() {
    let Some((host, led)) = start() else { return };
    let [heavy, light] = ["heavy", "light"].map(|name| host.server(Place::Other, any_port(), name));
    let mut service = web(&[(heavy, State::Usable), (light, State::Usable)]);
    let mut endpoints = service.known_endpoints().unwrap().to_vec();
    endpoints[0].weight = 9;
    service.endpoints = portolan_core::view::EndpointSet::Known(endpoints.into());
    let rig = Rig::start_led(&host, view(vec![service]), led.settings(LONG));
    is_led_to(&rig.links, 2);
    let light = led.at((&host, Place::Host), || (0..300).filter(|_| fetch(vip(80)).unwrap() == "light").count());
    // 30 are expected, 5.2 is the standard deviation.
    assert!((5..60).contains(&light), "{light} of 300");
    assert_eq!(relayed(&rig), 0);
}

#[test]
fn what_is_not_usable_is_left_to_the_relay() {
    let Some((host, led)) = start() else { return };
    let backend = host.server(Place::Other, any_port(), "other");
    let draining = State::Draining { passed: true };
    let rig = Rig::start_led(&host, view(vec![web(&[(backend, State::Usable)])]), led.settings(LONG));
    is_led_to(&rig.links, 1);
    rig.publish(vec![web(&[(backend, draining)])]);
    is_led_to(&rig.links, 0);
    assert_eq!(led.at((&host, Place::Host), || fetch(vip(80))).unwrap(), "other");
    assert_eq!(relayed(&rig), 1);
    rig.publish(vec![web(&[])]);
    let is_refused = || {
        let error = led.at((&host, Place::Host), || TcpStream::connect(vip(80))).err();
        error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    eventually("a link without endpoints is refused", is_refused);
    let before = relayed(&rig);
    assert!(is_refused());
    assert_eq!(relayed(&rig), before, "refused by the kernel");
}

#[test]
fn a_lease_that_nobody_renews_ends() {
    let Some((host, led)) = start() else { return };
    let backend = host.server(Place::Other, any_port(), "other");
    let service = || web(&[(backend, State::Usable)]);
    let rig = Rig::start_led(&host, view(vec![service()]), led.settings(Duration::from_millis(1500)));
    is_led_to(&rig.links, 1);
    // Renewed for longer than it lasts.
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(led.at((&host, Place::Host), || fetch(vip(80))).unwrap(), "other");
    }
    assert_eq!(relayed(&rig), 0);
    rig.publish_view(stale(vec![service()]));
    eventually("the relay takes over", || {
        assert_eq!(led.at((&host, Place::Host), || fetch(vip(80))).unwrap(), "other");
        relayed(&rig) > 0
    });
    rig.publish(vec![service()]);
    eventually("the kernel leads again", || {
        let before = relayed(&rig);
        assert_eq!(led.at((&host, Place::Host), || fetch(vip(80))).unwrap(), "other");
        relayed(&rig) == before
    });
}

#[test]
fn connections_outlive_the_sidecar_and_the_next_takes_over() {
    let Some((host, led)) = start() else { return };
    let backend = host.serve(Place::Other, any_port(), echo);
    let service = || web(&[(backend, State::Usable)]);
    let lease = Duration::from_secs(6);
    let rig = Rig::start_led(&host, view(vec![service()]), led.settings(lease));
    is_led_to(&rig.links, 1);
    let connect = || led.at((&host, Place::Host), || TcpStream::connect(vip(80)));
    let first = connect().unwrap();
    assert!(is_alive(&first));
    // As a kill does.
    drop(rig);
    assert!(is_alive(&first), "an open connection goes on");
    assert!(is_alive(&connect().unwrap()), "a new one is led while the lease lasts");
    std::fs::create_dir(led.pins().join("v0")).unwrap();
    let before = link_ids(&led);
    let mut rig = Rig::start_led(&host, View::default(), led.settings(lease));
    assert!(is_alive(&connect().unwrap()), "a sidecar that knows nothing yet takes nothing away");
    let unfollowed = || Service { endpoints: portolan_core::view::EndpointSet::Unfollowed, ..service() };
    rig.publish(vec![unfollowed()]);
    eventually("it learns the endpoints of what is led", || rig.followed.try_recv().is_ok());
    assert!(is_alive(&connect().unwrap()), "and takes nothing away meanwhile");
    rig.publish(vec![service()]);
    eventually("another run's programs are replaced", || link_ids(&led).is_disjoint(&before));
    eventually("what an older layout left is removed", || !led.pins().join("v0").exists());
    is_led_to(&rig.links, 1);
    assert!(is_alive(&connect().unwrap()));
    assert_eq!(first.peer_addr().unwrap(), SocketAddr::V4(vip(80)));
    assert_eq!((plane(&rig.links).connections, relayed(&rig)), (5, 0), "figures are carried on");
    drop(rig);
    eventually("the lease ends", || connect().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
    assert!(is_alive(&first), "and open connections go on for ever");
}

/// The kernel's numbers of what is attached.
fn link_ids(led: &Led) -> HashSet<u32> {
    let names = ["sockops", "getpeername4", "getpeername6", "connect4", "connect6"];
    let paths = names.map(|name| led.pins().join(format!("v1/portolan_{name}")));
    let links = paths.iter().filter_map(|path| PinnedLink::from_pin(path).ok()).map(FdLink::from);
    links.map(|link| link.info().unwrap().id()).collect()
}

#[test]
fn cleanup_leaves_nothing_in_the_kernel() {
    let Some((host, led)) = start() else { return };
    let backend = host.server(Place::Other, any_port(), "other");
    let rig = Rig::start_led(&host, view(vec![web(&[(backend, State::Usable)])]), led.settings(LONG));
    is_led_to(&rig.links, 1);
    let ids = link_ids(&led);
    assert_eq!(ids.len(), 5);
    drop(rig);
    portolan_sidecar::links::cleanup_kernel_path(&led.pins()).unwrap();
    assert!(!led.pins().exists());
    let attached = || loaded_links().filter_map(Result::ok).map(|link| link.id()).collect::<HashSet<u32>>();
    eventually("the programs are detached", || attached().is_disjoint(&ids));
    portolan_sidecar::links::cleanup_kernel_path(&led.pins()).unwrap();
}

#[test]
fn a_service_of_the_other_plane_is_not_touched() {
    let Some((host, led)) = start() else { return };
    let backend = host.server(Place::Other, any_port(), "other");
    let labelled = |plane| {
        let mut service = web(&[(backend, State::Usable)]);
        service.link.as_mut().unwrap().plane = plane;
        service
    };
    let proxy = portolan_sidecar::links::KernelSettings { plane: LinkPlane::Proxy, ..led.settings(LONG) };
    let rig = Rig::start_led(&host, view(vec![labelled(None)]), proxy);
    assert_eq!(led.at((&host, Place::Host), || fetch(vip(80))).unwrap(), "other");
    let status = plane(&rig.links);
    assert_eq!((status.plane, status.why_not, relayed(&rig)), (LinkPlane::Proxy, None, 1));
    assert!(!led.pins().exists(), "nothing is loaded for nobody");
    // A label outweighs the setting, both ways.
    rig.publish(vec![labelled(Some(LinkPlane::Ebpf))]);
    is_led_to(&rig.links, 1);
    drop(rig);
    let rig = Rig::start_led(&host, view(vec![labelled(Some(LinkPlane::Proxy))]), led.settings(LONG));
    is_led_to(&rig.links, 0);
    eventually("what an earlier run led is the relay's again", || {
        assert_eq!(led.at((&host, Place::Host), || fetch(vip(80))).unwrap(), "other");
        relayed(&rig) > 0
    });
}

#[test]
fn without_a_place_for_it_the_relay_serves_and_the_reason_is_shown() {
    let Some((host, led)) = start() else { return };
    let backend = host.server(Place::Other, any_port(), "other");
    let nowhere = portolan_sidecar::links::KernelSettings { pins: "/proc/portolan".into(), ..led.settings(LONG) };
    let rig = Rig::start_led(&host, view(vec![web(&[(backend, State::Usable)])]), nowhere);
    eventually("the reason is shown", || plane(&rig.links).why_not.is_some_and(|why| why.contains("/proc")));
    assert_eq!(plane(&rig.links).plane, LinkPlane::Proxy);
    assert_eq!(led.at((&host, Place::Host), || fetch(vip(80))).unwrap(), "other");
    assert_eq!(relayed(&rig), 1);
}

#[test]
fn an_address_of_nobody_is_refused_as_ever() {
    let Some((host, led)) = start() else { return };
    let backend = host.server(Place::Other, any_port(), "other");
    let rig = Rig::start_led(&host, view(vec![web(&[(backend, State::Usable)])]), led.settings(LONG));
    is_led_to(&rig.links, 1);
    for address in [vip(81), SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 8), 80)] {
        let error = led.at((&host, Place::Host), move || TcpStream::connect(address)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}");
    }
}
