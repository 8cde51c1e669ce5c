//! Links against a real kernel: each test in namespaces of its own, as root.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests fail as tests do")]

#[path = "links/host.rs"]
mod host;
#[path = "links/rig.rs"]
mod rig;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use host::{BRIDGE, Host, OTHER, Place, eventually};
use portolan_core::endpoint::State;
use portolan_core::name::Label;
use portolan_core::view::EndpointSet;
use rig::{RELAY, Rig, STRANGER, VIP, process, service, view, vip, web};

/// "At once": no retransmission and no time-out, on a machine that is busy with other tests.
const AT_ONCE: Duration = Duration::from_millis(150);

fn any(ip: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(ip, 0)
}

#[test]
fn a_link_is_reached_from_a_container_and_from_the_host() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    let _rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    for place in [Place::Container, Place::Host] {
        assert_eq!(host.fetch(place, vip(80)).0.unwrap(), "other", "{place:?}");
    }
}

#[test]
fn nobody_else_answers_on_the_range_and_nothing_keeps_others_from_its_ports() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    let _rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    for port in [80, 81] {
        // Bound after the link exists, on the very port of the link: M3 and M1.
        host.server(Place::Host, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port), "wrong");
        assert_eq!(host.fetch(Place::Container, SocketAddrV4::new(BRIDGE, port)).0.unwrap(), "wrong");
    }
    for place in [Place::Container, Place::Host] {
        assert_eq!(host.fetch(place, vip(80)).0.unwrap(), "other", "{place:?}");
        for address in [vip(81), SocketAddrV4::new(STRANGER, 80), SocketAddrV4::new(STRANGER, 81)] {
            let (answer, took) = host.fetch(place, address);
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{place:?} {address}");
            assert!(took < AT_ONCE, "{place:?} {address}: {took:?}");
        }
    }
}

#[test]
fn what_is_not_a_link_is_refused_at_once() {
    let Some(host) = Host::new() else { return };
    let _rig = Rig::start(&host, vec![web(&[])]);
    for place in [Place::Container, Place::Host] {
        let (answer, took) = host.fetch(place, vip(80));
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused, "no endpoint, {place:?}");
        assert!(took < AT_ONCE, "{place:?} {took:?}");
        for port in [80, 53] {
            let (answer, took) = host.datagram(place, vip(port));
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused, "UDP {port}, {place:?}");
            assert!(took < AT_ONCE, "{place:?} {took:?}");
        }
    }
}

#[test]
fn the_last_endpoint_goes_and_comes_back() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    let rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    for _ in 0..20 {
        rig.publish(vec![web(&[(backend, State::Gone)])]);
        eventually("refused", || {
            host.fetch(Place::Host, vip(80)).0.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
        });
        rig.publish(vec![web(&[(backend, State::Usable)])]);
        eventually("answered", || host.fetch(Place::Container, vip(80)).0.is_ok_and(|answer| answer == "other"));
    }
}

#[test]
fn a_change_among_thousands_of_links_takes_effect_at_once() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    let strangers = (0..5000u32).map(|index| {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 1, 0)) + index);
        let mut service = service(("other", address), EndpointSet::Unfollowed);
        service.key.service = Label::sanitise(&format!("s{index}")).unwrap();
        service
    });
    let many = view(strangers.collect());
    let rig = Rig::start_with_view(&host, many.clone());
    assert!(host.shell("nft list set ip portolan links").contains("198.18.20.0 . 80"));
    // A busy machine takes its time with some; none is quick where every link is told anew.
    let (mut quickest, mut slowest) = (Duration::MAX, Duration::ZERO);
    for _ in 0..5 {
        for (state, answers) in [(State::Usable, true), (State::Gone, false)] {
            let mut changed = many.clone();
            changed.insert_service(web(&[(backend, state)]).into());
            rig.publish_view(changed);
            let took = eventually("in effect", || host.fetch(Place::Host, vip(80)).0.is_ok() == answers);
            (quickest, slowest) = (quickest.min(took), slowest.max(took));
        }
    }
    println!("changes among 5,000 links: {quickest:?} to {slowest:?}");
    assert!(quickest < Duration::from_millis(200), "{quickest:?}");
}

