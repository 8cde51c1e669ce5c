//! The stand-in: one static program that plays every container of the tests and the demo.
//!
//! It uses nothing but std, so that `rustc` alone builds it and an image of one file holds it. As process 1 of a
//! container it ignores SIGTERM and goes on serving until the engine kills it, as an application that drains does.
//! It is also the image's `/bin/sh`, so that a health check by shell (`--health-cmd "get http://..."`) works.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: standin elasticsearch | kibana | get URL [TIMEOUT_MS] | resolve NAME
       | say tcp|udp HOST PORT TEXT | tcp PORT | udp PORT | both PORT | wait | exit STATUS";

fn main() -> ExitCode {
    let mut args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "-c") {
        args = args[1..].join(" ").split_whitespace().map(str::to_owned).collect();
    }
    // While a thread is made its maker blocks all signals, and one that a process 1 ignores kills it if its first thread blocks
    // it: the kernel takes it for wanted then. So the first thread makes no other one but this.
    thread::spawn(move || run(&args)).join().unwrap_or(ExitCode::from(101))
}

fn run(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["elasticsearch"] => elasticsearch(),
        ["kibana"] => kibana(),
        ["get", url] => get_and_print(url, 5_000),
        ["get", url, timeout_ms] => get_and_print(url, timeout_ms.parse().unwrap_or(5_000)),
        ["resolve", name] => resolve(name),
        ["say", protocol, host, port, text] => say(protocol, &format!("{host}:{port}"), text),
        ["tcp", port] => tcp_echo(port),
        ["udp", port] => udp_echo(port),
        ["both", port] => both_echo(port),
        ["wait"] => wait(),
        ["exit", status] => return ExitCode::from(status.parse::<u8>().unwrap_or(2)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("standin: {error}");
            ExitCode::from(1)
        }
    }
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn setting_ms(name: &str, default: u64) -> Duration {
    Duration::from_millis(env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default))
}

/// Who answers: `NAME`, else the host name, which Docker makes of the container's id.
fn own_name() -> String {
    let host_name = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    env::var("NAME").unwrap_or_else(|_| host_name())
}

/// Serves on `PORT` (9200), after `START_DELAY_MS`. `/` names the instance and its `SERVICE`; `/health` is 200, or 503
/// after `/health/fail` until `/health/pass`; `/bytes/N` sends N bytes; `/slow/MS` answers late; `/quit` ends the process.
fn elasticsearch() -> io::Result<()> {
    thread::sleep(setting_ms("START_DELAY_MS", 0));
    let (name, service) = (own_name(), setting("SERVICE", "elasticsearch"));
    let is_healthy = AtomicBool::new(true);
    serve(&setting("PORT", "9200"), move |path| match path {
        "/" => {
            Answer::json(200, format!("{{\"name\":{name:?},\"service\":{service:?},\"cluster_name\":\"stand-in\"}}"))
        }
        "/health/fail" | "/health/pass" => {
            is_healthy.store(path.ends_with("pass"), Ordering::SeqCst);
            Answer::json(200, "{}".to_owned())
        }
        "/health" if is_healthy.load(Ordering::SeqCst) => Answer::json(200, "{\"status\":\"green\"}".to_owned()),
        "/health" => Answer::json(503, "{\"status\":\"red\"}".to_owned()),
        "/quit" => std::process::exit(3),
        _ => match (number_after(path, "/bytes/"), number_after(path, "/slow/")) {
            (Some(bytes), _) => Answer::text("x".repeat(bytes.min(256 << 20) as usize)),
            (_, Some(slow_ms)) => {
                thread::sleep(Duration::from_millis(slow_ms));
                Answer::text(name.clone())
            }
            _ => Answer::json(404, "{}".to_owned()),
        },
    })
}

fn number_after(path: &str, prefix: &str) -> Option<u64> {
    path.strip_prefix(prefix)?.parse().ok()
}

