//! Who may ask and how often, by the server itself: askers from anywhere, without their networks.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use portolan_dns::server::Role;
use portolan_dns::wire::Transport;
use portolan_runtime::published::published;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::desked::{Desked, NAME};
use crate::fixture;
use crate::served::query;
use crate::started::{Started, node_role, registry_for};

const COOKIE: u16 = 10;
const EXTENDED_ERROR: u16 = 15;

fn read(reply: &[u8]) -> Message {
    Message::from_vec(reply).unwrap()
}

/// A question with a cookie.
fn with_cookie(cookie: &[u8]) -> Message {
    let mut message = query(NAME, "A");
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    edns.options_mut().insert(EdnsOption::Unknown(COOKIE, cookie.to_vec()));
    message.set_edns(edns);
    message
}

fn option(message: &Message, code: u16) -> Option<Vec<u8>> {
    let edns = message.edns.as_ref()?;
    edns.options().as_ref().iter().find_map(|(_, option)| match option {
        EdnsOption::Unknown(number, data) if *number == code => Some(data.clone()),
        _ => None,
    })
}

#[test]
fn networks_that_may_not_ask_are_refused_and_told_so() {
    let mut by_default = Desked::registry(None);
    let mut listed = Desked::registry(Some("203.0.113.0/24,10.1.0.0/16"));
    for way in [Transport::Udp, Transport::Tcp] {
        for peer in ["127.0.0.1", "10.0.0.1", "fd00::1"] {
            assert_eq!(by_default.code(peer, way), ResponseCode::NoError, "{peer}");
            assert_eq!(listed.code(peer, way), ResponseCode::Refused, "{peer}");
        }
        assert_eq!(by_default.code("203.0.113.1", way), ResponseCode::Refused);
        assert_eq!(listed.code("203.0.113.1", way), ResponseCode::NoError);
        assert_eq!(listed.code("10.1.2.3", way), ResponseCode::NoError);
        let asked = with_cookie(b"12345678").to_vec().unwrap();
        let reply = by_default.ask(("2001:db8::1", way), &asked, Duration::ZERO).unwrap();
        let message = read(&reply);
        assert_eq!(message.metadata.response_code, ResponseCode::Refused);
        assert_eq!(option(&message, EXTENDED_ERROR), Some(vec![0, 18]));
        assert_eq!(message.queries.len(), 1);
        assert!(reply.len() * 2 <= asked.len() * 3, "{} for {} octets", reply.len(), asked.len());
    }
}

#[test]
fn a_nodes_own_containers_may_ask_wherever_their_network_lies() {
    // 192.0.2.7 is a container of the fixture's node; its neighbour is not.
    let role = || Role::Node(node_role(std::sync::Arc::new(published(fixture::view()).0), None));
    let mut node = Desked::new(role(), None, 1);
    for _ in 0..5 {
        assert_eq!(node.code("192.0.2.7", Transport::Udp), ResponseCode::NoError);
    }
    assert_eq!(node.code("192.0.2.8", Transport::Udp), ResponseCode::Refused);
}

#[test]
fn a_cookie_is_given_and_known_again_and_kept_replies_have_the_askers_own() {
    let mut server = Desked::registry(None);
    let mut first = Vec::new();
    for (round, client) in [b"12345678", b"12345678", b"abcdefgh"].into_iter().enumerate() {
        let asked = with_cookie(client).to_vec().unwrap();
        let later = Duration::from_secs(round as u64);
        let cookie = option(&read(&server.ask(("10.0.0.1", Transport::Udp), &asked, later).unwrap()), COOKIE).unwrap();
        assert_eq!((&cookie[..8], cookie.len()), (&client[..], 24));
        assert_ne!(cookie, first, "the time is in it");
        first = cookie;
    }
    let plain = query(NAME, "A").to_vec().unwrap();
    assert!(read(&server.ask(("10.0.0.1", Transport::Udp), &plain, Duration::ZERO).unwrap()).edns.is_none());
}

