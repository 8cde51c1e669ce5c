//! The generator: keeps a number of questions under way, many to a system call, and counts the right answers.

use std::fmt::{self, Display};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use portolan_tests::process::Cpu;
use portolan_tests::wait::now;

use crate::questions::Kind;
use crate::server::{Server, socket};

const ROUND: Duration = Duration::from_millis(1_500);
/// Before it is measured: what is asked for the first time costs more.
const WARM_UP: Duration = Duration::from_millis(300);
const IN_FLIGHT: usize = 128;
/// How many are sent, and at most received, in one call.
const BATCH: usize = 32;
const REPLY_OCTETS_MAX: usize = 1_500;

/// What one server used in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    pub(crate) rate: f64,
    /// How much of its CPU it had. Below one it waited for the generator, and waiting costs.
    busy: f64,
}

impl Figure {
    pub(crate) fn total_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

impl Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure { user_us, system_us, rate, busy } = self;
        let total = self.total_us();
        write!(f, "{total:6.2} us/question (user {user_us:.2}, system {system_us:.2}) {rate:8.0}/s, {busy:.2} busy")
    }
}

/// Loads `server` for one round.
pub(crate) fn load(server: &Server, questions: &[Vec<u8>], kind: Kind) -> Result<Figure> {
    let mut generator = Generator::new(server.port, questions, kind.expected())?;
    generator.run(WARM_UP)?;
    let (before, began) = (server.cpu()?, now());
    let answered = generator.run(ROUND)?;
    let (used, took) = (server.cpu()? - before, began.elapsed().as_secs_f64());
    ensure!(answered > 0, "{} answers no {} question rightly", server.name, kind.name());
    let each = |used: Duration| used.as_secs_f64() * 1e6 / answered as f64;
    let Cpu { user, system } = used;
    Ok(Figure {
        user_us: each(user),
        system_us: each(system),
        rate: answered as f64 / took,
        busy: (user + system).as_secs_f64() / took,
    })
}

struct Generator<'a> {
    socket: std::net::UdpSocket,
    questions: std::iter::Cycle<std::slice::Iter<'a, Vec<u8>>>,
    expected: (u8, u8),
    buffers: Vec<[u8; REPLY_OCTETS_MAX]>,
}

impl<'a> Generator<'a> {
    fn new(port: u16, questions: &'a [Vec<u8>], expected: (u8, u8)) -> Result<Self> {
        let buffers = vec![[0; REPLY_OCTETS_MAX]; BATCH];
        Ok(Generator { socket: socket(port)?, questions: questions.iter().cycle(), expected, buffers })
    }

    /// How many right answers came within `time`.
    fn run(&mut self, time: Duration) -> Result<u64> {
        let (began, mut answered, mut in_flight) = (now(), 0, 0);
        while began.elapsed() < time {
            while in_flight + BATCH <= IN_FLIGHT {
                in_flight += self.send()?;
            }
            let Some((received, right)) = self.receive()? else {
                // Lost: none came for as long as the socket waits.
                in_flight = 0;
                continue;
            };
            in_flight = in_flight.saturating_sub(received);
            answered += right;
        }
        while in_flight > 0
            && let Some((received, _)) = self.receive()?
        {
            in_flight = in_flight.saturating_sub(received);
        }
        Ok(answered)
    }

    fn send(&mut self) -> Result<usize> {
        let slices: Vec<[IoSlice<'_>; 1]> =
            self.questions.by_ref().take(BATCH).map(|question| [IoSlice::new(question)]).collect();
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
        let sent = sendmmsg(self.socket.as_raw_fd(), &mut headers, &slices, [None; BATCH], [], MsgFlags::empty());
        Ok(sent.context("send questions")?.count())
    }

    /// How many came, and how many of them were right.
    fn receive(&mut self) -> Result<Option<(usize, u64)>> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
        let received = recvmmsg(self.socket.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_WAITFORONE, None);
        let received = match received {
            Err(Errno::EAGAIN) => return Ok(None),
            received => received.context("receive answers")?.count(),
        };
        let is_right = |reply: &&[u8; REPLY_OCTETS_MAX]| (reply[3] & 0b1111, reply[7]) == self.expected;
        Ok(Some((received, self.buffers[..received].iter().filter(is_right).count() as u64)))
    }
}