#[test]
fn the_relay_itself_is_no_way_in() {
    let Some(host) = Host::new() else { return };
    let rig = Rig::start(&host, vec![web(&[])]);
    let relay = rig.links.relay_address();
    assert_eq!(*relay.ip(), RELAY);
    assert_eq!(host.fetch(Place::Container, relay).0.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn links_never_lead_to_this_host_itself_or_back_into_the_range() {
    let Some(host) = Host::new() else { return };
    let local = host.server(Place::Host, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), "local");
    let forbidden = [Ipv4Addr::LOCALHOST, RELAY, VIP, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(169, 254, 169, 254)];
    let endpoints = forbidden.map(|ip| (SocketAddrV4::new(ip, local.port()), State::Usable));
    let _rig = Rig::start(&host, vec![web(&endpoints)]);
    let answer = host.fetch(Place::Container, vip(80)).0;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn what_somebody_flushes_is_put_back() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    let _rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    host.shell("nft add table ip theirs");
    let works = || {
        let listed = host.shell("ip route show table all; nft list ruleset");
        let has_all = ["local 169.254.53.53", "198.18.0.0/16 dev lo", "priority -110", "198.18.0.7 . 80"];
        has_all.iter().all(|part| listed.contains(part)) && listed.matches("comment \"portolan: ").count() == 11
    };
    eventually("in place", works);
    let theirs = host.shell("nft list table ip theirs");
    for command in [
        "nft flush table ip portolan",
        "nft delete element ip portolan links '{ 198.18.0.7 . 80 }'",
        "nft add element ip portolan links '{ 198.18.0.9 . 80 }'",
        "nft flush chain ip portolan link-output",
        "nft add rule ip portolan link-output counter",
        "ip route del 198.18.0.0/16",
        "ip route flush table main",
        "ip route del local 169.254.53.53",
        "ip route flush table all proto 153",
        "ip addr flush dev lo",
        "nft delete table ip portolan",
    ] {
        host.shell(command);
        let took = eventually(command, || works() && !host.shell("nft list ruleset").contains("198.18.0.9"));
        assert!(took < Duration::from_secs(2), "{command}: {took:?}");
        assert_eq!(host.shell("nft list table ip theirs"), theirs, "{command}");
    }
    // The host's other routes went with the flush of the main table.
    host.shell("ip route add 10.9.0.0/24 dev o0; ip route add 172.30.0.0/24 dev br0");
    host.shell("nft flush ruleset");
    assert!(eventually("after a flush of all", works) < Duration::from_secs(2));
    for place in [Place::Container, Place::Host] {
        assert_eq!(host.fetch(place, vip(80)).0.unwrap(), "other", "{place:?}");
    }
}

#[test]
fn open_connections_outlive_flushes_and_their_link() {
    let Some(host) = Host::new() else { return };
    let backend = host.serve(Place::Other, any(OTHER), |mut stream| {
        let mut echo = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut echo).ok();
    });
    let rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    let mut stream = host.at(Place::Container, || TcpStream::connect(vip(80)).unwrap());
    stream.set_read_timeout(Some(host::PATIENCE)).unwrap();
    let mut echo = |what: &str| {
        stream.write_all(b"x").unwrap();
        assert_eq!(read_byte(&mut stream).unwrap(), b'x', "{what}");
    };
    echo("at first");
    rig.publish(vec![web(&[(backend, State::Gone)])]);
    eventually("refused", || host.fetch(Place::Container, vip(80)).0.is_err());
    echo("without an endpoint");
    rig.publish(vec![]);
    echo("without a service");
    host.shell("nft flush ruleset");
    eventually("put back", || host.shell("nft list ruleset").contains("portolan"));
    echo("after a flush");
}

#[test]
fn cleanup_leaves_nothing_and_touches_nothing_else() {
    let Some(host) = Host::new() else { return };
    host.shell("nft add table ip theirs");
    host.shell("ip route add 203.0.113.0/24 dev lo");
    let look = || host.shell("nft list ruleset; ip -4 route show table all | sort");
    let before = look();
    let rig = Rig::start(&host, vec![web(&[(SocketAddrV4::new(OTHER, 80), State::Usable)])]);
    assert_ne!(look(), before);
    drop(rig);
    host.at(Place::Host, || portolan_sidecar::links::cleanup().unwrap());
    assert_eq!(look(), before);
    host.at(Place::Host, || portolan_sidecar::links::cleanup().unwrap());
}

#[test]
fn when_the_sidecar_is_killed_connections_are_refused_at_once() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    let mut sidecar = process(&host, backend);
    eventually("answered", || host.fetch(Place::Container, vip(80)).0.is_ok());
    let mut open = host.at(Place::Container, || TcpStream::connect(vip(80)).unwrap());
    sidecar.kill().unwrap();
    sidecar.wait().unwrap();
    for place in [Place::Container, Place::Host] {
        for address in [vip(80), vip(81), SocketAddrV4::new(STRANGER, 80)] {
            let (answer, took) = host.fetch(place, address);
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{place:?} {address}");
            assert!(took < AT_ONCE, "{place:?} {address}: {took:?}");
        }
    }
    // The connection that was open ends with its process; nobody waits for a time-out.
    open.set_read_timeout(Some(host::PATIENCE)).unwrap();
    let end = open.read_to_end(&mut Vec::new());
    assert!(end.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true), "{end:?}");
}

/// The other half of the tests that need a process to kill or to measure: they start it in a namespace.
#[test]
fn links_as_a_process_of_their_own() {
    let Ok(backend) = std::env::var("LINK_TO") else { return };
    let _rig = Rig::start_here(vec![web(&[(backend.parse().unwrap(), State::Usable)])]);
    loop {
        std::thread::park();
    }
}

#[test]
fn without_the_right_the_error_names_it_and_what_is_lost() {
    let Some(host) = Host::new() else { return };
    let error = host.at(Place::Host, || {
        rustix::thread::set_capabilities(
            None,
            rustix::thread::CapabilitySets {
                effective: rustix::thread::CapabilitySet::empty(),
                permitted: rustix::thread::CapabilitySet::empty(),
                inheritable: rustix::thread::CapabilitySet::empty(),
            },
        )
        .unwrap();
        portolan_sidecar::netlink::assert_dns_route(RELAY).unwrap_err()
    });
    assert!(error.to_string().contains("CAP_NET_ADMIN") && error.to_string().contains("without it"), "{error}");
}

fn read_byte(stream: &mut TcpStream) -> std::io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte).map(|()| byte[0])
}
