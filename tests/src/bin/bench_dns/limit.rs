//! Two limit programs: they receive and send as Portolan does, and do nothing else. `fixed` answers every question of one kind with
//! the same reply, of the size that Portolan's has; `table` looks up the question among all of them. Both put the asker's id in.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

const BATCH: usize = 64;
const QUESTION_OCTETS_MAX: usize = 576;
/// The octets before the question's name, and the first letter of that.
const HEADER_OCTETS: usize = 12;
const FIRST_LETTER: usize = 13;
/// Where the type is, from the end: type, class, and an OPT record end a question.
const TYPE_FROM_END: usize = 14;

/// Every question and its reply.
pub(crate) type Replies = Vec<(Vec<u8>, Vec<u8>)>;

/// How a reply is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the first letter of the name and the type.
    Fixed,
    /// By the whole question.
    Table,
}

impl Way {
    /// What a question is looked up by.
    fn key(self, packet: &[u8]) -> &[u8] {
        match self {
            Way::Fixed => &packet[..0],
            Way::Table => &packet[HEADER_OCTETS..],
        }
    }

    /// The place among few replies.
    fn place(packet: &[u8]) -> usize {
        usize::from(packet[FIRST_LETTER] == b'a') * 2 + usize::from(packet[packet.len() - TYPE_FROM_END] != 1)
    }
}

/// Answers until it is killed.
pub(crate) fn serve(port: u16, way: Way, file: &str) -> Result<()> {
    let all: Replies = serde_json::from_slice(&std::fs::read(file).context("read the replies")?)?;
    let mut few = vec![Vec::new(); 4];
    let mut table = HashMap::new();
    for (question, reply) in all {
        few[Way::place(&question)] = reply.clone();
        table.insert(way.key(&question).to_vec(), reply);
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).context("bind the limit program")?;
    let mut buffers = vec![[0; QUESTION_OCTETS_MAX]; BATCH];
    let mut replies = vec![Vec::new(); BATCH];
    loop {
        let (peers, lengths) = receive(&socket, &mut buffers)?;
        for ((packet, length), out) in buffers.iter().zip(&lengths).zip(&mut replies) {
            let packet = &packet[..*length];
            let reply = match way {
                Way::Fixed => &few[Way::place(packet)],
                Way::Table => &table[way.key(packet)],
            };
            out.clear();
            out.extend_from_slice(reply);
            out[..2].copy_from_slice(&packet[..2]);
        }
        let slices: Vec<_> = replies[..lengths.len()].iter().map(|reply| [IoSlice::new(reply)]).collect();
        let mut headers = MultiHeaders::preallocate(slices.len(), None);
        sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &peers, [], MsgFlags::empty()).context("send")?;
    }
}

fn receive(
    socket: &UdpSocket,
    buffers: &mut [[u8; QUESTION_OCTETS_MAX]],
) -> Result<(Vec<Option<SockaddrIn>>, Vec<usize>)> {
    let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let received = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_WAITFORONE, None)?;
    Ok(received.map(|message| (message.address, message.bytes)).unzip())
}
