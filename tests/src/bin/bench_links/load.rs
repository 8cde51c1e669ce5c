//! What a client does on a way, and what it costs whoever carries it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portolan_tests::namespace::Namespace;
use portolan_tests::process;
use portolan_tests::wait::{PATIENCE, eventually, now};

use crate::{ECHO, HELD, HTTP, Way, median, micros};

/// Connections over which requests go at once, and how often over each.
const CONVERSATIONS: usize = 32;
const REQUESTS_EACH: usize = 600;
/// Requests with a connection of their own.
const CONNECTIONS: usize = 2_000;
/// Round trips over one connection, one after the other.
const ROUND_TRIPS: usize = 4_000;
/// Downloads, and how large each is.
const DOWNLOADS: u64 = 3;
const DOWNLOAD: u64 = 256 << 20;

impl Way {
    fn place(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port + self.offset)
    }

    fn spent(&self) -> Result<Duration> {
        self.process.map_or(Ok(Duration::ZERO), process::on_cpu)
    }

    fn connect(&self, port: u16) -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.place(port), Duration::from_secs(5));
        let stream = stream.with_context(|| format!("connect to {port} by {}", self.name))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(stream)
    }
}

/// Whether the way leads to both services.
pub(crate) fn is_ready(way: &Way) -> Result<()> {
    request(way, "/health")?;
    converse(way).map(drop)
}

/// What one round gave, in microseconds but for bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    request_cpu: f64,
    connection_cpu: f64,
    connection_p50: f64,
    trip_p50: f64,
    trip_p99: f64,
    /// Seconds.
    gigabyte_cpu: f64,
    /// Per second.
    gigabytes: f64,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CPU {:5.2} us/request {:6.1} us/connection {:.3} s/GB; connection p50 {:4.0} us, trip p50 {:3.0} p99 {:4.0} us, \
             {:.2} GB/s",
            self.request_cpu,
            self.connection_cpu,
            self.gigabyte_cpu,
            self.connection_p50,
            self.trip_p50,
            self.trip_p99,
            self.gigabytes
        )
    }
}

impl Figure {
    /// What of the CPU of `other` it takes: medians of the ratios in the same round.
    pub(crate) fn beside(own: &[Figure], other: &[Figure]) -> String {
        let ratio = |part: fn(&Figure) -> f64| {
            median(own.iter().zip(other).map(|(one, other)| part(one) / part(other)).collect())
        };
        format!(
            "request {:.2}, connection {:.2}, GB {:.2}",
            ratio(|figure| figure.request_cpu),
            ratio(|figure| figure.connection_cpu),
            ratio(|figure| figure.gigabyte_cpu)
        )
    }

    /// The medians, and those of the ratios to the direct way in the same round.
    pub(crate) fn median(own: &[Figure], direct: &[Figure]) -> String {
        let of = |part: fn(&Figure) -> f64| median(own.iter().map(part).collect());
        let ratio = |part: fn(&Figure) -> f64| {
            median(own.iter().zip(direct).map(|(one, other)| part(one) / part(other)).collect())
        };
        let middle = Figure {
            request_cpu: of(|figure| figure.request_cpu),
            connection_cpu: of(|figure| figure.connection_cpu),
            connection_p50: of(|figure| figure.connection_p50),
            trip_p50: of(|figure| figure.trip_p50),
            trip_p99: of(|figure| figure.trip_p99),
            gigabyte_cpu: of(|figure| figure.gigabyte_cpu),
            gigabytes: of(|figure| figure.gigabytes),
        };
        format!(
            "{middle} [connection {:.2}, trip {:.2}, bytes {:.2}]",
            ratio(|figure| figure.connection_p50),
            ratio(|figure| figure.trip_p50),
            ratio(|figure| figure.gigabytes)
        )
    }
}