#[test]
fn a_flood_in_somebodys_name_hurts_him_little_and_he_is_answered_all_the_same() {
    let mut server = Desked::registry(Some("0.0.0.0/0,::/0"));
    // 20,000 questions a second for ten seconds, each of which would get ten times as much as it is long.
    let mut large = query("many.prod.ecs.internal.", "SRV");
    large.set_edns(Edns::new().set_max_payload(1232).clone());
    let large = large.to_vec().unwrap();
    let (mut octets_in, mut octets_out, mut answered) = (0, 0, 0);
    for step in 0..200_000_u64 {
        let after = Duration::from_micros(50 * step);
        octets_in += large.len();
        octets_out += server.ask(("203.0.113.9", Transport::Udp), &large, after).map_or(0, |reply| reply.len());
        if step % 2_000 == 0 {
            answered += usize::from(who_is_really_there_is_answered(&mut server, after));
        }
    }
    let ratio = octets_out as f64 / octets_in as f64;
    assert!(ratio <= 1.5, "{ratio} octets for one");
    assert!(answered >= 95, "{answered} of 100");
    let limited =
        server.shown().lines().find(|line| line.contains("dns_limited_total{transport=\"udp\"")).map(str::to_owned);
    let limited: u64 = limited.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(limited > 190_000, "{limited}");
    // Whoever is elsewhere notices nothing, and nobody is limited who is near.
    let peer = "198.51.100.1";
    for way in [Transport::Udp, Transport::Tcp] {
        assert_eq!(server.code(peer, way), ResponseCode::NoError);
    }
    for _ in 0..1_000 {
        assert_eq!(server.code("10.0.0.1", Transport::Udp), ResponseCode::NoError);
    }
}

/// Asks until something comes back, three times at most as resolvers do; if it is TC, with the cookie it brought.
fn who_is_really_there_is_answered(server: &mut Desked, after: Duration) -> bool {
    let asked = with_cookie(b"realone!").to_vec().unwrap();
    let tries = (0..3).find_map(|_| server.ask(("203.0.113.77", Transport::Udp), &asked, after));
    let Some(reply) = tries.map(|reply| read(&reply)) else { return false };
    let cookie = option(&reply, COOKIE).expect("a cookie comes with every reply");
    if reply.metadata.truncation {
        assert_eq!((reply.answers.len(), reply.metadata.response_code), (0, ResponseCode::NoError));
        assert!(reply.queries[0].name().to_ascii() == NAME);
    }
    let again = with_cookie(&cookie).to_vec().unwrap();
    let by_cookie = read(&server.ask(("203.0.113.77", Transport::Udp), &again, after).expect("proved"));
    let by_connection = read(&server.ask(("203.0.113.77", Transport::Tcp), &asked, after).expect("proved"));
    by_cookie.answers.len() == 1 && by_connection.answers.len() == 1
}

#[test]
fn without_a_limit_nobody_is_cut() {
    let mut server = Desked::new(Role::Registry, Some("0.0.0.0/0"), 0);
    for _ in 0..5_000 {
        assert_eq!(server.code("203.0.113.9", Transport::Udp), ResponseCode::NoError);
    }
}

/// A connection from that address, and what comes for a question; `None` when it is closed without a word.
async fn connected(server: &Started, from: &str) -> (TcpStream, Option<Message>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let octets = query(NAME, "A").to_vec().unwrap();
    let framed = [&(octets.len() as u16).to_be_bytes()[..], &octets].concat();
    let reply = async {
        stream.write_all(&framed).await.ok()?;
        let mut reply = vec![0; stream.read_u16().await.ok()?.into()];
        stream.read_exact(&mut reply).await.ok()?;
        Some(read(&reply))
    };
    let reply = tokio::time::timeout(Duration::from_secs(10), reply).await.expect("a reply or an end");
    (stream, reply)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_gets_one_reply_and_takes_no_place_from_others() {
    let server = registry_for("127.0.0.1/32").await;
    let (mut stream, reply) = connected(&server, "127.0.0.9").await;
    assert_eq!(reply.unwrap().metadata.response_code, ResponseCode::Refused);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed behind it");
    // More than there are places, and none says a word.
    let mut idle = Vec::new();
    for _ in 0..120 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
        idle.push(socket.connect(server.address).await.unwrap());
    }
    let (_stream, reply) = connected(&server, "127.0.0.1").await;
    assert_eq!(reply.expect("a place is free").metadata.response_code, ResponseCode::NoError);
    let (_stream, reply) = connected(&server, "127.0.0.9").await;
    assert!(reply.is_none(), "all of theirs are taken");
}
