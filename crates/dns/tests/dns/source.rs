//! A reply comes from the address that was asked, also where the server is bound to all of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::net::UdpSocket;

use crate::served::query;
use crate::started::{Started, at};

async fn check(server: &Started, asked: &str) {
    let asked = SocketAddr::new(asked.parse().unwrap(), server.address.port());
    // Not connected: the kernel would throw away what comes from elsewhere.
    let any: IpAddr = if asked.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await.unwrap();
    for (name, answers) in [("web.prod.ecs.internal.", 1), ("web.prod.ecs.internal.", 1), ("far.prod.ecs.internal.", 1)]
    {
        socket.send_to(&query(name, "A").to_vec().unwrap(), asked).await.unwrap();
        let mut reply = [0; 512];
        let received = tokio::time::timeout(Duration::from_secs(10), socket.recv_from(&mut reply)).await;
        let (length, from) = received.unwrap().unwrap();
        assert_eq!(from, asked, "{name}");
        assert_eq!(Message::from_vec(&reply[..length]).unwrap().answers.len(), answers, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_come_from_the_address_that_was_asked() {
    let server = at("0.0.0.0:0").await;
    for asked in ["127.0.0.1", "127.0.0.2", "127.3.2.1"] {
        check(&server, asked).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_for_both_families_on_one_socket() {
    let server = at("[::]:0").await;
    for asked in ["::1", "127.0.0.2", "127.0.0.1"] {
        check(&server, asked).await;
    }
}
