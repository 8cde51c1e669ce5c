//! Upstreams that ask us what we ask them.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Name;
use portolan_dns::forward::routes::Routes;
use portolan_dns::forward::{ForwardMetrics, Forwarder};
use portolan_runtime::jobs::Jobs;
use prometheus_client::registry::Registry;
use tokio::net::UdpSocket;

use crate::served::{by_udp, query};
use crate::started::{Started, node};
use crate::upstream::{Upstream, answered, bound, extended, ttl, with_edns};

/// A node's server that asks `upstreams`, with its counts.
async fn counted(upstreams: &[SocketAddr]) -> (Started, Registry) {
    let mut registry = Registry::default();
    let metrics = ForwardMetrics::new(&mut registry);
    let server = node(|jobs| Some(Forwarder::new(jobs, &Routes::from(upstreams), &[], metrics))).await;
    (server, registry)
}

fn count(registry: &Registry, name: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("dns_forward_{name}_total ")));
    line.unwrap().parse().unwrap()
}

/// A resolver on `udp` that asks `server` everything, after `change`.
async fn relay(udp: UdpSocket, server: SocketAddr, change: impl Fn(&mut Message) + Send) {
    let udp = Arc::new(udp);
    let jobs = Jobs::new();
    let mut packet = [0; 4096];
    while let Ok((length, peer)) = udp.recv_from(&mut packet).await {
        let mut asked = Message::from_vec(&packet[..length]).unwrap();
        let (id, queries) = (asked.metadata.id, asked.queries.clone());
        asked.metadata.id = rand::random();
        change(&mut asked);
        let (udp, octets) = (udp.clone(), asked.to_vec().unwrap());
        jobs.start_work("relay", async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(server).await.unwrap();
            socket.send(&octets).await.unwrap();
            let mut reply = [0; 4096];
            let length = socket.recv(&mut reply).await.unwrap();
            let mut reply = Message::from_vec(&reply[..length]).unwrap();
            (reply.metadata.id, reply.queries) = (id, queries);
            udp.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_comes_back_is_refused_at_once() {
    let want_dnssec = |asked: &mut Message| {
        asked.edns.as_mut().unwrap().set_dnssec_ok(true);
    };
    let changes: [fn(&mut Message); 2] = [|_| (), want_dnssec];
    for change in changes {
        let (udp, _tcp) = bound().await;
        let (server, counts) = counted(&[udp.local_addr().unwrap()]).await;
        Jobs::new().start_work("relay", relay(udp, server.address, change));
        for number in 0..3 {
            let started = tokio::time::Instant::now();
            let reply = by_udp(&server, &with_edns(query(&format!("n{number}.example.com."), "A"))).await;
            assert_eq!((reply.metadata.response_code, extended(&reply)), (ResponseCode::ServFail, Some(0)));
            assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
        }
        assert_eq!((count(&counts, "sent"), count(&counts, "looped")), (3, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn behind_a_circle_the_next_upstream_answers() {
    let (udp, _tcp) = bound().await;
    let good = Upstream::start(&Jobs::new(), |_, asked| Some(answered(asked, 99))).await;
    let (server, counts) = counted(&[udp.local_addr().unwrap(), good.address]).await;
    Jobs::new().start_work("relay", relay(udp, server.address, |_| ()));
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), 99);
    assert_eq!((good.asked(), count(&counts, "looped")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_circle_that_changes_the_case_does_not_multiply_questions() {
    let (udp, _tcp) = bound().await;
    let (server, counts) = counted(&[udp.local_addr().unwrap()]).await;
    let lower = |asked: &mut Message| {
        let name: Name = asked.queries[0].name().to_lowercase();
        asked.queries[0].set_name(name);
    };
    Jobs::new().start_work("relay", relay(udp, server.address, lower));
    let started = tokio::time::Instant::now();
    let reply = by_udp(&server, &query("example.com.", "A")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(count(&counts, "sent"), 3, "what comes back waits for the same flight");
}

#[tokio::test(start_paused = true)]
async fn equal_questions_of_several_askers_are_no_circle() {
    let upstream = Upstream::start(&Jobs::new(), |_, asked| Some(answered(asked, 0))).await;
    upstream.set_delay_ms(200);
    let (server, counts) = counted(&[upstream.address]).await;
    let names = ["example.com.", "EXAMPLE.COM.", "Example.Com.", "example.com."];
    let asked = names.map(|name| query(name, "A"));
    let replies = futures_util::future::join_all(asked.iter().map(|asked| by_udp(&server, asked))).await;
    assert!(replies.iter().all(|reply| reply.answers.len() == 1));
    assert_eq!((upstream.asked(), count(&counts, "looped")), (1, 0));
}

/// Ends with this value.
struct Dnsmasq(Child);

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// dnsmasq on `port`, which asks `server` everything; `None`, loudly, when it is missing and this is no CI.
fn dnsmasq(port: u16, server: SocketAddr) -> Option<Dnsmasq> {
    let mut command = Command::new("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
    command.args(["--listen-address=127.0.0.1", "--pid-file=", "--cache-size=0"]).arg(format!("--port={port}"));
    command.arg(format!("--server={}#{}", server.ip(), server.port()));
    match command.stderr(Stdio::null()).spawn() {
        Ok(child) => Some(Dnsmasq(child)),
        Err(error) if std::env::var("CI").as_deref() == Ok("true") => panic!("dnsmasq is needed in CI: {error}"),
        Err(error) => {
            eprintln!("SKIPPED: dnsmasq cannot be run ({error}); a circle through it is unchecked");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_through_dnsmasq_is_found() {
    // Two names for one port: it is free until dnsmasq takes it.
    let (udp, tcp) = bound().await;
    let address = udp.local_addr().unwrap();
    drop((udp, tcp));
    let (server, counts) = counted(&[address]).await;
    let Some(_dnsmasq) = dnsmasq(address.port(), server.address) else { return };
    let mut attempts = 0;
    while count(&counts, "looped") == 0 {
        attempts += 1;
        assert!(attempts < 20, "not found");
        // Each name once: what failed while it was starting is remembered.
        let asked = with_edns(query(&format!("n{attempts}.example.com."), "A"));
        assert_eq!(by_udp(&server, &asked).await.metadata.response_code, ResponseCode::ServFail);
    }
    let started = std::time::SystemTime::now();
    by_udp(&server, &query("later.example.com.", "A")).await;
    let waited = started.elapsed().unwrap();
    assert!(waited < Duration::from_millis(1500), "{waited:?}");
}