/// One round on a way.
pub(crate) fn measure(way: &Way) -> Result<Figure> {
    let spent = way.spent()?;
    requests(way)?;
    let request_cpu = micros(way.spent()? - spent) / (CONVERSATIONS * REQUESTS_EACH) as f64;
    let [trip_p50, trip_p99] = percentiles(round_trips(way)?);
    let (spent, mut took) = (way.spent()?, Vec::with_capacity(CONNECTIONS));
    for _ in 0..CONNECTIONS {
        let began = now();
        request(way, "/health")?;
        took.push(began.elapsed());
    }
    let connection_cpu = micros(way.spent()? - spent) / CONNECTIONS as f64;
    let [connection_p50, _] = percentiles(took);
    let (spent, began) = (way.spent()?, now());
    for _ in 0..DOWNLOADS {
        request(way, &format!("/bytes/{DOWNLOAD}"))?;
    }
    let gigabytes = (DOWNLOADS * DOWNLOAD) as f64 / 1e9;
    Ok(Figure {
        request_cpu,
        connection_cpu,
        connection_p50,
        trip_p50,
        trip_p99,
        gigabyte_cpu: (way.spent()? - spent).as_secs_f64() / gigabytes,
        gigabytes: gigabytes / began.elapsed().as_secs_f64(),
    })
}

/// Over many connections at once: to each a line, then from each a line.
fn requests(way: &Way) -> Result<()> {
    let mut open = (0..CONVERSATIONS).map(|_| converse(way)).collect::<Result<Vec<_>>>()?;
    for _ in 0..REQUESTS_EACH {
        for stream in &mut open {
            stream.write_all(b"ping\n")?;
        }
        for stream in &mut open {
            line(stream)?;
        }
    }
    Ok(())
}

fn round_trips(way: &Way) -> Result<Vec<Duration>> {
    let mut stream = converse(way)?;
    let mut took = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let began = now();
        stream.write_all(b"ping\n")?;
        line(&mut stream)?;
        took.push(began.elapsed());
    }
    Ok(took)
}

/// A connection to the echo, which has said its name.
fn converse(way: &Way) -> Result<TcpStream> {
    let mut stream = way.connect(ECHO)?;
    stream.write_all(b"hello\n")?;
    line(&mut stream)?;
    Ok(stream)
}

fn line(stream: &mut TcpStream) -> Result<()> {
    let mut buffer = [0; 256];
    loop {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the echo ended");
        if buffer[length - 1] == b'\n' {
            return Ok(());
        }
    }
}

/// One HTTP request on a connection of its own, which the service closes: so no port of the client's is kept.
fn request(way: &Way, path: &str) -> Result<()> {
    let mut stream = BufReader::with_capacity(256 << 10, way.connect(HTTP)?);
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut length = None;
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "the stand-in closed before it answered {path}");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = Some(value.trim().parse::<u64>()?);
        }
        if line == "\r\n" {
            break;
        }
    }
    let received = io::copy(&mut stream, &mut io::sink())?;
    ensure!(Some(received) == length, "{received} of {length:?} bytes came");
    Ok(())
}

/// The median and the 99th percentile, in microseconds.
fn percentiles(mut took: Vec<Duration>) -> [f64; 2] {
    took.sort();
    [took[took.len() / 2], took[took.len() * 99 / 100]].map(micros)
}

/// Connections that nobody uses: this program holds their other ends.
pub(crate) struct Idle {
    accepted: mpsc::Receiver<TcpStream>,
}

impl Idle {
    pub(crate) fn listen(backend: &Namespace) -> Result<Self> {
        let listener = backend.inside(|| TcpListener::bind((backend.addr(), HELD)))??;
        let (accept, accepted) = mpsc::sync_channel(64);
        std::thread::spawn(move || listener.incoming().flatten().try_for_each(|stream| accept.send(stream)));
        Ok(Idle { accepted })
    }

    /// What `number` connections cost whoever carries them.
    pub(crate) fn measure(&self, way: &Way, number: usize) -> Result<String> {
        let Some(process) = way.process else { return Ok("no process".to_owned()) };
        let files = || std::fs::read_dir(format!("/proc/{process}/fd")).map(Iterator::count);
        let (before, files_before) = (process::proportional_kb(process)?, files()?);
        let mut open = Vec::with_capacity(number);
        for at in 0..number {
            let other = way.connect(HELD)?;
            let held = self.accepted.recv_timeout(PATIENCE).with_context(|| format!("connection {at}"))?;
            open.push((other, held));
        }
        let during = process::proportional_kb(process)?;
        drop(open);
        eventually(PATIENCE, || {
            let left = files()?;
            ensure!(left <= files_before + 64, "{left} files, {files_before} before");
            Ok(())
        })?;
        let each = (during.saturating_sub(before)) as f64 * 1024.0 / number as f64;
        Ok(format!("{before} kB, with {number} connections {during} kB: {each:.0} octets each"))
    }
}
