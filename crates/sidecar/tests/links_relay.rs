//! The relay against real sockets: which endpoint, how connections end, what they cost. In namespaces, as root.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests fail as tests do")]

#[path = "links/host.rs"]
mod host;
#[path = "links/rig.rs"]
mod rig;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use host::{Host, OTHER, Place, eventually};
use portolan_core::endpoint::State;
use portolan_core::view::EndpointSet;
use portolan_sidecar::links::LinkLimits;
use rig::{Rig, VIP, process, service, vip, web};

/// "At once": no retransmission and no time-out, on a machine that is busy with other tests.
const AT_ONCE: Duration = Duration::from_millis(150);

fn any(ip: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(ip, 0)
}

#[test]
fn dead_peers_are_noticed_by_keepalive() {
    let Some(host) = Host::new() else { return };
    let backend = host.hold(Place::Other, any(OTHER));
    let _rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    let mut stream = host.at(Place::Container, || TcpStream::connect(vip(80)).unwrap());
    stream.write_all(b"x").unwrap();
    read_byte(&mut stream).unwrap();
    eventually("both sockets of the relay have a keepalive timer", || {
        host.shell("ss -tnoH state established").matches("timer:(keepalive,").count() == 2
    });
}

#[test]
fn a_service_that_nobody_followed_yet_is_followed_at_the_first_connection() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    let mut rig = Rig::start(&host, vec![service(("web", VIP), EndpointSet::Unfollowed)]);
    let client = host.start(Place::Container, || host::fetch(vip(80)));
    let asked = rig.followed.blocking_recv().unwrap();
    assert_eq!(asked.to_string(), "web.test");
    rig.publish(vec![web(&[(backend, State::Usable)])]);
    assert_eq!(client.join().unwrap().unwrap(), "other");
}

#[test]
fn a_connect_that_fails_or_takes_too_long_goes_on_to_the_next_endpoint() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    let closed = SocketAddrV4::new(OTHER, 1);
    host.shell_at(Place::Other, "nft add table ip t");
    host.shell_at(Place::Other, "nft add chain ip t i '{ type filter hook input priority 0; }'");
    host.shell_at(Place::Other, "nft add rule ip t i tcp dport 7777 drop");
    let hole = SocketAddrV4::new(OTHER, 7777);
    let check = |dead: SocketAddrV4, at_most: Duration| {
        // The dead one is of a better rank, so it is always tried first.
        let rig = Rig::start(&host, vec![web(&[(dead, State::Usable), (backend, State::Unusable)])]);
        let (answer, took) = host.fetch(Place::Container, vip(80));
        assert_eq!(answer.unwrap(), "other");
        assert!(took < at_most, "{dead}: {took:?}");
        // From now on it stands last.
        let (answer, took) = host.fetch(Place::Container, vip(80));
        assert_eq!(answer.unwrap(), "other");
        assert!(took < AT_ONCE, "{dead}, second: {took:?}");
        assert_eq!(rig.links.status()[0].failures, 1);
    };
    check(closed, AT_ONCE);
    check(hole, Duration::from_millis(300) + AT_ONCE);
}

#[test]
fn a_slow_endpoint_may_still_win_when_the_others_fail() {
    let Some(host) = Host::new() else { return };
    let slow = host.server(Place::Other, any(OTHER), "slow");
    // The first SYN is lost; its retransmission after a second gets through.
    host.shell_at(Place::Other, "nft add table ip t");
    host.shell_at(Place::Other, "nft add chain ip t i '{ type filter hook input priority 0; }'");
    let port = slow.port();
    host.shell_at(
        Place::Other,
        &format!("nft add rule ip t i tcp dport {port} tcp flags syn / syn,ack quota until 100 bytes drop"),
    );
    let closed = SocketAddrV4::new(OTHER, 1);
    let _rig = Rig::start(&host, vec![web(&[(slow, State::Usable), (closed, State::Unusable)])]);
    let (answer, took) = host.fetch(Place::Container, vip(80));
    assert_eq!(answer.unwrap(), "slow");
    assert!(took > Duration::from_millis(900), "{took:?}");
}

