//! Names outside the zone, through a resolver of the test's own. Time is virtual: what takes minutes passes at once.

use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::{RData, Record};
use portolan_runtime::jobs::Jobs;
use tokio::net::UdpSocket;

use crate::served::{by_udp, query};
use crate::started::node;
use crate::upstream::{Upstream, answered, behind, failed, forwarder, missing, start, ttl};

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_ttl_and_counts_down() {
    let (server, upstream) = start(|_, asked| Some(answered(asked, 60))).await;
    let first = by_udp(&server, &query("Example.COM.", "A")).await;
    assert_eq!((first.metadata.response_code, ttl(&first)), (ResponseCode::NoError, 60));
    assert!(first.metadata.recursion_available && !first.metadata.authoritative);
    tokio::time::advance(Duration::from_secs(20)).await;
    let mut asked = query("eXample.com.", "A");
    asked.metadata.id = 7;
    let second = by_udp(&server, &asked).await;
    assert_eq!(second.queries[0].name().to_ascii(), "eXample.com.", "the asker's case");
    assert!((39..=40).contains(&ttl(&second)), "{}", ttl(&second));
    assert_eq!(upstream.asked(), 1);
    tokio::time::advance(Duration::from_secs(41)).await;
    assert_eq!(ttl(&by_udp(&server, &asked).await), 60);
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_missing_name_is_kept_for_the_minimum_of_the_soa() {
    let (server, upstream) = start(|_, asked| Some(missing(asked))).await;
    for expected in [1, 1] {
        let reply = by_udp(&server, &query("nobody.example.com.", "A")).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!((upstream.asked(), reply.authorities.len()), (expected, 1));
    }
    tokio::time::advance(Duration::from_secs(8)).await;
    by_udp(&server, &query("nobody.example.com.", "A")).await;
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_given_while_the_upstream_is_silent_and_a_failure_is_remembered() {
    let (server, upstream) = start(|number, asked| (number == 0).then(|| answered(asked, 60))).await;
    by_udp(&server, &query("example.com.", "A")).await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    let mut asked = query("example.com.", "A");
    asked.set_edns(Edns::new());
    let started = tokio::time::Instant::now();
    let reply = by_udp(&server, &asked).await;
    assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!((reply.metadata.response_code, ttl(&reply)), (ResponseCode::NoError, 30));
    assert_eq!(format!("{:?}", &reply.edns.unwrap().options().as_ref()[0].1)[..20], *"Unknown(15, [0, 3, 1");
    // Past the day, there is nothing to give.
    tokio::time::advance(Duration::from_secs(90_000)).await;
    let reply = by_udp(&server, &asked).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let asked_so_far = upstream.asked();
    assert_eq!(by_udp(&server, &asked).await.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(upstream.asked(), asked_so_far, "a failure is remembered for a moment");
}

#[tokio::test]
async fn equal_questions_share_one_flight() {
    let (server, upstream) = start(|number, asked| (number == 0).then(|| answered(asked, 0))).await;
    let asked = query("example.com.", "A");
    // All are sent before the first answer can come: one thread, no await between.
    let octets = asked.to_vec().unwrap();
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.address).unwrap();
        socket.send(&octets).unwrap();
        socket.set_nonblocking(true).unwrap();
        sockets.push(UdpSocket::from_std(socket).unwrap());
    }
    for socket in &sockets {
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply).await.unwrap();
        assert_eq!(Message::from_vec(&reply[..length]).unwrap().answers.len(), 1);
    }
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_upstream_is_asked_when_one_fails_or_is_silent() {
    let outside = Jobs::new();
    let silent = Upstream::start(&outside, |_, _| None).await;
    let refusing = Upstream::start(&outside, |_, asked| Some(failed(asked, ResponseCode::Refused))).await;
    let good = Upstream::start(&outside, |_, asked| Some(answered(asked, 60))).await;
    let server = behind(&[silent.address, refusing.address, good.address]).await;
    let reply = by_udp(&server, &query("example.com.", "A")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!((silent.asked(), refusing.asked(), good.asked()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn new_upstreams_are_asked_at_once() {
    let outside = Jobs::new();
    let silent = Upstream::start(&outside, |_, _| None).await;
    let good = Upstream::start(&outside, |_, asked| Some(answered(asked, 60))).await;
    let forwarder = forwarder(outside.clone(), &[silent.address]);
    let server = node(|_| Some(forwarder.clone())).await;
    let asked = query("example.com.", "A");
    assert_eq!(by_udp(&server, &asked).await.metadata.response_code, ResponseCode::ServFail);
    forwarder.set_default(&[good.address]);
    assert_eq!(by_udp(&server, &asked).await.metadata.response_code, ResponseCode::NoError);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_answer_is_ignored() {
    let outside = Jobs::new();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = behind(&[udp.local_addr().unwrap()]).await;
    outside.start_work("upstream", async move {
        let mut packet = [0; 4096];
        let (length, peer) = udp.recv_from(&mut packet).await.unwrap();
        let asked = Message::from_vec(&packet[..length]).unwrap();
        let mut wrong_id = asked.clone();
        wrong_id.metadata.id ^= 1;
        let mut other_name = query("other.example.", "A");
        other_name.metadata.id = asked.metadata.id;
        for bad in
            [answered(wrong_id, 1), answered(other_name, 1), b"garbage".to_vec(), vec![], packet[..length].to_vec()]
        {
            udp.send_to(&bad, peer).await.unwrap();
        }
        udp.send_to(&answered(asked, 99), peer).await.unwrap();
    });
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), 99);
}

#[tokio::test(start_paused = true)]
async fn a_cut_upstream_answer_is_fetched_over_tcp_and_cut_for_who_cannot_take_it() {
    let (server, _upstream) = start(|number, asked| {
        let name = asked.queries[0].name().clone();
        let mut reply = asked.into_response();
        reply.metadata.truncation = number != usize::MAX;
        if number == usize::MAX {
            for octet in 0..60 {
                reply.add_answer(Record::from_rdata(
                    name.clone(),
                    60,
                    RData::A(Ipv4Addr::new(192, 0, 2, octet).into()),
                ));
            }
        }
        Some(reply.to_vec().unwrap())
    })
    .await;
    let cut = by_udp(&server, &query("example.com.", "A")).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let mut asked = query("example.com.", "A");
    asked.set_edns(Edns::new().set_max_payload(1232).clone());
    let whole = by_udp(&server, &asked).await;
    assert!(!whole.metadata.truncation);
    assert_eq!((whole.answers.len(), whole.edns.is_some()), (60, true));
}

#[tokio::test(start_paused = true)]
async fn at_most_500_questions_a_second_go_upstream() {
    let (server, upstream) = start(|_, asked| Some(answered(asked, 60))).await;
    for number in 0..600 {
        by_udp(&server, &query(&format!("n{number}.example.com."), "A")).await;
    }
    assert_eq!(upstream.asked(), 500, "virtual time stood still");
    // Our own zone does not suffer from it.
    let own = by_udp(&server, &query("web.prod.ecs.internal.", "A")).await;
    assert_eq!(own.answers.len(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    let refused = by_udp(&server, &query("n599.example.com.", "A")).await;
    assert_eq!(refused.answers.len(), 1, "what was held back is no failure of the name");
}

#[tokio::test(start_paused = true)]
async fn without_an_upstream_the_answer_says_so() {
    for upstreams in [vec![], vec!["127.9.9.9:53".parse().unwrap()]] {
        let server = behind(&upstreams).await;
        let mut asked = query("example.com.", "A");
        asked.set_edns(Edns::new());
        let reply = by_udp(&server, &asked).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
        assert_eq!(reply.edns.unwrap().options().as_ref().len(), 1);
    }
}