#[derive(Default)]
struct Stats {
    requests: AtomicU64,
    errors: AtomicU64,
    slowest_ms: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    last_instance: String,
    last_error: String,
    instances: BTreeMap<String, u64>,
}

/// Polls `TARGET` (http://elasticsearch:9200/) every `INTERVAL_MS` (200), a new connection each time, and serves on `PORT`
/// (5601) a page that shows which instance answered, and `/stats` as JSON.
fn kibana() -> io::Result<()> {
    let stats = Arc::new(Stats::default());
    let polled = stats.clone();
    let (target, interval) = (setting("TARGET", "http://elasticsearch:9200/"), setting_ms("INTERVAL_MS", 200));
    let shown_target = target.clone();
    thread::spawn(move || {
        loop {
            let began = Instant::now();
            poll(&target, &polled);
            polled.slowest_ms.fetch_max(began.elapsed().as_millis() as u64, Ordering::SeqCst);
            thread::sleep(interval.saturating_sub(began.elapsed()));
        }
    });
    serve(&setting("PORT", "5601"), move |path| match path {
        "/stats" => Answer::json(200, stats_json(&stats)),
        "/health" => Answer::text("ok".to_owned()),
        "/" => Answer { status: 200, kind: "text/html; charset=utf-8", body: page(&shown_target, &stats) },
        _ => Answer::json(404, "{}".to_owned()),
    })
}

fn poll(target: &str, stats: &Stats) {
    let result =
        get(target, Duration::from_secs(5)).and_then(|(status, body)| match (status, text_field(&body, "name")) {
            (200, Some(name)) => Ok(name),
            _ => Err(io::Error::other(format!("status {status} and body {body:?}"))),
        });
    let mut seen = stats.seen.lock().unwrap();
    stats.requests.fetch_add(1, Ordering::SeqCst);
    match result {
        Ok(name) => {
            *seen.instances.entry(name.clone()).or_default() += 1;
            seen.last_instance = name;
        }
        Err(error) => {
            stats.errors.fetch_add(1, Ordering::SeqCst);
            seen.last_error = error.to_string();
        }
    }
}

/// The text of one field of a flat JSON object of ours.
fn text_field(body: &str, field: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("\"{field}\":\""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

fn stats_json(stats: &Stats) -> String {
    let seen = stats.seen.lock().unwrap();
    let instances: Vec<String> = seen.instances.iter().map(|(name, count)| format!("{name:?}:{count}")).collect();
    format!(
        "{{\"requests\":{},\"errors\":{},\"slowest_ms\":{},\"last_instance\":{:?},\"last_error\":{:?},\"instances\":{{{}}}}}",
        stats.requests.load(Ordering::SeqCst),
        stats.errors.load(Ordering::SeqCst),
        stats.slowest_ms.load(Ordering::SeqCst),
        seen.last_instance,
        seen.last_error.replace(|c: char| !c.is_ascii() || c.is_control(), "?"),
        instances.join(",")
    )
}

fn page(target: &str, stats: &Stats) -> String {
    let seen = stats.seen.lock().unwrap();
    let (requests, errors) = (stats.requests.load(Ordering::SeqCst), stats.errors.load(Ordering::SeqCst));
    let rows: String = seen.instances.iter().map(|(name, count)| format!("<tr><td>{name}<td>{count}")).collect();
    format!(
        "<!doctype html><meta http-equiv=refresh content=1><title>Kibana stand-in</title><h1>{target}</h1>\
         <p>Last answer from <b>{}</b>. {requests} requests, {errors} errors.<table><tr><th>instance<th>answers{rows}</table>",
        seen.last_instance
    )
}

fn get_and_print(url: &str, timeout_ms: u64) -> io::Result<()> {
    let (status, body) = get(url, Duration::from_millis(timeout_ms))?;
    println!("{body}");
    if (200..300).contains(&status) { Ok(()) } else { Err(io::Error::other(format!("status {status}"))) }
}

/// One GET over a new connection: resolved by the system's resolver, each address tried in turn.
fn get(url: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let rest = url.strip_prefix("http://").ok_or_else(|| io::Error::other("only http:// is spoken here"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = connect(&address, timeout)?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("the answer was cut"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("no status"))?, body.to_owned()))
}

fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other(format!("no address for {address}"));
    for found in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&found, timeout) {
            Ok(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                return Ok(stream);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("connect to {found}: {error}")),
        }
    }
    Err(last)
}

