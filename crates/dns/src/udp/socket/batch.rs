//! Many datagrams in one system call. Worth it where many wait; for one alone the plain calls are cheaper.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg, sendmmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{CONTROL_OCTETS, Peer, Socket, asked};

/// How many are received, and sent, in one call at the most.
const BATCH_MAX: usize = 64;
/// Larger than what we announce (1,232), so that nobody who respects it is cut; and no multiple of the processor's page, or the
/// beginnings of all packets would compete for the same few lines of its cache.
const PACKET_OCTETS_MAX: usize = 2048 + 64;

/// Room for datagrams, and those that came last.
#[derive(Debug)]
pub(in crate::udp) struct Inbox {
    packets: Vec<[u8; PACKET_OCTETS_MAX]>,
    /// How long each is, and whose.
    seals: Vec<(usize, Peer)>,
    /// More than one came last time.
    were_many: bool,
}

impl Inbox {
    pub(in crate::udp) fn new() -> Self {
        Inbox {
            packets: vec![[0; PACKET_OCTETS_MAX]; BATCH_MAX],
            seals: Vec::with_capacity(BATCH_MAX),
            were_many: false,
        }
    }

    /// Those that came last.
    pub(in crate::udp) fn packets(&self) -> impl Iterator<Item = (&[u8], &Peer)> {
        self.packets.iter().zip(&self.seals).map(|(packet, (length, peer))| (&packet[..*length], peer))
    }
}

/// Replies that are to be sent.
#[derive(Debug)]
pub(in crate::udp) struct Outbox {
    replies: Vec<Vec<u8>>,
    peers: Vec<Peer>,
}

impl Outbox {
    pub(in crate::udp) fn new() -> Self {
        let reply = || Vec::with_capacity(PACKET_OCTETS_MAX);
        Outbox { replies: (0..BATCH_MAX).map(|_| reply()).collect(), peers: Vec::with_capacity(BATCH_MAX) }
    }

    /// Where the next reply is written. A batch has as many places as an inbox has datagrams.
    pub(in crate::udp) fn next(&mut self) -> &mut Vec<u8> {
        let place = self.peers.len();
        if place == self.replies.len() {
            self.replies.push(Vec::new());
        }
        &mut self.replies[place]
    }

    /// That one is for `peer`.
    pub(in crate::udp) fn seal(&mut self, peer: Peer) {
        self.peers.push(peer);
    }

    /// Those from the place `from` on, and for whom.
    fn rest(&self, from: usize) -> impl Iterator<Item = (&Vec<u8>, &Peer)> {
        self.replies.iter().zip(&self.peers).skip(from)
    }
}

impl Socket {
    /// Takes datagrams that are there: as many as have room if `is_next`, the next ones to some that were just taken, or if
    /// there was more than one last time; else one.
    pub(in crate::udp) fn try_receive_batch(&self, inbox: &mut Inbox, is_next: bool) -> io::Result<()> {
        inbox.seals.clear();
        if !is_next && !inbox.were_many {
            let received = self.try_receive(&mut inbox.packets[0])?;
            inbox.seals.push(received);
            return Ok(());
        }
        let received = self.socket.try_io(Interest::READABLE, || match self.is_v6 {
            false => self.received_all::<SockaddrIn>(inbox),
            true => self.received_all::<SockaddrIn6>(inbox),
        });
        inbox.were_many = inbox.seals.len() > 1;
        received
    }

    fn received_all<S: SockaddrLike + Copy + Into<SocketAddr>>(&self, inbox: &mut Inbox) -> io::Result<()> {
        let Inbox { packets, seals, .. } = inbox;
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = packets.iter_mut().map(|packet| [IoSliceMut::new(packet)]).collect();
        let control = self.has_all_addresses.then(|| Vec::with_capacity(CONTROL_OCTETS));
        let mut headers = MultiHeaders::<S>::preallocate(BATCH_MAX, control);
        for message in recvmmsg(self.socket.as_raw_fd(), &mut headers, &mut slices, MsgFlags::empty(), None)? {
            let address = message.address.ok_or(io::ErrorKind::AddrNotAvailable)?.into();
            let asked = if self.has_all_addresses { asked(&message)? } else { None };
            seals.push((message.bytes, Peer { address, asked }));
        }
        Ok(())
    }

    /// Sends all replies. What cannot be sent is said to `failed`, and the others are sent.
    pub(in crate::udp) async fn send_all(&self, outbox: &mut Outbox, failed: impl Fn(io::Error, &Peer)) {
        let mut sent = 0;
        while sent < outbox.peers.len() {
            let (reply, peer) = (&outbox.replies[sent], &outbox.peers[sent]);
            // One of several addresses has to be said with each.
            let is_lone = peer.asked.is_some() || outbox.peers.len() == sent + 1;
            match if is_lone { Ok(0) } else { self.try_send_all(outbox, sent) } {
                Ok(count) if count > 0 => sent += count,
                // This one waits, or fails alone.
                Ok(_) | Err(_) => {
                    if let Err(error) = self.send(reply, peer).await {
                        failed(error, peer);
                    }
                    sent += 1;
                }
            }
        }
        outbox.peers.clear();
    }

    fn try_send_all(&self, outbox: &Outbox, from: usize) -> io::Result<usize> {
        let v4 = |peer: &Peer| match peer.address {
            SocketAddr::V4(address) => Some(SockaddrIn::from(address)),
            SocketAddr::V6(_) => None,
        };
        let v6 = |peer: &Peer| match peer.address {
            SocketAddr::V4(_) => None,
            SocketAddr::V6(address) => Some(SockaddrIn6::from(address)),
        };
        self.socket.try_io(Interest::WRITABLE, || match self.is_v6 {
            false => sent_all(&self.socket, outbox.rest(from).map(|(reply, peer)| (reply, v4(peer)))),
            true => sent_all(&self.socket, outbox.rest(from).map(|(reply, peer)| (reply, v6(peer)))),
        })
    }
}

/// How many were sent: all, or those before the first that cannot be sent now.
fn sent_all<'a, S: SockaddrLike + Copy>(
    socket: &UdpSocket,
    replies: impl Iterator<Item = (&'a Vec<u8>, Option<S>)>,
) -> io::Result<usize> {
    let (slices, addresses): (Vec<[IoSlice<'_>; 1]>, Vec<Option<S>>) =
        replies.map(|(reply, address)| ([IoSlice::new(reply)], address)).unzip();
    let mut headers = MultiHeaders::preallocate(slices.len(), None);
    Ok(sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &addresses, [], MsgFlags::empty())?.count())
}
