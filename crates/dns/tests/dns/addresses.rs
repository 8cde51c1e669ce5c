//! The addresses of one name, by a resolver of the test's own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record};
use portolan_dns::forward::addresses::{Addresses, AddressesError, Asker, Kind};
use portolan_dns::forward::routes::Routes;
use portolan_runtime::jobs::Jobs;

use crate::upstream::{Upstream, failed, missing};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn address(text: &str) -> RData {
    match text.parse().unwrap() {
        IpAddr::V4(v4) => RData::A(v4.into()),
        IpAddr::V6(v6) => RData::AAAA(v6.into()),
    }
}

/// What a resolver says of `db.example.com`: each record as owner, TTL and data; what is no address is an alias.
fn reply(asked: Message, records: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut reply = asked.into_response();
    for (owner, ttl, data) in records {
        let is_address = data.parse::<IpAddr>().is_ok();
        let data = if is_address { address(data) } else { RData::CNAME(CNAME(name(data))) };
        reply.add_answer(Record::from_rdata(name(owner), *ttl, data));
    }
    reply.to_vec().unwrap()
}

async fn asked(kind: Kind, records: &'static [(&str, u32, &str)]) -> Result<Addresses, AddressesError> {
    let jobs = Jobs::new();
    let upstream = Upstream::start(&jobs, |_, asked| Some(reply(asked, records))).await;
    Asker::new(&Routes::from(&[upstream.address][..])).ask("db.Example.com", kind).await
}

fn found(addresses: &[&str], seconds: u64) -> Result<Addresses, AddressesError> {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Ok(Addresses { addresses, ttl: Duration::from_secs(seconds) })
}

#[tokio::test(start_paused = true)]
async fn follows_aliases_and_takes_the_shortest_ttl() {
    let plain = &[("db.example.com.", 30, "192.0.2.1"), ("db.example.com.", 60, "192.0.2.2")];
    assert_eq!(asked(Kind::V4, plain).await, found(&["192.0.2.1", "192.0.2.2"], 30));
    let aliases = &[
        ("a.example.net.", 60, "192.0.2.1"),
        ("DB.example.com.", 5, "x.example.net."),
        ("x.example.net.", 300, "A.example.net."),
        ("stranger.example.net.", 60, "192.0.2.9"),
    ];
    assert_eq!(asked(Kind::V4, aliases).await, found(&["192.0.2.1"], 5));
    let sixes = &[("db.example.com.", 7, "2001:db8::1"), ("db.example.com.", 7, "192.0.2.1")];
    assert_eq!(asked(Kind::V6, sixes).await, found(&["2001:db8::1"], 7));
    let circle = &[("db.example.com.", 7, "x.example.net."), ("x.example.net.", 7, "db.example.com.")];
    assert_eq!(asked(Kind::V4, circle).await, found(&[], 7));
}

#[tokio::test(start_paused = true)]
async fn a_name_without_addresses_is_an_answer_and_a_failure_is_none() {
    let jobs = Jobs::new();
    let upstream = Upstream::start(&jobs, |_, asked| Some(missing(asked))).await;
    let asker = Asker::new(&Routes::from(&[upstream.address][..]));
    assert_eq!(asker.ask("db.example.com", Kind::V4).await, found(&[], 7));
    assert_eq!(asker.ask("_a.b_c.example.com", Kind::V4).await, found(&[], 7));
    assert_eq!(asker.ask("a..b", Kind::V4).await, Err(AddressesError::NotAName));
    let failing = Upstream::start(&jobs, |_, asked| Some(failed(asked, ResponseCode::ServFail))).await;
    asker.set_default(&[failing.address]);
    assert_eq!(asker.ask("db.example.com", Kind::V4).await, Err(AddressesError::Unanswered));
    let silent = Upstream::start(&jobs, |_, _| None).await;
    asker.set_default(&[silent.address]);
    assert_eq!(asker.ask("db.example.com", Kind::V4).await, Err(AddressesError::Unanswered));
    assert_eq!(Asker::default().ask("db.example.com", Kind::V4).await, Err(AddressesError::NoResolver));
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_comes_over_tcp() {
    let jobs = Jobs::new();
    let upstream = Upstream::start(&jobs, |number, asked| {
        let owner = asked.queries[0].name().clone();
        let mut reply = asked.into_response();
        let is_tcp = number == usize::MAX;
        reply.metadata.truncation = !is_tcp;
        for octet in (0..200u8).filter(|_| is_tcp) {
            reply.add_answer(Record::from_rdata(owner.clone(), 9, address(&format!("192.0.2.{octet}"))));
        }
        Some(reply.to_vec().unwrap())
    })
    .await;
    let found = Asker::new(&Routes::from(&[upstream.address][..])).ask("db.example.com", Kind::V4).await.unwrap();
    assert_eq!(found.addresses.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_asked_than_a_resolver_takes() {
    let jobs = Jobs::new();
    let upstream = Upstream::start(&jobs, |_, asked| Some(missing(asked))).await;
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let asker = Asker::new(&Routes::from(&[upstream.address, nobody][..]));
    for _ in 0..500 {
        assert!(asker.ask("db.example.com", Kind::V4).await.is_ok());
    }
    assert_eq!(asker.ask("db.example.com", Kind::V4).await, Err(AddressesError::OverBudget));
}
