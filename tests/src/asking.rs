//! Requests through a link, one after the other, over connections that are used once or again and again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::report;
use crate::wait::{PATIENCE, eventually, now, pause};

/// How long a connect, and each answer, may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two requests, so that an ordinary test leaves room for others. Over new connections always: each leaves an entry
/// in the kernel's table of connections for two minutes, and a full table drops packets.
const PAUSE: Duration = Duration::from_millis(2);

/// How much a test of a deployment is to see: little in `make test`, as much as one likes by hand.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Replacements of a task.
    pub replacements: usize,
    /// Requests that are to be made over them; 0: as many as come with pauses.
    pub requests: u64,
}

impl Scale {
    /// From `PORTOLAN_REPLACEMENTS` and `PORTOLAN_REQUESTS`, else so many replacements, with pauses.
    ///
    /// # Errors
    /// When one of them is no number.
    pub fn from_environment(replacements: usize) -> anyhow::Result<Self> {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().context(name.to_owned()));
        Ok(Scale {
            replacements: number("PORTOLAN_REPLACEMENTS").transpose()?.map_or(replacements, |number| number as usize),
            requests: number("PORTOLAN_REQUESTS").transpose()?.unwrap_or_default(),
        })
    }

    /// How many requests are to be made before replacement `number` begins.
    pub fn requests_before(&self, number: usize) -> u64 {
        self.requests * number as u64 / self.replacements as u64
    }
}

/// Clients of one link.
#[derive(Debug)]
pub struct Asking {
    link: SocketAddr,
    /// Between two requests over a connection that is kept.
    pause: Option<Duration>,
    is_over: AtomicBool,
    answers: AtomicU64,
    cut: AtomicU64,
    failures: AtomicU64,
}

impl Asking {
    /// None yet.
    pub fn new(link: SocketAddr, scale: Scale) -> Self {
        Asking {
            link,
            pause: (scale.requests == 0).then_some(PAUSE),
            is_over: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Whole answers so far.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }

    /// Waits for so many answers, for as long as some come and no request fails.
    ///
    /// # Errors
    /// When one failed, or none comes for a while.
    pub fn reached(&self, answers: u64) -> anyhow::Result<()> {
        ensure!(self.failures.load(Ordering::SeqCst) == 0, "a request failed");
        while self.answers() < answers {
            let before = self.answers();
            eventually(PATIENCE, || if self.answers() > before { Ok(()) } else { Err("no answer comes") })?;
        }
        Ok(())
    }

    /// Requests on a connection that had served others and ended before it answered this one: its task was killed.
    /// Each was made again on another connection, as HTTP clients do.
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::SeqCst)
    }

    /// Clients go on until what this gives is dropped, also by a panic.
    pub fn ending(&self) -> Ending<'_> {
        Ending(&self.is_over)
    }

    /// Asks until the [`Ending`], each time over a new connection.
    ///
    /// # Errors
    /// The first request that fails.
    pub fn anew(&self) -> anyhow::Result<()> {
        self.repeat(Some(PAUSE), || Connection::open(self.link)?.ask())
    }

    /// Asks until the [`Ending`], over one connection for as long as it lasts.
    ///
    /// # Errors
    /// The first request that fails, but for those of [`Asking::cut`].
    pub fn again(&self) -> anyhow::Result<()> {
        let mut kept: Option<Connection> = None;
        self.repeat(self.pause, || {
            if let Some(connection) = &mut kept {
                match connection.ask() {
                    Err(_) if !connection.is_answering => self.cut.fetch_add(1, Ordering::SeqCst),
                    asked => return asked,
                };
            }
            kept.insert(Connection::open(self.link)?).ask()
        })
    }

    fn repeat(&self, between: Option<Duration>, mut ask: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
        while !self.is_over.load(Ordering::SeqCst) {
            let began = now();
            if let Err(error) = ask() {
                let took = began.elapsed();
                self.failures.fetch_add(1, Ordering::SeqCst);
                let text = format!("a request to {} that took {took:.1?}, after {} answers", self.link, self.answers());
                report::say(&format!("{}: {text}: {error:#}", jiff::Timestamp::now()));
                return Err(error.context(text));
            }
            self.answers.fetch_add(1, Ordering::SeqCst);
            between.into_iter().for_each(pause);
        }
        Ok(())
    }
}

/// Lets all clients end when it is dropped, also by a panic.
#[derive(Debug)]
pub struct Ending<'a>(pub &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Connection {
    stream: BufReader<TcpStream>,
    /// Bytes of the answer under way came.
    is_answering: bool,
}

impl Connection {
    fn open(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, TIMEOUT).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Connection { stream: BufReader::new(stream), is_answering: false })
    }

    fn ask(&mut self) -> anyhow::Result<()> {
        self.is_answering = false;
        self.stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: link\r\n\r\n").context("send the request")?;
        let (mut length, mut line) = (None, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).context("read the answer")?;
            ensure!(!line.is_empty(), "closed instead of answering");
            self.is_answering = true;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = Some(value.trim().parse()?);
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length.context("no length")?];
        self.stream.read_exact(&mut body).context("read the body")
    }
}
