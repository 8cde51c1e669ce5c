//! Questions that are asked again and again, and so answered from packets that are ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::Record;
use portolan_core::endpoint::Endpoint;
use portolan_core::name::Label;
use portolan_core::view::View;
use portolan_dns::server::{FollowsNothing, NoClients, NodeRole, Role};
use portolan_dns::wire::Transport;
use portolan_runtime::published::published;

use crate::desked::Desked;
use crate::fixture;
use crate::served::{by_udp, query};
use crate::started::{at, node, registry};

const ASKED: u32 = 60_000;

/// One worker's desk: enough questions for the share of each order to be sure.
#[test]
fn every_endpoint_comes_first_equally_often() {
    for count in [3u16, 4, 20] {
        let mut view = fixture::view();
        let endpoints =
            (1..=count).map(|id| fixture::endpoint(id.into(), &format!("10.0.9.{id}"), 8080, 8080)).collect();
        fixture::insert(&mut view, "some", None, Some(endpoints));
        let mut server = Desked::of(view);
        let mut message = query("some.prod.ecs.internal.", "A");
        let mut first: BTreeMap<String, u32> = BTreeMap::new();
        for asked in 0..ASKED {
            message.metadata.id = asked as u16;
            let asked = server.ask(("10.0.0.1", Transport::Udp), &message.to_vec().unwrap(), Duration::ZERO);
            let reply = Message::from_vec(&asked.unwrap()).unwrap();
            assert_eq!((reply.metadata.id, reply.answers.len()), (message.metadata.id, usize::from(count)));
            *first.entry(reply.answers[0].to_string()).or_default() += 1;
        }
        assert_eq!(first.len(), usize::from(count), "{first:?}");
        // Which comes first is drawn.
        let fair = ASKED / u32::from(count);
        let share = fair * 9 / 10..fair * 11 / 10;
        assert!(first.values().all(|count| share.contains(count)), "{first:?}");
    }
}