fn resolve(name: &str) -> io::Result<()> {
    let addresses: std::collections::BTreeSet<_> = (name, 0).to_socket_addrs()?.map(|found| found.ip()).collect();
    addresses.iter().for_each(|address| println!("{address}"));
    Ok(())
}

/// Sends a text and prints what comes back: to the end of the stream, or one datagram.
fn say(protocol: &str, address: &str, text: &str) -> io::Result<()> {
    let timeout = Duration::from_secs(5);
    if protocol == "udp" {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(timeout))?;
        socket.send_to(text.as_bytes(), address)?;
        let mut answer = [0; 2048];
        let (length, _) = socket.recv_from(&mut answer)?;
        println!("{}", String::from_utf8_lossy(&answer[..length]));
        return Ok(());
    }
    let mut stream = connect(address, timeout)?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}

/// Names itself, then sends back what comes, and closes its side only after the client has closed its own.
fn tcp_echo(port: &str) -> io::Result<()> {
    let name = own_name();
    for stream in TcpListener::bind(format!("0.0.0.0:{port}"))?.incoming() {
        let (mut stream, name) = (stream?, name.clone());
        thread::spawn(move || -> io::Result<()> {
            write!(stream, "{name}: ")?;
            io::copy(&mut stream.try_clone()?, &mut stream)?;
            stream.shutdown(Shutdown::Write)
        });
    }
    Ok(())
}

/// Sends back what comes, its name before it; alone what has no room for that.
fn udp_echo(port: &str) -> io::Result<()> {
    let (name, socket) = (own_name(), UdpSocket::bind(format!("0.0.0.0:{port}"))?);
    let mut packet = vec![0; 65_536];
    loop {
        let (length, from) = socket.recv_from(&mut packet)?;
        let answer = [name.as_bytes(), b": ", &packet[..length]].concat();
        socket.send_to(&answer, from).or_else(|_| socket.send_to(&packet[..length], from))?;
    }
}

/// Both on one port number, as a DNS server has it.
fn both_echo(port: &str) -> io::Result<()> {
    let of_udp = port.to_owned();
    thread::spawn(move || udp_echo(&of_udp));
    tcp_echo(port)
}

fn wait() -> io::Result<()> {
    loop {
        thread::park();
    }
}

struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn json(status: u16, body: String) -> Self {
        Answer { status, kind: "application/json", body }
    }

    fn text(body: String) -> Self {
        Answer { status: 200, kind: "text/plain", body }
    }
}

/// A small HTTP/1.1 server: a thread per connection, requests one after the other, bodies of requests not read.
fn serve(port: &str, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> io::Result<()> {
    let answer = Arc::new(answer);
    for stream in TcpListener::bind(format!("0.0.0.0:{port}"))?.incoming() {
        let (Ok(stream), answer) = (stream, answer.clone()) else { continue };
        thread::spawn(move || converse(stream, answer.as_ref()));
    }
    Ok(())
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&str) -> Answer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(request) = lines.next() {
        let (request, mut is_last) = (request?, false);
        for line in lines.by_ref() {
            let line = line?.to_ascii_lowercase();
            is_last |= line == "connection: close";
            if line.is_empty() {
                break;
            }
        }
        let Answer { status, kind, body } = answer(request.split(' ').nth(1).unwrap_or("/"));
        let connection = if is_last { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {status} stand-in\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        if is_last {
            return stream.shutdown(Shutdown::Write);
        }
    }
    Ok(())
}
