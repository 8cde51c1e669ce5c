//! Real sockets, asked by dig and kdig.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use portolan_core::view::View;
use portolan_dns::listen::Listeners;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::fixture;
use crate::started::{Started, ask, node, registry};

/// Asks with both tools and wants every text in the output of each.
async fn check(server: &Started, arguments: &str, expected: &[&str]) {
    for tool in ["dig", "kdig"] {
        let Some(output) = ask(tool, server.address, arguments).await else { continue };
        // dig and kdig differ in blanks and in how they write flags.
        let output = output.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in expected {
            assert!(output.contains(text), "{tool} {arguments}: no `{text}` in\n{output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_and_kdig_read_the_answers() {
    let server = registry().await;
    let srv = [
        "status: NOERROR",
        "IN SRV 0 1 32768 ip-10-0-3-7.addr.ecs.internal.",
        "IN SRV 0 1 32801 ip-10-0-3-8.addr.ecs.internal.",
        "ip-10-0-3-7.addr.ecs.internal. 1 IN A 10.0.3.7",
    ];
    for how in ["+notcp", "+tcp", "+noedns", "+bufsize=100", "+bufsize=4096", "+dnssec"] {
        check(&server, &format!("{how} _http._tcp.elasticsearch.prod.ecs.internal SRV"), &srv).await;
    }
    let mixed = query("ElasticSearch.Prod.ecs.internal.", "A");
    let reply = by_udp(&server, &mixed).await;
    assert!(reply.queries[0].name().eq_case(mixed.queries[0].name()), "the asker's case comes back");
    assert_eq!(reply.answers.len(), 2);
    check(&server, "nobody.prod.ecs.internal A", &["status: NXDOMAIN", "IN SOA"]).await;
    check(&server, "empty.prod.ecs.internal A", &["status: NOERROR", "IN SOA"]).await;
    check(&server, "-x 10.0.3.7", &["IN PTR i-0aa.node.prod.ecs.internal."]).await;
    check(&server, "example.com", &["status: REFUSED"]).await;
    let Some(output) = ask("dig", server.address, "+edns=1 +noednsneg web.prod.ecs.internal").await else { return };
    assert!(output.contains("status: BADVERS"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_answer_comes_whole_over_tcp() {
    let server = registry().await;
    check(&server, "+ignore +noedns many.prod.ecs.internal A", &["tc"]).await;
    let Some(whole) = ask("dig", server.address, "+noedns +short many.prod.ecs.internal A").await else { return };
    assert_eq!(whole.lines().count(), 60, "dig asks again over TCP by itself:\n{whole}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_shows_within_a_few_cut_answers() {
    let server = registry().await;
    let mut seen = BTreeSet::new();
    let mut message = query("many.prod.ecs.internal.", "A");
    for id in 0..40 {
        message.metadata.id = id;
        let reply = by_udp(&server, &message).await;
        seen.extend(reply.answers.iter().map(ToString::to_string));
    }
    assert_eq!(seen.len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_answers_bare_names_by_the_askers_cluster() {
    let server = node(|_| None).await;
    let mut view = View::clone(&server.view.load());
    let mut service = portolan_core::view::Service::clone(view.service(&fixture::key("idle", "prod")).unwrap());
    service.key = fixture::key("elasticsearch", "test");
    view.insert_service(Arc::new(service));
    server.view.publish(Arc::new(view));
    check(&server, "elasticsearch A", &["198.18.0.1"]).await;
    check(&server, "-b 127.0.0.7 elasticsearch A", &["198.18.0.2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_question_waits_until_the_service_is_followed() {
    let server = node(|_| None).await;
    check(&server, "far.prod.ecs.internal A", &["status: NOERROR", "10.0.9.9"]).await;
    // Nobody brings these: an error that says why, never NXDOMAIN, and the name that needs no endpoints is there.
    let unknown = ["status: SERVFAIL", "the endpoints are not known yet"];
    check(&server, "+bufsize=1232 farlinked.prod.ecs.internal SRV", &unknown).await;
    check(&server, "+bufsize=1232 +tcp farlinked.prod.ecs.internal SRV", &unknown).await;
    check(&server, "farlinked.prod.ecs.internal A", &["198.18.0.3"]).await;
    check(&server, "example.com A", &["status: REFUSED"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_questions_are_all_answered_and_a_slow_one_holds_up_none() {
    let server = node(|_| None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut sent = Vec::new();
    for id in 0..200u16 {
        let name = if id == 0 { "farlinked.prod.ecs.internal." } else { "elasticsearch.prod.ecs.internal." };
        let mut message = query(name, "SRV");
        message.metadata.id = id;
        let octets = message.to_vec().unwrap();
        sent.extend_from_slice(&(octets.len() as u16).to_be_bytes());
        sent.extend_from_slice(&octets);
    }
    stream.write_all(&sent).await.unwrap();
    // Half-closed: what was asked is still answered.
    stream.shutdown().await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    let mut ids = Vec::new();
    let mut rest = received.as_slice();
    while let Some((length, tail)) = rest.split_first_chunk() {
        let (message, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
        ids.push(Message::from_vec(message).unwrap().metadata.id);
        rest = tail;
    }
    assert_eq!(ids.last(), Some(&0), "the one that waited comes last");
    ids.sort_unstable();
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_even_if_it_trickles() {
    let server = registry().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[0, 40, 1, 2, 3]).await.unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
    let waited = started.elapsed();
    assert!(waited <= Duration::from_secs(11), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_cap_cost_the_idlest_of_who_has_most() {
    let server = registry().await;
    let mut guest = connect_from("127.0.0.9", &server).await;
    exchange(&mut guest).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // Answered, or told that nobody can spare a place: the loop has seen it.
        if exchange(&mut stream).await.is_ok() {
            open.push(stream);
        }
    }
    assert!(open.len() >= 99, "{}", open.len());
    exchange(&mut guest).await.unwrap();
    // However long the others have been there, who comes from elsewhere has a place at once.
    let mut late = connect_from("127.0.0.10", &server).await;
    exchange(&mut late).await.unwrap();
    let reply = by_udp(&server, &query("web.prod.ecs.internal.", "A")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    let mut alive = 0;
    for mut stream in open {
        alive += usize::from(exchange(&mut stream).await.is_ok());
    }
    assert!((90..=98).contains(&alive), "{alive} of 100 places, two of them the others'");
}

async fn connect_from(address: &str, server: &Started) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[tokio::test]
async fn says_which_listener_cannot_be_bound() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Listeners::bind(address).await.unwrap_err();
    assert_eq!(error.to_string(), format!("bind DNS tcp to {address}"));
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_answers_by_code() {
    let server = registry().await;
    by_udp(&server, &query("web.prod.ecs.internal.", "A")).await;
    by_udp(&server, &query("nobody.prod.ecs.internal.", "A")).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &server.metrics).unwrap();
    assert!(text.contains(r#"dns_answers_total{transport="udp",code="noerror"} 1"#), "{text}");
    assert!(text.contains(r#"dns_answers_total{transport="udp",code="nxdomain"} 1"#), "{text}");
}

pub(crate) fn query(name: &str, record_type: &str) -> Message {
    let mut message = Message::query();
    let name = hickory_proto::rr::Name::from_ascii(name).unwrap();
    message.add_query(hickory_proto::op::Query::query(name, record_type.parse().unwrap()));
    message.metadata.recursion_desired = true;
    message
}

pub(crate) async fn by_udp(server: &Started, message: &Message) -> Message {
    by_udp_from("127.0.0.1", server, message).await
}

pub(crate) async fn by_udp_from(address: &str, server: &Started, message: &Message) -> Message {
    let socket = UdpSocket::bind((address, 0)).await.unwrap();
    socket.connect(server.address).await.unwrap();
    socket.send(&message.to_vec().unwrap()).await.unwrap();
    let mut reply = [0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut reply)).await.unwrap().unwrap();
    let reply = Message::from_vec(&reply[..length]).unwrap();
    assert_eq!(reply.metadata.id, message.metadata.id);
    reply
}

async fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    let octets = query("web.prod.ecs.internal.", "A").to_vec().unwrap();
    let mut framed = (octets.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&octets);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    stream.read_exact(&mut vec![0; usize::from(length)]).await?;
    Ok(())
}
