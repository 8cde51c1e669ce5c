//! One netlink socket: a batch that is taken whole or not at all, a request, a dump.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::BufMut;
use netlink_sys::{Socket, SocketAddr};

use super::NetlinkError;
use super::message::{Message, Writer, flag, messages};

/// A whole answer of the kernel fits: it builds dumps in buffers of at most 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Room for a table of a full range (65,534 services with a few ports each) in one batch.
const SEND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The kernel answers before `send` returns; this only ends a wait for an answer that it lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a dump is begun again because its subject changed meanwhile.
const DUMP_ATTEMPTS: usize = 5;

/// A socket for requests.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    protocol: isize,
    received: Vec<u8>,
}

impl Connection {
    pub(super) fn open(protocol: isize, action: &'static str) -> Result<Self, NetlinkError> {
        let socket = open_socket(protocol).map_err(|source| NetlinkError::from_io(action, source))?;
        Ok(Connection { socket, protocol, received: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// Sends `request` and waits until the kernel acknowledged its message number `last`. The first refusal is the answer.
    pub(super) fn execute(&mut self, request: &Writer, last: u32, action: &'static str) -> Result<(), NetlinkError> {
        self.send(request, action)?;
        let mut refusal = None;
        let mut is_acknowledged = false;
        // Answers to a batch are queued before `send` returns; read them all, so that none is taken for the next one's.
        while let Some(answer) = self.receive_now(action)? {
            for message in messages(&answer).filter(|m| m.kind == flag::ERROR) {
                match error_code(&message) {
                    None => return Err(NetlinkError::Malformed { action }),
                    Some(0) => is_acknowledged |= message.sequence == last,
                    Some(code) => refusal = refusal.or(Some(io::Error::from_raw_os_error(code))),
                }
            }
        }
        match refusal {
            Some(source) => Err(NetlinkError::from_io(action, source)),
            None if is_acknowledged => Ok(()),
            None => Err(NetlinkError::Malformed { action }),
        }
    }

    /// Sends a question that has one answer.
    pub(super) fn ask(&mut self, request: &Writer, action: &'static str) -> Result<Vec<u8>, NetlinkError> {
        self.send(request, action)?;
        self.receive(action)
    }

    /// Asks for a listing and hands every message of it to `take`.
    pub(super) fn dump(
        &mut self,
        request: &Writer,
        action: &'static str,
        mut take: impl FnMut(&Message<'_>),
    ) -> Result<(), NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut answers = VecDeque::new();
            if self.dump_once(request, action, &mut answers)? {
                answers.iter().flat_map(|answer| messages(answer)).for_each(|message| take(&message));
                return Ok(());
            }
        }
        Err(NetlinkError::Malformed { action })
    }

    /// `false`: the listing changed while it was read.
    fn dump_once(
        &mut self,
        request: &Writer,
        action: &'static str,
        answers: &mut VecDeque<Vec<u8>>,
    ) -> Result<bool, NetlinkError> {
        self.send(request, action)?;
        let mut is_consistent = true;
        loop {
            let answer = self.receive(action)?;
            let mut is_complete = false;
            for message in messages(&answer) {
                is_consistent &= message.flags & flag::DUMP_INTERRUPTED == 0;
                match message.kind {
                    flag::DONE => is_complete = true,
                    flag::ERROR => {
                        let code = error_code(&message).ok_or(NetlinkError::Malformed { action })?;
                        return Err(NetlinkError::from_io(action, io::Error::from_raw_os_error(code)));
                    }
                    _ => {}
                }
            }
            answers.push_back(answer);
            if is_complete {
                return Ok(is_consistent);
            }
        }
    }

    fn send(&mut self, request: &Writer, action: &'static str) -> Result<(), NetlinkError> {
        // A fresh socket after a lost answer would be as good; emptying is cheaper and keeps the port.
        while self.receive_now(action)?.is_some() {}
        let sent = self.socket.send(request.bytes(), 0).map_err(|source| NetlinkError::from_io(action, source))?;
        if sent == request.bytes().len() { Ok(()) } else { Err(NetlinkError::Malformed { action }) }
    }

    fn receive(&mut self, action: &'static str) -> Result<Vec<u8>, NetlinkError> {
        self.read(0).map_err(|source| NetlinkError::from_io(action, source))
    }

    fn receive_now(&mut self, action: &'static str) -> Result<Option<Vec<u8>>, NetlinkError> {
        match self.read(rustix::net::RecvFlags::DONTWAIT.bits() as i32) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(source) => Err(NetlinkError::from_io(action, source)),
        }
    }

    fn read(&mut self, flags: i32) -> io::Result<Vec<u8>> {
        self.received.clear();
        let length = self.socket.recv(&mut (&mut self.received).limit(RECEIVE_BYTES), flags)?;
        debug_assert!(length <= RECEIVE_BYTES, "netlink protocol {} sent {length} octets", self.protocol);
        Ok(self.received.clone())
    }
}

fn open_socket(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Without the message that was refused, an error is 36 octets whatever the batch.
    socket.set_cap_ack(true)?;
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))?;
    // The right to exceed the limit is the right to change rules; without it the first batch says so.
    rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, SEND_BYTES_MAX / 2).ok();
    Ok(socket)
}

/// The positive error number of an error message; 0 is an acknowledgement.
fn error_code(message: &Message<'_>) -> Option<i32> {
    let code = i32::from_ne_bytes(message.body.get(0..4)?.try_into().ok()?);
    code.checked_neg()
}
