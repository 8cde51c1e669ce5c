//! Several upstreams: who is asked first, and what a slow or dead one costs. Time is virtual.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use portolan_core::lookup::Zone;
use portolan_dns::forward::routes::Routes;
use portolan_dns::forward::{ForwardMetrics, Forwarder};
use portolan_runtime::jobs::Jobs;

use crate::served::{by_udp, query};
use crate::started::{Started, node};
use crate::upstream::{Upstream, answered, behind, extended, failed, ttl, with_edns};

const FIRST: u32 = 11;
const SECOND: u32 = 22;

/// Two, told by the TTL of what they answer, and a server that asks them.
async fn two() -> (Upstream, Upstream, Started) {
    let outside = Jobs::new();
    let first = Upstream::start(&outside, |_, asked| Some(answered(asked, FIRST))).await;
    let second = Upstream::start(&outside, |_, asked| Some(answered(asked, SECOND))).await;
    let server = behind(&[first.address, second.address]).await;
    (first, second, server)
}

/// Asks for a new name; who answered, and after how many milliseconds.
async fn asked(server: &Started, number: usize) -> (u32, u128) {
    let started = tokio::time::Instant::now();
    let reply = by_udp(server, &query(&format!("n{number}.example.com."), "A")).await;
    (ttl(&reply), started.elapsed().as_millis())
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_upstream_costs_a_few_questions_and_is_first_again_when_it_is_quick() {
    let (first, second, server) = two().await;
    assert_eq!(asked(&server, 0).await.0, FIRST);
    first.set_delay_ms(700);
    let mut waits = Vec::new();
    for number in 1..100 {
        waits.push(asked(&server, number).await.1);
    }
    let slow = waits.iter().filter(|ms| **ms > 50).count();
    assert!(slow <= 6 && waits.iter().all(|ms| *ms < 500), "{slow} slow ones: {waits:?}");
    assert!(second.asked() >= 90, "{}", second.asked());
    let mut explored = 0;
    for number in 100..400 {
        tokio::time::advance(Duration::from_millis(100)).await;
        explored += usize::from(asked(&server, number).await.1 > 50);
    }
    assert!((1..=4).contains(&explored), "in thirty seconds: {explored}");
    first.set_delay_ms(0);
    let mut by_first = 0;
    for number in 400..700 {
        tokio::time::advance(Duration::from_millis(200)).await;
        by_first += usize::from(asked(&server, number).await.0 == FIRST);
    }
    assert!(by_first > 100, "{by_first} of 300 within a minute");
    assert_eq!(asked(&server, 700).await.0, FIRST);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_only_slow_counts_as_much_as_a_second_one() {
    let outside = Jobs::new();
    let slow = Upstream::start(&outside, |_, asked| Some(answered(asked, FIRST))).await;
    slow.set_delay_ms(3_000);
    let silent = Upstream::start(&outside, |_, _| None).await;
    let server = behind(&[slow.address]).await;
    let (by, waited) = asked(&server, 0).await;
    assert_eq!(by, FIRST);
    // The third question goes out after 2.3 s; what the first brings is lost then, not what the second does.
    assert!((3_000..4_000).contains(&waited), "{waited}");
    slow.set_delay_ms(600);
    let server = behind(&[slow.address, silent.address]).await;
    assert_eq!((asked(&server, 1).await.0, silent.asked()), (FIRST, 1));
}

#[tokio::test(start_paused = true)]
async fn names_that_are_slow_to_find_are_not_asked_for_twice() {
    let (first, second, server) = two().await;
    first.set_delay_ms(300);
    for number in 0..200 {
        assert_eq!(asked(&server, number).await.0, FIRST);
    }
    assert_eq!((first.asked(), second.asked()), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_cannot_answer_a_name_stays_the_first() {
    let outside = Jobs::new();
    let is_broken =
        |asked: &hickory_proto::op::Message| asked.queries[0].name().to_lowercase().to_ascii().starts_with("bad");
    let first = Upstream::start(&outside, move |_, asked| {
        Some(if is_broken(&asked) { failed(asked, ResponseCode::ServFail) } else { answered(asked, FIRST) })
    })
    .await;
    let second = Upstream::start(&outside, |_, asked| Some(answered(asked, SECOND))).await;
    let server = behind(&[first.address, second.address]).await;
    for number in 0..20 {
        let reply = by_udp(&server, &query(&format!("bad{number}.example.com."), "A")).await;
        assert_eq!(ttl(&reply), SECOND);
    }
    assert_eq!(asked(&server, 1).await.0, FIRST, "the second may not know what the first knows");
}

#[tokio::test(start_paused = true)]
async fn a_suffix_goes_to_its_own_resolvers_and_never_elsewhere() {
    let outside = Jobs::new();
    let general = Upstream::start(&outside, |_, asked| Some(answered(asked, FIRST))).await;
    let consul = Upstream::start(&outside, |number, asked| (number == 0).then(|| answered(asked, SECOND))).await;
    let entries =
        [format!("{}", general.address), format!("consul={}", consul.address), "own.test=127.9.9.9".to_owned()];
    let entries: Vec<_> = entries.iter().map(|entry| entry.parse().unwrap()).collect();
    let routes = Routes::new(&entries, &Zone::parse("ecs.internal").unwrap()).unwrap();
    let own = ["127.9.9.9".parse().unwrap()];
    let server = node(|jobs| Some(Forwarder::new(jobs, &routes, &own, ForwardMetrics::default()))).await;
    assert_eq!(ttl(&by_udp(&server, &query("web.service.Consul.", "A")).await), SECOND);
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), FIRST);
    let failed = by_udp(&server, &with_edns(query("db.service.consul.", "A"))).await;
    assert_eq!((failed.metadata.response_code, extended(&failed)), (ResponseCode::ServFail, Some(22)));
    let refused = by_udp(&server, &with_edns(query("a.own.test.", "A"))).await;
    assert_eq!((refused.metadata.response_code, extended(&refused)), (ResponseCode::Refused, Some(20)));
    assert_eq!(general.asked(), 1, "nothing of a suffix");
}