#[test]
fn an_endpoint_that_appears_while_connecting_is_tried_too() {
    let Some(host) = Host::new() else { return };
    let backend = host.server(Place::Other, any(OTHER), "other");
    host.shell_at(Place::Other, "nft add table ip t");
    host.shell_at(Place::Other, "nft add chain ip t i '{ type filter hook input priority 0; }'");
    host.shell_at(Place::Other, "nft add rule ip t i tcp dport 7777 counter drop");
    let hole = SocketAddrV4::new(OTHER, 7777);
    let rig = Rig::start(&host, vec![web(&[(hole, State::Usable)])]);
    let client = host.start(Place::Container, || host::fetch(vip(80)));
    eventually("it tries", || host.shell_at(Place::Other, "nft list table ip t").contains("packets 1 "));
    rig.publish(vec![web(&[(backend, State::Usable)])]);
    assert_eq!(client.join().unwrap().unwrap(), "other");
}

#[test]
fn no_endpoint_answers_and_the_client_is_reset() {
    let Some(host) = Host::new() else { return };
    let _rig = Rig::start(&host, vec![web(&[(SocketAddrV4::new(OTHER, 1), State::Usable)])]);
    let (answer, took) = host.fetch(Place::Container, vip(80));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
fn each_side_may_close_alone() {
    let Some(host) = Host::new() else { return };
    // Answers only once the client has closed its side.
    let backend = host.serve(Place::Other, any(OTHER), |mut stream| {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        stream.write_all(format!("heard {said}").as_bytes()).unwrap();
    });
    let _rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    let answer = host.at(Place::Container, || {
        let mut stream = TcpStream::connect(vip(80)).unwrap();
        stream.write_all(b"all of it").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    assert_eq!(answer.unwrap(), "heard all of it");
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    let Some(host) = Host::new() else { return };
    let (tell, told) = mpsc::channel();
    let backend = host.serve(Place::Other, any(OTHER), move |mut stream| match read_byte(&mut stream).unwrap() {
        b'r' => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
        _ => tell.send(read_byte(&mut stream).map_err(|error| error.kind())).unwrap(),
    });
    let _rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    let from_server = host.at(Place::Container, || {
        let mut stream = TcpStream::connect(vip(80)).unwrap();
        stream.write_all(b"r").unwrap();
        read_byte(&mut stream)
    });
    assert_eq!(from_server.unwrap_err().kind(), ErrorKind::ConnectionReset);
    host.at(Place::Container, || {
        let mut stream = TcpStream::connect(vip(80)).unwrap();
        stream.write_all(b"c").unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(told.recv_timeout(host::PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_reset_after_one_side_closed_is_noticed() {
    let Some(host) = Host::new() else { return };
    let (tell, told) = mpsc::channel();
    let backend = host.serve(Place::Other, any(OTHER), move |mut stream| {
        // The client's end of data, then nothing but the reset to wait for.
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
        tell.send(()).unwrap();
        let mut wait = [rustix::event::PollFd::new(&stream, rustix::event::PollFlags::empty())];
        rustix::event::poll(&mut wait, None).unwrap();
        tell.send(()).unwrap();
    });
    let rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    let client = host.at(Place::Container, || {
        let stream = TcpStream::connect(vip(80)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream
    });
    told.recv_timeout(host::PATIENCE).unwrap();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    told.recv_timeout(host::PATIENCE).unwrap();
    eventually("closed", || rig.links.status()[0].open == 0);
}

#[test]
fn two_hundred_megabytes_arrive_as_they_were_sent() {
    let Some(host) = Host::new() else { return };
    const BYTES: u64 = 200_000_000;
    let backend = host.serve(Place::Other, any(OTHER), |mut stream| {
        let mut echo = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut echo).unwrap();
        echo.shutdown(Shutdown::Write).unwrap();
    });
    let rig = Rig::start(&host, vec![web(&[(backend, State::Usable)])]);
    let (sent, received) = host.at(Place::Container, || {
        let mut stream = TcpStream::connect(vip(80)).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            let mut sum = Sum::default();
            let mut left = BYTES;
            let mut noise = 1u64;
            while left > 0 {
                let mut block: Vec<u8> = Vec::with_capacity(128 * 1024);
                for _ in 0..(16 * 1024) {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    block.extend_from_slice(&(noise >> 8).to_le_bytes());
                }
                // Sizes of all kinds.
                block.truncate((noise >> 40) as usize % block.len() + 1);
                block.truncate(usize::try_from(left).unwrap());
                writer.write_all(&block).unwrap();
                sum.add(&block);
                left -= block.len() as u64;
            }
            writer.shutdown(Shutdown::Write).unwrap();
            sum
        });
        let mut sum = Sum::default();
        let mut block = vec![0; 100_000];
        loop {
            match stream.read(&mut block).unwrap() {
                0 => break,
                count => sum.add(&block[..count]),
            }
        }
        (sending.join().unwrap(), sum)
    });
    assert_eq!(received.bytes, BYTES);
    assert_eq!(sent, received);
    eventually("counted", || rig.links.status()[0].bytes == 2 * BYTES);
}

#[test]
fn more_connections_than_a_link_may_have_are_reset_and_counted() {
    let Some(host) = Host::new() else { return };
    let backend = host.serve(Place::Other, any(OTHER), |mut stream| {
        stream.write_all(b"!").ok();
        read_byte(&mut stream).ok();
    });
    let limits = LinkLimits { connections_per_service_max: 3, ..LinkLimits::default() };
    let rig = Rig::start_with(&host, vec![web(&[(backend, State::Usable)])], limits);
    let open: Vec<TcpStream> = host.at(Place::Container, || {
        let open = (0..3).map(|_| {
            let mut stream = TcpStream::connect(vip(80)).unwrap();
            read_byte(&mut stream).unwrap();
            stream
        });
        open.collect()
    });
    assert_eq!(host.fetch(Place::Container, vip(80)).0.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(rig.links.status()[0].open, 3);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &rig.metrics).unwrap();
    assert!(text.contains("link_connections_total{result=\"limit\"} 1"), "{text}");
    drop(open);
    eventually("room again", || host.fetch(Place::Container, vip(80)).0.is_ok());
}

#[test]
fn a_thousand_idle_connections_cost_little_memory() {
    let Some(host) = Host::new() else { return };
    const CONNECTIONS: u64 = 1000;
    raise_file_limit();
    let backend = host.hold(Place::Other, any(OTHER));
    let mut sidecar = process(&host, backend);
    let connect = || {
        let mut stream = TcpStream::connect(vip(80)).unwrap();
        // Bytes went both ways, so every buffer that a connection ever needs was there once.
        stream.write_all(&[b'x'; 4096]).unwrap();
        read_byte(&mut stream).unwrap();
        stream
    };
    eventually("answered", || host.fetch(Place::Container, vip(80)).0.is_ok());
    let warm: Vec<TcpStream> = host.at(Place::Container, move || (0..50).map(|_| connect()).collect());
    let before = memory(sidecar.id());
    let open: Vec<TcpStream> = host.at(Place::Container, move || (0..CONNECTIONS).map(|_| connect()).collect());
    let each = memory(sidecar.id()).saturating_sub(before) / CONNECTIONS;
    drop((warm, open));
    sidecar.kill().unwrap();
    sidecar.wait().unwrap();
    println!("{each} bytes for each idle connection, {before} bytes before");
    // The promise (2.1 KB) is for a release build: without optimisation tasks are larger.
    assert!(each <= 3 * 1024, "{each} bytes for each idle connection");
}

/// The memory that is the process's own, in bytes.
fn memory(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// The other half of the tests that need a process to kill or to measure: they start it in a namespace.
#[test]
fn links_as_a_process_of_their_own() {
    let Ok(backend) = std::env::var("LINK_TO") else { return };
    let _rig = Rig::start_here(vec![web(&[(backend.parse().unwrap(), State::Usable)])]);
    loop {
        std::thread::park();
    }
}

fn read_byte(stream: &mut TcpStream) -> std::io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte).map(|()| byte[0])
}

/// Order matters to it, so bytes that change places are found.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    bytes: u64,
    hash: u64,
}

impl Sum {
    fn add(&mut self, block: &[u8]) {
        self.bytes += block.len() as u64;
        for byte in block {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3).rotate_left(5);
        }
    }
}