/// What is ready is turned while it is copied: each time all answers and all their addresses are there, as in the first reply.
#[test]
fn however_it_is_turned_a_reply_says_the_same() {
    let near = "eu-west-1a";
    let node = NodeRole {
        cluster: Label::fixed("prod"),
        az: Some(near.to_owned()),
        clients: Arc::new(NoClients),
        follow: Arc::new(FollowsNothing),
        forwarder: None,
    };
    let mut server = Desked::new(Role::Node(node), None, 200);
    // Addresses of many lengths, one twice; those before the bar are near.
    let services = [
        "10.0.0.1 | 10.100.200.30 10.0.0.1 192.168.0.254 1.2.3.4",
        "10.0.0.1 10.100.200.30 10.0.0.1 192.168.0.254 | 1.2.3.4",
        "| 10.0.0.1 10.100.200.30 fd00::1 fd00::2 10.0.0.1 1.2.3.4 10.10.10.10 10.0.0.99 10.0.10.9 10.0.11.19",
        "10.0.0.1 fd00::7",
        "10.0.0.1",
    ];
    let mut view = fixture::view();
    for (number, addresses) in services.iter().enumerate() {
        let mut az = Some(near.to_owned());
        let mut endpoints = Vec::new();
        for (id, word) in addresses.split(' ').enumerate() {
            if word == "|" {
                az = None;
                continue;
            }
            let port = 8000 + id as u16;
            endpoints.push(Endpoint { az: az.clone(), ..fixture::endpoint(id as u32, word, port, 80) });
        }
        fixture::insert(&mut view, &format!("turned-{number}"), None, Some(endpoints));
    }
    server.server.view = published(view).1;
    for (number, addresses) in services.iter().enumerate() {
        let is_near: BTreeSet<&str> = addresses.split('|').next().unwrap_or_default().split_whitespace().collect();
        for record_type in ["SRV", "A"] {
            let name = format!("{}turned-{number}.prod.ecs.internal.", if record_type == "A" { "direct." } else { "" });
            let mut asked = query(&name, record_type);
            asked.set_edns(Edns::new());
            asked.edns.as_mut().unwrap().set_max_payload(1232);
            let asked = asked.to_vec().unwrap();
            let mut said = BTreeSet::new();
            let mut first = BTreeSet::new();
            for _ in 0..700 {
                let reply = server.ask(("10.0.0.1", Transport::Udp), &asked, Duration::ZERO).unwrap();
                let reply = Message::from_vec(&reply).unwrap();
                first.insert(reply.answers[0].data.to_string());
                let sorted = |records: &[Record]| records.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
                said.insert((reply.answers.len(), sorted(&reply.answers), sorted(&reply.additionals)));
            }
            let (count, answers, additionals) = said.pop_first().unwrap();
            assert!(said.is_empty(), "{name} {record_type} says {} other things", said.len());
            assert_eq!(count, answers.len());
            let alike = match (is_near.is_empty(), record_type) {
                (true, _) => count,
                (false, "A") => is_near.iter().filter(|address| address.contains('.')).count(),
                (false, _) => addresses.split('|').next().unwrap_or_default().split_whitespace().count(),
            };
            assert_eq!(first.len(), alike, "{name} {record_type}: {first:?}");
            let targets = addresses.split_whitespace().filter(|word| *word != "|").collect::<BTreeSet<_>>();
            assert!(record_type == "A" || additionals.len() == targets.len(), "{name}: {additionals:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_shows_at_once_however_often_it_was_asked_before() {
    let server = registry().await;
    let message = query("web.prod.ecs.internal.", "A");
    for round in 1..=50u8 {
        let mut view = View::clone(&server.view.load());
        let endpoint = fixture::endpoint(1, &format!("10.0.8.{round}"), 8080, 8080);
        fixture::insert(&mut view, "web", None, Some(vec![endpoint]));
        server.view.publish(Arc::new(view));
        for _ in 0..20 {
            let reply = by_udp(&server, &message).await;
            let answers: Vec<String> = reply.answers.iter().map(|answer| answer.data.to_string()).collect();
            assert_eq!(answers, [format!("10.0.8.{round}")]);
        }
    }
    let mut view = View::clone(&server.view.load());
    view.remove_service(&fixture::key("web", "prod"));
    server.view.publish(Arc::new(view));
    assert_eq!(by_udp(&server, &message).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bare_names_stay_apart_by_cluster() {
    let server = node(|_| None).await;
    let mut view = View::clone(&server.view.load());
    let endpoint = fixture::endpoint(1, "10.0.8.1", 8080, 8080);
    fixture::insert(&mut view, "web", None, Some(vec![endpoint.clone()]));
    let mut other = portolan_core::view::Service::clone(view.service(&fixture::key("web", "prod")).unwrap());
    other.key = fixture::key("web", "test");
    let addresses = vec!["10.0.8.2".parse().unwrap()];
    let there = portolan_core::endpoint::Endpoint { addresses, ..endpoint };
    other.endpoints = portolan_core::view::EndpointSet::Known(vec![there].into());
    view.insert_service(Arc::new(other));
    server.view.publish(Arc::new(view));
    for _ in 0..10 {
        for (from, expected) in [("127.0.0.1", "10.0.8.1"), ("127.0.0.7", "10.0.8.2")] {
            let reply = crate::served::by_udp_from(from, &server, &query("web.", "A")).await;
            assert_eq!(reply.answers[0].data.to_string(), expected, "asked from {from}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_comes_to_be_is_found_at_once_however_often_it_was_missing() {
    let server = registry().await;
    let mut message = query("late.prod.ecs.internal.", "A");
    for id in 0..200 {
        message.metadata.id = id;
        let reply = by_udp(&server, &message).await;
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (id, ResponseCode::NXDomain));
        assert_eq!(reply.authorities.len(), 1);
    }
    let mut view = View::clone(&server.view.load());
    fixture::insert(&mut view, "late", None, Some(vec![fixture::endpoint(1, "10.0.8.1", 8080, 8080)]));
    server.view.publish(Arc::new(view));
    assert_eq!(by_udp(&server, &message).await.answers.len(), 1);
}

/// From each of four: more at once than one call receives or sends, and no more than the socket holds.
const EACH: u16 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_each_their_own() {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let server = at(address).await;
        let asked = std::net::SocketAddr::from(([127, 0, 0, 1], server.address.port()));
        let mut sockets = Vec::new();
        for _ in 0..4 {
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(asked).await.unwrap();
            sockets.push(socket);
        }
        for id in 0..EACH {
            for (socket, name) in sockets.iter().zip(["web", "nothing", "elasticsearch", "empty"]) {
                let mut message = query(&format!("{name}.prod.ecs.internal."), "A");
                message.metadata.id = id;
                socket.send(&message.to_vec().unwrap()).await.unwrap();
            }
        }
        for (socket, name) in sockets.iter().zip(["web", "nothing", "elasticsearch", "empty"]) {
            let mut ids = std::collections::BTreeSet::new();
            for _ in 0..EACH {
                let mut reply = [0; 512];
                let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut reply)).await;
                let reply = Message::from_vec(&reply[..received.unwrap().unwrap()]).unwrap();
                assert_eq!(reply.queries[0].name().to_string(), format!("{name}.prod.ecs.internal."));
                ids.insert(reply.metadata.id);
            }
            assert_eq!(ids.len(), usize::from(EACH), "{name} at {address}");
        }
    }
}
