//! Links against a real kernel: each test in namespaces of its own, as root.

#[path = "links/host.rs"]
mod host;
#[path = "links/rig.rs"]
mod rig;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use host::{BRIDGE, Host, OTHER, Place, eventually};
use portolan_core::endpoint::State;
use portolan_core::view::EndpointSet;
use rig::{RELAY, Rig, STRANGER, VIP, service, vip, web};

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
fn the_relay_itself_is_no_way_in() {
    let Some(host) = Host::new() else { return };
    let rig = Rig::start(&host, vec![web(&[])]);
    let relay = rig.links.relay_address();
    assert_eq!(*relay.ip(), RELAY);
    assert_eq!(host.fetch(Place::Container, relay).0.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_service_that_nobody_followed_yet_is_followed_at_the_first_connection() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    let mut rig = Rig::start(&host, vec![service(("web", VIP), EndpointSet::Unfollowed)]);
    let client = host.start(Place::Container, || host::fetch(vip(80)));
    let asked = rig.followed.blocking_recv().unwrap();
    assert_eq!(asked.to_string(), "web.test");
    rig.publish(vec![web(&[(backend, State::Usable)])]);
    assert_eq!(client.join().unwrap().unwrap(), "other");
}
