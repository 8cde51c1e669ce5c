//! The guard of freed host ports against a real kernel: each test in namespaces of its own, as root.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests fail as tests do")]

#[path = "links/host.rs"]
mod host;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use host::{BRIDGE, Host, OTHER, PATIENCE, Place, eventually};
use portolan_core::endpoint::Protocol;
use portolan_sidecar::netlink::guard::{Element, GuardTable, HostPort, Manner};
use portolan_sidecar::netlink::uplinks;

/// The host's address on the network that it shares with the other node.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Container, as `host` gives it.
const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);
const A_MINUTE: Duration = Duration::from_secs(60);
/// No retransmission and no time-out, on a machine that is busy with other tests.
const AT_ONCE: Duration = Duration::from_millis(150);
/// What is dropped instead of refused would be answered by then, if it were not.
const A_MOMENT: Duration = Duration::from_millis(300);

fn at(protocol: Protocol, port: u16) -> HostPort {
    HostPort { protocol, port }
}

fn closed(protocol: Protocol, port: u16, left: Duration) -> Element {
    Element { at: at(protocol, port), left, note: format!("portolan: test {port}") }
}

/// Works with the table of the host.
fn with_table<T: Send + 'static>(host: &Host, work: impl FnOnce(&mut GuardTable) -> T + Send + 'static) -> T {
    host.at(Place::Host, move || work(&mut GuardTable::open().unwrap()))
}

fn replace(host: &Host, elements: Vec<Element>) {
    let manner = with_table(host, move |table| {
        table.replace(&[], &elements).unwrap();
        table.manner()
    });
    assert_eq!(manner, Manner { is_told: true, is_local_only: true }, "this kernel can do all of it");
}

fn socket_address(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}

#[test]
fn a_closed_port_is_refused_to_other_hosts_and_to_nobody_else() {
    let Some(host) = Host::new() else { return };
    for port in [31_001, 31_002] {
        host.server(Place::Host, socket_address(Ipv4Addr::UNSPECIFIED, port), "next");
    }
    replace(&host, vec![closed(Protocol::Tcp, 31_001, A_MINUTE)]);
    let (answer, took) = host.fetch(Place::Other, socket_address(ADDRESS, 31_001));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(host.fetch(Place::Other, socket_address(ADDRESS, 31_002)).0.unwrap(), "next", "another port");
    for (place, address) in [
        (Place::Container, BRIDGE),
        (Place::Container, ADDRESS),
        (Place::Host, ADDRESS),
        (Place::Host, BRIDGE),
        (Place::Host, Ipv4Addr::LOCALHOST),
    ] {
        let answer = host.fetch(place, socket_address(address, 31_001)).0;
        assert_eq!(answer.unwrap(), "next", "from {place:?} to {address}");
    }
    with_table(&host, |table| table.update(&[], &[at(Protocol::Tcp, 31_001)]).unwrap());
    assert_eq!(host.fetch(Place::Other, socket_address(ADDRESS, 31_001)).0.unwrap(), "next");
}

