//! Upstreams that mean harm, and others that pretend to be one. Real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record};
use portolan_runtime::jobs::Jobs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::served::{by_udp, query};
use crate::started::Started;
use crate::upstream::{Upstream, answered, behind, bound, failed, start, ttl};

/// What a forger wants to be believed.
const POISON: u32 = 666;

fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// The same answer for another name, type, class, id, kind of message: everything but what was asked.
fn forgeries(asked: &Message) -> Vec<Vec<u8>> {
    let good = answered(asked.clone(), POISON);
    let name_end = 12 + asked.queries[0].name().len();
    // Id; opcode; the number of questions; the first letter; type; class.
    let places = [(0, 1), (2, 0x10), (5, 1), (13, 0x10), (name_end + 1, 2), (name_end + 3, 2)];
    let changed = places.map(|(at, bit)| {
        let mut octets = good.clone();
        octets[at] ^= bit;
        octets
    });
    let mut all = changed.to_vec();
    all.extend([asked.to_vec().unwrap(), b"garbage".to_vec(), vec![], good[..20].to_vec()]);
    all
}

#[tokio::test(start_paused = true)]
async fn nothing_but_the_answer_to_the_question_is_taken() {
    let outside = Jobs::new();
    let upstream = Upstream::start_raw(&outside, |ask| {
        let mut packets = forgeries(&ask.message);
        packets.push(answered(ask.message, 99));
        packets
    })
    .await;
    let server = behind(&[upstream.address]).await;
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), 99);
    assert_eq!((upstream.asked(), upstream.asked_by_tcp()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_another_port_or_address_is_not_taken() {
    let outside = Jobs::new();
    let others = [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.2:0").await.unwrap()];
    let others = others.map(|other| other.into_std().unwrap());
    let upstream = Upstream::start_raw(&outside, move |ask| {
        for other in &others {
            other.send_to(&answered(ask.message.clone(), POISON), ask.peer).unwrap();
        }
        vec![answered(ask.message, 99)]
    })
    .await;
    let server = behind(&[upstream.address]).await;
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), 99);
}

/// All that this process has in memory, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// An upstream whose answer comes amid 10,000 forged ones from its own address and port; each time, one guess is right
/// but for the case of one letter.
fn flooding(ask: &Message, udp: &std::net::UdpSocket, peer: SocketAddr) {
    let mut forged = answered(ask.clone(), POISON);
    for guess in 0..10_000u16 {
        let id = if guess == 9_999 { ask.metadata.id } else { ask.metadata.id.wrapping_add(1 + guess) };
        forged[..2].copy_from_slice(&id.to_be_bytes());
        forged[13] ^= if guess == 9_999 { 0x20 } else { 0 };
        udp.send_to(&forged, peer).ok();
        if guess == 5_000 {
            udp.send_to(&answered(ask.clone(), 99), peer).ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_forged_answers_change_nothing() {
    let (udp, tcp) = bound().await;
    let server = behind(&[udp.local_addr().unwrap()]).await;
    let outside = Jobs::new();
    let udp = udp.into_std().unwrap();
    udp.set_nonblocking(false).unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut packet) {
            flooding(&Message::from_vec(&packet[..length]).unwrap(), &udp, peer);
        }
    });
    outside.start_work("upstream tcp", async move {
        while let Ok((stream, _)) = tcp.accept().await {
            serve_one(stream, |asked| answered(asked, 99)).await;
        }
    });
    let before = resident_kib();
    for number in 0..10 {
        let reply = by_udp(&server, &query(&format!("n{number}.example.com."), "A")).await;
        assert_eq!((reply.metadata.response_code, ttl(&reply)), (ResponseCode::NoError, 99));
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
}

async fn serve_one(mut stream: TcpStream, answer: impl FnOnce(Message) -> Vec<u8>) {
    let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut packet).await.unwrap();
    let reply = answer(Message::from_vec(&packet).unwrap());
    stream.write_u16(reply.len() as u16).await.unwrap();
    stream.write_all(&reply).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn records_of_others_are_neither_passed_on_nor_kept() {
    let bank =
        || Record::from_rdata(Name::from_ascii("bank.example.").unwrap(), 60, RData::A(Ipv4Addr::LOCALHOST.into()));
    let (server, upstream) = start(move |_, asked| {
        if asked.queries[0].name().to_lowercase().to_ascii() == "bank.example." {
            return Some(answered(asked, 99));
        }
        let mut reply = Message::from_vec(&answered(asked, 60)).unwrap();
        reply.add_answer(bank()).add_authority(bank()).add_additional(bank());
        Some(reply.to_vec().unwrap())
    })
    .await;
    for _ in 0..2 {
        let reply = by_udp(&server, &query("example.com.", "A")).await;
        let found = (reply.answers.len(), reply.authorities.len(), reply.additionals.len());
        assert_eq!(found, (1, 0, 0), "{reply}");
    }
    assert_eq!(ttl(&by_udp(&server, &query("bank.example.", "A")).await), 99, "asked for itself");
    assert_eq!(upstream.asked(), 2);
}

/// The same question to a server whose first upstream sends `packet` made of the true answer, the second the truth.
async fn asked_behind(spoil: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> (Message, Upstream) {
    let outside = Jobs::new();
    let bad = Upstream::start(&outside, move |_, asked| Some(spoil(answered(asked, POISON)))).await;
    let good = Upstream::start(&outside, |_, asked| Some(answered(asked, 99))).await;
    let server = behind(&[bad.address, good.address]).await;
    let started = now();
    let reply = by_udp(&server, &query("example.com.", "A")).await;
    assert!(started.elapsed() < Duration::from_millis(100), "the next one is asked at once: {:?}", started.elapsed());
    (reply, bad)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_is_a_failure_of_that_upstream() {
    // Behind the header and the question of 17 octets, the record begins at 29 with a pointer to the name.
    const RECORD: usize = 29;
    for (at, octets) in
        [(RECORD, b"\xc0\x1d"), (RECORD, b"\xc0\xff"), (RECORD, b"\x80\x0c"), (RECORD + 10, b"\xff\xff")]
    {
        let (reply, _) = asked_behind(move |mut packet| {
            packet[at..at + 2].copy_from_slice(octets);
            packet
        })
        .await;
        assert_eq!(ttl(&reply), 99, "{octets:x?}");
    }
    for length in RECORD..RECORD + 16 {
        let (reply, _) = asked_behind(move |packet| packet[..length].to_vec()).await;
        assert_eq!(ttl(&reply), 99, "cut at {length}");
    }
    for counts in [[0xff; 6], [0, 2, 0, 0, 0, 0], [0, 0, 0xff, 0xff, 0, 0]] {
        let (reply, _) = asked_behind(move |mut packet| {
            packet[6..12].copy_from_slice(&counts);
            packet
        })
        .await;
        assert_eq!(ttl(&reply), 99, "{counts:x?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_over_tcp_as_well_is_a_failure_of_that_upstream() {
    let (reply, bad) = asked_behind(|mut packet| {
        packet[2] |= 2;
        packet
    })
    .await;
    assert_eq!((ttl(&reply), bad.asked(), bad.asked_by_tcp()), (99, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_says_it_cannot_is_asked_once() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::FormErr, ResponseCode::NotImp] {
        let (server, upstream) = start(move |_, asked| Some(failed(asked, code))).await;
        let reply = by_udp(&server, &query("example.com.", "A")).await;
        assert_eq!((reply.metadata.response_code, upstream.asked()), (ResponseCode::ServFail, 1), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_over_tcp_that_drips_costs_a_bounded_time() {
    let outside = Jobs::new();
    let (udp, tcp) = bound().await;
    let dripping = udp.local_addr().unwrap();
    outside.start_work("upstream udp", async move {
        let mut packet = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut packet).await {
            (packet[2], packet[11]) = (0x83, 0);
            udp.send_to(&packet[..length - 11], peer).await.unwrap();
        }
    });
    outside.start_work("upstream tcp", async move {
        let (mut stream, _) = tcp.accept().await.unwrap();
        stream.write_all(&[0xff, 0xff]).await.unwrap();
        while stream.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let good = Upstream::start(&outside, |_, asked| Some(answered(asked, 99))).await;
    let server = behind(&[dripping, good.address]).await;
    let started = now();
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), 99);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let server = behind(&[dripping]).await;
    let started = now();
    let reply = by_udp(&server, &query("example.com.", "A")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_largest_answer_passes_and_a_datagram_that_is_too_large_does_no_harm() {
    // By hand: hickory does not compress every name of a long answer.
    let large = |asked: Message, records: u16| {
        let mut reply = asked.into_response().to_vec().unwrap();
        reply.truncate(12 + 13 + 4);
        reply[6..12].copy_from_slice(&[records.to_be_bytes(), [0; 2], [0; 2]].concat());
        for number in 0..records {
            reply.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00");
            reply.extend_from_slice(&number.to_be_bytes());
        }
        reply
    };
    let (server, upstream) = start(move |number, asked| {
        let is_tcp = number == usize::MAX;
        let mut reply = large(asked, if is_tcp { 4_090 } else { 400 });
        reply[2] |= if is_tcp { 0 } else { 2 };
        Some(reply)
    })
    .await;
    let mut asked = query("example.com.", "A");
    asked.set_edns(Edns::new().set_max_payload(1232).clone());
    let whole = by_udp(&server, &asked).await;
    assert!(whole.metadata.truncation && whole.answers.is_empty());
    let over_tcp = by_tcp(&server, &asked).await;
    assert_eq!((over_tcp.answers.len(), upstream.asked_by_tcp()), (4_090, 1));
    // Without the TC bit: more than was announced, and more than there is room for.
    let (server, _upstream) = start(move |_, asked| Some(large(asked, 400))).await;
    let reply = by_udp(&server, &query("example.com.", "A")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

async fn by_tcp(server: &Started, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let octets = message.to_vec().unwrap();
    stream.write_u16(octets.len() as u16).await.unwrap();
    stream.write_all(&octets).await.unwrap();
    let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut reply).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_makes_many_guesses_is_left_guessing() {
    let outside = Jobs::new();
    let upstream = Upstream::start_raw(&outside, |ask| {
        if ask.number == usize::MAX {
            return vec![answered(ask.message, 99)];
        }
        let guess = |number: u16| {
            let mut packet = answered(ask.message.clone(), POISON);
            // The right one is the last.
            packet[..2].copy_from_slice(&ask.message.metadata.id.wrapping_sub(50 - number).to_be_bytes());
            packet
        };
        (0..=50).map(guess).collect()
    })
    .await;
    let server = behind(&[upstream.address]).await;
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), 99);
    assert_eq!((upstream.asked(), upstream.asked_by_tcp()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_end_changes_nothing() {
    let outside = Jobs::new();
    let upstream = Upstream::start(&outside, |_, asked| Some(answered(asked, POISON))).await;
    upstream.set_delay_ms(4_800);
    let server = behind(&[upstream.address]).await;
    let started = now();
    let asked = query("example.com.", "A");
    assert_eq!(by_udp(&server, &asked).await.metadata.response_code, ResponseCode::ServFail);
    assert!(started.elapsed() < Duration::from_secs(5), "before a stub asks again: {:?}", started.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(upstream.asked(), 3);
    upstream.set_delay_ms(0);
    assert_eq!(by_udp(&server, &asked).await.answers.len(), 1);
    assert_eq!(upstream.asked(), 4, "what came late was not kept");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_nobody_has_costs_nothing_and_is_tried_again() {
    let outside = Jobs::new();
    let (udp, tcp) = bound().await;
    let address = udp.local_addr().unwrap();
    drop((udp, tcp));
    let good = Upstream::start(&outside, |_, asked| Some(answered(asked, 99))).await;
    let server = behind(&[address, good.address]).await;
    let started = now();
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), 99);
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    // Alone, it may only be restarting; and what the network says may be forged.
    let server = behind(&[address]).await;
    outside.start_work("comes back", async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let udp = UdpSocket::bind(address).await.unwrap();
        let mut packet = [0; 4096];
        let (length, peer) = udp.recv_from(&mut packet).await.unwrap();
        udp.send_to(&answered(Message::from_vec(&packet[..length]).unwrap(), 77), peer).await.unwrap();
    });
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), 77);
}

#[tokio::test(start_paused = true)]
async fn a_tcp_port_that_nobody_has_is_a_failure_of_that_upstream() {
    let outside = Jobs::new();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    drop(TcpListener::bind(address).await);
    outside.start_work("upstream", async move {
        let mut packet = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut packet).await {
            let mut reply = answered(Message::from_vec(&packet[..length]).unwrap(), POISON);
            reply[2] |= 2;
            udp.send_to(&reply, peer).await.unwrap();
        }
    });
    let good = Upstream::start(&outside, |_, asked| Some(answered(asked, 99))).await;
    let server = behind(&[address, good.address]).await;
    assert_eq!(ttl(&by_udp(&server, &query("example.com.", "A")).await), 99);
}
