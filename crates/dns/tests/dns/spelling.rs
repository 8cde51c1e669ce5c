//! Questions are written in a random case, from a random port with a random id, and answers have to repeat all of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, ResponseCode};
use portolan_runtime::jobs::Jobs;
use tokio::net::UdpSocket;

use crate::served::{by_udp, query};
use crate::upstream::{Upstream, answered, behind};

const NAME: &str = "an-unusually-long-name.example.com.";

/// What an upstream that keeps no case makes of a question.
fn lowered(mut message: Message) -> Message {
    let lower = message.queries[0].name().to_lowercase();
    message.queries[0].set_name(lower);
    message
}

#[tokio::test(start_paused = true)]
async fn every_question_has_a_port_an_id_and_a_case_of_its_own() {
    let outside = Jobs::new();
    let seen = Arc::new(Mutex::new((Vec::new(), BTreeSet::new(), BTreeSet::new())));
    let noted = seen.clone();
    let upstream = Upstream::start_raw(&outside, move |ask| {
        let mut seen = noted.lock().unwrap();
        seen.0.push(ask.peer.port());
        seen.1.insert(ask.message.metadata.id);
        seen.2.insert(ask.octets[12..12 + NAME.len()].to_vec());
        vec![answered(ask.message, 0)]
    })
    .await;
    let server = behind(&[upstream.address]).await;
    for _ in 0..200 {
        let reply = by_udp(&server, &query(NAME, "A")).await;
        assert_eq!(reply.queries[0].name().to_ascii(), NAME, "the asker's case");
    }
    let seen = seen.lock().unwrap();
    let ports: BTreeSet<u16> = seen.0.iter().copied().collect();
    let neighbours = seen.0.windows(2).filter(|ports| ports[0].abs_diff(ports[1]) <= 2).count();
    assert!(ports.len() > 180 && neighbours < 10, "{} ports, {neighbours} next to the last", ports.len());
    assert!(seen.1.len() > 190, "{} ids", seen.1.len());
    assert_eq!(seen.2.len(), 200, "cases");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_keeps_no_case_is_asked_over_tcp_and_then_in_lower_case() {
    let outside = Jobs::new();
    let upstream = Upstream::start(&outside, |_, asked| Some(answered(lowered(asked), 0))).await;
    let server = behind(&[upstream.address]).await;
    for number in 1..=5 {
        let reply = by_udp(&server, &query(NAME, "A")).await;
        assert_eq!(reply.answers.len(), 1);
        assert_eq!((upstream.asked(), upstream.asked_by_tcp()), (number, 1));
    }
    // It is looked at anew after a while.
    tokio::time::advance(std::time::Duration::from_secs(601)).await;
    by_udp(&server, &query(NAME, "A")).await;
    assert_eq!(upstream.asked_by_tcp(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_keeps_no_case_and_has_no_tcp_is_asked_in_lower_case() {
    let outside = Jobs::new();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = behind(&[udp.local_addr().unwrap()]).await;
    let names = Arc::new(Mutex::new(Vec::new()));
    let noted = names.clone();
    outside.start_work("upstream", async move {
        let mut packet = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut packet).await {
            let asked = Message::from_vec(&packet[..length]).unwrap();
            noted.lock().unwrap().push(asked.queries[0].name().to_ascii() == NAME);
            udp.send_to(&answered(lowered(asked), 0), peer).await.unwrap();
        }
    });
    let started = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(by_udp(&server, &query(NAME, "A")).await.answers.len(), 1);
    }
    assert!(started.elapsed().as_millis() < 100, "{:?}", started.elapsed());
    assert_eq!(*names.lock().unwrap(), [false, true, true, true], "whether it was asked in lower case");
}

#[tokio::test(start_paused = true)]
async fn a_forged_answer_in_another_case_only_makes_it_ask_over_tcp() {
    let outside = Jobs::new();
    let upstream = Upstream::start(&outside, |number, asked| {
        let ttl = if number == usize::MAX { 7 } else { 666 };
        Some(answered(if number == usize::MAX { asked } else { lowered(asked) }, ttl))
    })
    .await;
    let server = behind(&[upstream.address]).await;
    for number in 1..=2 {
        let reply = by_udp(&server, &query(&format!("n{number}.{NAME}"), "A")).await;
        assert_eq!((reply.metadata.response_code, reply.answers[0].ttl), (ResponseCode::NoError, 7));
        assert_eq!(upstream.asked_by_tcp(), number, "it keeps the case: nothing is made easier");
    }
}
