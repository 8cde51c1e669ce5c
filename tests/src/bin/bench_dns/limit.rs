//! The limit program: receives and sends as Portolan does, and does nothing else. It answers every question of one type with
//! the same reply, of the size that Portolan's has, with the asker's id in it.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

use crate::questions::Kind;

const BATCH: usize = 64;
const QUESTION_OCTETS_MAX: usize = 512;
/// Name of the first label, and where it begins.
const FIRST_LETTER: usize = 13;
/// Type, class, and an OPT record end a question.
const TYPE_FROM_END: usize = 14;
const TYPE_SRV: u8 = 33;

/// Answers until it is killed. `replies` is a file for each kind of question.
pub(crate) fn serve(port: u16, replies: &str) -> Result<()> {
    let read = |kind: Kind| std::fs::read(format!("{replies}-{}", kind.name())).context("read the replies");
    let (a, srv, absent) = (read(Kind::A)?, read(Kind::Srv)?, read(Kind::Absent)?);
    let mut replies: Vec<[Vec<u8>; 3]> = vec![[a, srv, absent]; BATCH];
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).context("bind the limit program")?;
    let mut buffers = vec![[0; QUESTION_OCTETS_MAX]; BATCH];
    loop {
        let (peers, lengths) = receive(&socket, &mut buffers)?;
        let mut slices = Vec::with_capacity(BATCH);
        for ((packet, length), replies) in buffers.iter().zip(lengths).zip(&mut replies) {
            let which = match (packet[FIRST_LETTER], packet[length.saturating_sub(TYPE_FROM_END)]) {
                (b'a', _) => 2,
                (_, TYPE_SRV) => 1,
                _ => 0,
            };
            replies[which][..2].copy_from_slice(&packet[..2]);
            slices.push([IoSlice::new(&replies[which])]);
        }
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