#[test]
fn ipv6_is_closed_too() {
    let Some(host) = Host::new() else { return };
    host.shell("ip addr add fd09::1/64 dev o0 nodad");
    host.shell_at(Place::Other, "ip addr add fd09::2/64 dev e0 nodad");
    let bound = host.at(Place::Host, || std::net::TcpListener::bind("[fd09::1]:0").unwrap());
    let address = bound.local_addr().unwrap();
    let connect = |place| host.at(place, move || TcpStream::connect_timeout(&address, PATIENCE).map(drop));
    replace(&host, Vec::new());
    eventually("the address is reached", || connect(Place::Other).is_ok());
    let element = closed(Protocol::Tcp, address.port(), A_MINUTE);
    with_table(&host, move |table| table.update(&[element], &[]).unwrap());
    assert_eq!(connect(Place::Other).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    connect(Place::Host).unwrap();
}

#[test]
fn what_is_forwarded_to_that_port_elsewhere_is_not_refused() {
    let Some(host) = Host::new() else { return };
    host.shell_at(Place::Other, &format!("ip route add 172.30.0.0/24 via {ADDRESS}"));
    host.server(Place::Container, socket_address(CONTAINER, 31_001), "forwarded");
    replace(&host, vec![closed(Protocol::Tcp, 31_001, A_MINUTE)]);
    assert_eq!(host.fetch(Place::Other, socket_address(CONTAINER, 31_001)).0.unwrap(), "forwarded");
}

#[test]
fn what_docker_forwards_to_a_container_is_refused_before_it() {
    let Some(host) = Host::new() else { return };
    host.server(Place::Container, socket_address(CONTAINER, 80), "published");
    host.shell(&format!(
        "nft add table ip docker && nft add chain ip docker pre '{{ type nat hook prerouting priority -100; }}' && \
         nft add rule ip docker pre fib daddr type local tcp dport 31001 dnat to {CONTAINER}:80"
    ));
    assert_eq!(host.fetch(Place::Other, socket_address(ADDRESS, 31_001)).0.unwrap(), "published");
    replace(&host, vec![closed(Protocol::Tcp, 31_001, A_MINUTE)]);
    let answer = host.fetch(Place::Other, socket_address(ADDRESS, 31_001)).0;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_kernel_that_can_do_less_does_less() {
    let Some(host) = Host::new() else { return };
    let address = host.server(Place::Host, socket_address(ADDRESS, 0), "next");
    for (is_told, is_local_only) in [(true, false), (false, true), (false, false)] {
        let manner = Manner { is_told, is_local_only };
        let element = closed(Protocol::Tcp, address.port(), A_MINUTE);
        with_table(&host, move |table| table.replace_in(manner, &[], &[element]).unwrap());
        let refused = host.at(Place::Other, move || TcpStream::connect_timeout(&address.into(), A_MOMENT).unwrap_err());
        let expected = if is_told { ErrorKind::ConnectionRefused } else { ErrorKind::TimedOut };
        assert_eq!(refused.kind(), expected, "{manner:?}");
    }
}

#[test]
fn open_connections_stay() {
    let Some(host) = Host::new() else { return };
    let server = host.serve(Place::Host, socket_address(ADDRESS, 0), |mut stream| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).unwrap();
        }
    });
    let mut open = host.at(Place::Other, move || TcpStream::connect(server).unwrap());
    open.set_read_timeout(Some(PATIENCE)).unwrap();
    replace(&host, vec![closed(Protocol::Tcp, server.port(), A_MINUTE)]);
    open.write_all(b"!").unwrap();
    open.read_exact(&mut [0]).unwrap();
    let refused = host.at(Place::Other, move || TcpStream::connect_timeout(&server.into(), PATIENCE));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn udp_is_refused_even_where_an_exchange_is_known_and_what_this_host_began_is_answered() {
    let Some(host) = Host::new() else { return };
    let bound = |place, address| {
        host.at(place, move || {
            let socket = UdpSocket::bind(socket_address(address, 0)).unwrap();
            socket.set_read_timeout(Some(A_MOMENT)).unwrap();
            socket
        })
    };
    // Connection tracking is there for the table's sake.
    replace(&host, Vec::new());
    let (server, client) = (bound(Place::Host, ADDRESS), bound(Place::Other, OTHER));
    let mut buffer = [0; 16];
    client.connect(server.local_addr().unwrap()).unwrap();
    client.send(b"?").unwrap();
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(b"!", from).unwrap();
    client.recv(&mut buffer).unwrap();
    let port = server.local_addr().unwrap().port();
    let element = closed(Protocol::Udp, port, A_MINUTE);
    with_table(&host, move |table| table.update(&[element], &[]).unwrap());
    client.send(b"?").unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(server.recv_from(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock, "nothing arrived");
    // From the very port that is closed, to somebody else.
    let stranger = bound(Place::Other, OTHER);
    server.send_to(b"?", stranger.local_addr().unwrap()).unwrap();
    let (_, from) = stranger.recv_from(&mut buffer).unwrap();
    stranger.send_to(b"!", from).unwrap();
    server.recv_from(&mut buffer).expect("the answer to what this host asked");
}

#[test]
fn the_kernel_opens_a_port_by_itself_and_what_it_holds_can_be_read() {
    let Some(host) = Host::new() else { return };
    host.server(Place::Host, socket_address(ADDRESS, 31_001), "next");
    let short = Duration::from_millis(300);
    replace(&host, vec![closed(Protocol::Tcp, 31_001, short), closed(Protocol::Udp, 31_001, A_MINUTE)]);
    let held = with_table(&host, |table| table.elements().unwrap());
    let held: BTreeSet<_> = held.into_iter().map(|e| (e.at, e.note, e.left > short)).collect();
    let note = "portolan: test 31001".to_owned();
    let expected = [(at(Protocol::Tcp, 31_001), note.clone(), false), (at(Protocol::Udp, 31_001), note, true)];
    assert_eq!(held, BTreeSet::from(expected));
    let closed_now = || host.fetch(Place::Other, socket_address(ADDRESS, 31_001)).0.is_err();
    assert!(closed_now());
    eventually("the kernel opens it", || !closed_now());
    // Both that ran out and that did not may be opened and closed again.
    with_table(&host, |table| {
        let ports = [at(Protocol::Tcp, 31_001), at(Protocol::Udp, 31_001), at(Protocol::Tcp, 7)];
        table.update(&[], &ports).unwrap();
        let again = [closed(Protocol::Tcp, 31_001, Duration::from_millis(50)), closed(Protocol::Udp, 9, A_MINUTE)];
        table.update(&again, &[]).unwrap();
        table.update(&[closed(Protocol::Tcp, 31_001, A_MINUTE)], &[]).unwrap();
    });
    std::thread::park_timeout(Duration::from_millis(100));
    assert!(closed_now(), "the newest time counts");
    let held = with_table(&host, |table| table.elements().unwrap());
    assert_eq!(held.len(), 2, "{held:?}");
}

#[test]
fn many_ports_are_closed_in_one_step() {
    let Some(host) = Host::new() else { return };
    let note = "n".repeat(300);
    let all = |left| (0..4_096).map(move |port| Element { note: "n".repeat(300), ..closed(Protocol::Tcp, port, left) });
    replace(&host, all(A_MINUTE).collect());
    let held = with_table(&host, |table| table.elements().unwrap());
    assert_eq!((held.len(), held[0].note.as_str()), (4_096, &note[..250]));
    let again: Vec<Element> = all(2 * A_MINUTE).collect();
    with_table(&host, move |table| table.update(&again, &[]).unwrap());
    assert!(with_table(&host, |table| table.elements().unwrap()).iter().all(|element| element.left > A_MINUTE));
}

#[test]
fn a_bridge_that_others_use_is_no_bridge_of_containers() {
    let Some(host) = Host::new() else { return };
    let found = |addresses: Vec<IpAddr>| host.at(Place::Host, move || uplinks(&addresses).unwrap());
    assert_eq!(found(vec![ADDRESS.into()]), [0_u32; 0], "it is no bridge that holds it");
    let bridges = found(vec![ADDRESS.into(), BRIDGE.into()]);
    assert_eq!(bridges.len(), 1);
    host.server(Place::Host, socket_address(BRIDGE, 31_001), "next");
    let fetch = || host.fetch(Place::Container, socket_address(BRIDGE, 31_001)).0;
    replace(&host, vec![closed(Protocol::Tcp, 31_001, A_MINUTE)]);
    assert_eq!(fetch().unwrap(), "next");
    with_table(&host, move |table| table.replace(&bridges, &[closed(Protocol::Tcp, 31_001, A_MINUTE)]).unwrap());
    assert_eq!(fetch().unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn what_others_change_is_seen_and_nothing_stays_behind() {
    let Some(host) = Host::new() else { return };
    let is_intact =
        || with_table(&host, |table| table.is_intact(&[], &BTreeSet::from([at(Protocol::Tcp, 31_001)])).unwrap());
    assert!(!is_intact(), "there is none");
    assert_eq!(with_table(&host, |table| table.elements().unwrap()), []);
    for change in [
        "delete table inet portolan-guard",
        "flush chain inet portolan-guard closed",
        "flush set inet portolan-guard closed",
        "add rule inet portolan-guard closed accept",
    ] {
        replace(&host, vec![closed(Protocol::Tcp, 31_001, A_MINUTE)]);
        assert!(is_intact());
        host.shell(&format!("nft {change}"));
        assert!(!is_intact(), "{change}");
    }
    replace(&host, vec![closed(Protocol::Tcp, 31_001, A_MINUTE)]);
    host.shell("nft list table inet portolan-guard | grep -q 'portolan: test 31001'");
    host.at(Place::Host, || portolan_sidecar::links::cleanup().unwrap());
    assert_eq!(host.shell("nft list tables"), "");
    host.at(Place::Host, || portolan_sidecar::links::cleanup().unwrap());
}
