//! Resolvers of the tests' own, and servers that forward to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{RData, Record};
use portolan_dns::forward::routes::Routes;
use portolan_dns::forward::{ForwardMetrics, Forwarder};
use portolan_runtime::jobs::Jobs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::started::{Started, node};

/// A question that reached a resolver.
pub(crate) struct Ask {
    /// Of those that came by UDP; `usize::MAX` by TCP.
    pub(crate) number: usize,
    pub(crate) octets: Vec<u8>,
    pub(crate) message: Message,
    pub(crate) peer: SocketAddr,
}

type Handler = dyn Fn(Ask) -> Vec<Vec<u8>> + Send + Sync;

/// A resolver.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    asked_by_tcp: Arc<AtomicUsize>,
    delay_ms: Arc<AtomicU64>,
}

impl Upstream {
    /// `handler` gets the number of the packet and the packet.
    pub(crate) async fn start(
        jobs: &Jobs,
        handler: impl Fn(usize, Message) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self::start_raw(jobs, move |ask| handler(ask.number, ask.message).into_iter().collect()).await
    }

    /// `handler` says which packets are sent back; over TCP, what is written.
    pub(crate) async fn start_raw(jobs: &Jobs, handler: impl Fn(Ask) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = bound().await;
        let address = udp.local_addr().unwrap();
        let handler: Arc<Handler> = Arc::new(handler);
        let (asked, asked_by_tcp) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let delay_ms = Arc::<AtomicU64>::default();
        let upstream = Upstream { address, asked, asked_by_tcp, delay_ms };
        jobs.start_work("upstream udp", by_udp(jobs.clone(), udp, handler.clone(), upstream.counts()));
        jobs.start_work("upstream tcp", by_tcp(tcp, handler, upstream.asked_by_tcp.clone()));
        upstream
    }

    fn counts(&self) -> (Arc<AtomicUsize>, Arc<AtomicU64>) {
        (self.asked.clone(), self.delay_ms.clone())
    }

    /// By UDP.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn asked_by_tcp(&self) -> usize {
        self.asked_by_tcp.load(Ordering::SeqCst)
    }

    /// Answers come that late from now on.
    pub(crate) fn set_delay_ms(&self, ms: u64) {
        self.delay_ms.store(ms, Ordering::SeqCst);
    }
}

async fn by_udp(jobs: Jobs, udp: UdpSocket, handler: Arc<Handler>, counts: (Arc<AtomicUsize>, Arc<AtomicU64>)) {
    let (asked, delay_ms) = counts;
    let udp = Arc::new(udp);
    let mut packet = [0; 4096];
    while let Ok((length, peer)) = udp.recv_from(&mut packet).await {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        let octets = packet[..length].to_vec();
        let replies = handler(Ask { number, message: Message::from_vec(&octets).unwrap(), octets, peer });
        let delay = Duration::from_millis(delay_ms.load(Ordering::SeqCst));
        let udp = udp.clone();
        let send = async move {
            if delay > Duration::ZERO {
                tokio::time::sleep(delay).await;
            }
            for reply in replies {
                // Whoever asked may be gone by now.
                udp.send_to(&reply, peer).await.ok();
            }
        };
        if delay > Duration::ZERO { jobs.start_work("upstream reply", send) } else { send.await }
    }
}

async fn by_tcp(tcp: TcpListener, handler: Arc<Handler>, asked: Arc<AtomicUsize>) {
    while let Ok((mut stream, peer)) = tcp.accept().await {
        asked.fetch_add(1, Ordering::SeqCst);
        let mut octets = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut octets).await.unwrap();
        let message = Message::from_vec(&octets).unwrap();
        for reply in handler(Ask { number: usize::MAX, octets, message, peer }) {
            stream.write_u16(reply.len() as u16).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    }
}

/// Both on one port: one that is free for UDP may be taken for TCP.
pub(crate) async fn bound() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

pub(crate) async fn start(
    handler: impl Fn(usize, Message) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (Started, Upstream) {
    let outside = Jobs::new();
    let upstream = Upstream::start(&outside, handler).await;
    let server = behind(&[upstream.address]).await;
    (server, upstream)
}

/// A node's server that asks them, itself at 127.9.9.9.
pub(crate) async fn behind(upstreams: &[SocketAddr]) -> Started {
    node(|jobs| Some(forwarder(jobs, upstreams))).await
}

pub(crate) fn forwarder(jobs: Jobs, upstreams: &[SocketAddr]) -> Arc<Forwarder> {
    Forwarder::new(jobs, &Routes::from(upstreams), &["127.9.9.9".parse().unwrap()], ForwardMetrics::default())
}

pub(crate) fn answered(asked: Message, ttl: u32) -> Vec<u8> {
    let name = asked.queries[0].name().clone();
    let mut reply = asked.into_response();
    reply.add_answer(Record::from_rdata(name, ttl, RData::A(Ipv4Addr::new(192, 0, 2, 1).into())));
    reply.to_vec().unwrap()
}

pub(crate) fn failed(asked: Message, code: ResponseCode) -> Vec<u8> {
    let mut reply = asked.into_response();
    reply.metadata.response_code = code;
    reply.to_vec().unwrap()
}

pub(crate) fn missing(asked: Message) -> Vec<u8> {
    let zone = asked.queries[0].name().base_name();
    let mut reply = asked.into_response();
    reply.metadata.response_code = ResponseCode::NXDomain;
    let data = hickory_proto::rr::rdata::SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, 7);
    reply.add_authority(Record::from_rdata(zone, 3600, RData::SOA(data)));
    reply.to_vec().unwrap()
}

pub(crate) fn ttl(reply: &Message) -> u32 {
    reply.answers[0].ttl
}

/// The code of the extended error, if there is one.
pub(crate) fn extended(reply: &Message) -> Option<u16> {
    let options = reply.edns.as_ref()?.options().as_ref();
    options.iter().find_map(|(code, option)| match (u16::from(*code), option) {
        (15, EdnsOption::Unknown(_, octets)) => Some(u16::from_be_bytes([octets[0], octets[1]])),
        _ => None,
    })
}

/// `message` with EDNS, so that the reply can say what went wrong.
pub(crate) fn with_edns(mut message: Message) -> Message {
    message.set_edns(hickory_proto::op::Edns::new());
    message
}
