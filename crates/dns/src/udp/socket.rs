//! A UDP socket whose replies come from the address that was asked (RFC 2181 section 4.1).
//!
//! Bound to one address it is a plain socket. Bound to all of them the kernel would choose by its routes, and an asker of
//! another address of the host would wait for ever: so there each datagram says where it came to, and the reply is told.

mod batch;

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{MsgHdr, SockAddr, SockRef};
use tokio::io::Interest;
use tokio::net::UdpSocket;

pub(super) use batch::{Inbox, Outbox};

/// `IPPROTO_IP` and `IP_PKTINFO`.
const CONTROL_V4: [i32; 2] = [0, 8];
/// `IPPROTO_IPV6` and `IPV6_PKTINFO`.
const CONTROL_V6: [i32; 2] = [41, 50];
/// A control message's length, a `size_t`, and its level and type.
const CONTROL_HEAD_OCTETS: usize = size_of::<usize>() + 8;
const PACKET_INFO_V4_OCTETS: usize = size_of::<in_pktinfo>();
const PACKET_INFO_V6_OCTETS: usize = size_of::<in6_pktinfo>();
/// The longer one with its head, filled up to whole words.
const CONTROL_OCTETS: usize = (CONTROL_HEAD_OCTETS + PACKET_INFO_V6_OCTETS).next_multiple_of(size_of::<usize>());

/// Room for a control message, aligned as the system's own type.
#[repr(align(8))]
struct Control([u8; CONTROL_OCTETS]);

/// Who sent a datagram, and to which address.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The host's address that was asked; `None` where the socket has no other.
    asked: Option<IpAddr>,
}

impl Peer {
    /// The asker. On a socket for both families IPv4 comes mapped.
    pub(crate) fn asker(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    is_v6: bool,
    has_all_addresses: bool,
}

impl Socket {
    /// Binds `address`.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Socket> {
        Self::of(UdpSocket::bind(address).await?)
    }

    /// Takes over one that is bound.
    pub(crate) fn of(socket: UdpSocket) -> io::Result<Socket> {
        let address = socket.local_addr()?;
        let has_all_addresses = address.ip().is_unspecified();
        match address {
            SocketAddr::V4(_) if has_all_addresses => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) if has_all_addresses => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            SocketAddr::V4(_) | SocketAddr::V6(_) => {}
        }
        Ok(Socket { socket, is_v6: address.is_ipv6(), has_all_addresses })
    }

    /// The socket alone, without the runtime that it was bound in.
    pub(crate) fn into_std(self) -> io::Result<std::net::UdpSocket> {
        self.socket.into_std()
    }

    /// The socket, to hold a duplicate of.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Where it is bound.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for a datagram.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes a datagram that is there.
    fn try_receive(&self, packet: &mut [u8]) -> io::Result<(usize, Peer)> {
        if self.has_all_addresses {
            return self.socket.try_io(Interest::READABLE, || received(&self.socket, packet));
        }
        let (length, address) = self.socket.try_recv_from(packet)?;
        Ok((length, Peer { address, asked: None }))
    }

    /// Sends a reply to `peer`, from the address that it asked.
    pub(crate) async fn send(&self, reply: &[u8], peer: &Peer) -> io::Result<()> {
        let Some(asked) = peer.asked else {
            return match self.socket.try_send_to(reply, peer.address) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.socket.send_to(reply, peer.address).await.map(drop)
                }
                sent => sent.map(drop),
            };
        };
        match self.socket.try_io(Interest::WRITABLE, || sent(&self.socket, reply, peer.address, asked)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.socket.async_io(Interest::WRITABLE, || sent(&self.socket, reply, peer.address, asked)).await
            }
            sent => sent,
        }
    }
}

fn received(socket: &UdpSocket, packet: &mut [u8]) -> io::Result<(usize, Peer)> {
    let mut control = Control([0; CONTROL_OCTETS]);
    let mut buffers = [IoSliceMut::new(packet)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut buffers, Some(&mut control.0), MsgFlags::empty())?;
    let v4 = |from: &SockaddrStorage| from.as_sockaddr_in().map(|from| SocketAddr::V4((*from).into()));
    let v6 = |from: &SockaddrStorage| from.as_sockaddr_in6().map(|from| SocketAddr::V6((*from).into()));
    let address = message.address.as_ref().and_then(|from| v4(from).or_else(|| v6(from)));
    let address = address.ok_or(ErrorKind::AddrNotAvailable)?;
    Ok((message.bytes, Peer { address, asked: asked(&message)? }))
}

/// The address that a datagram came to, if it says so.
fn asked<S>(message: &RecvMsg<'_, '_, S>) -> io::Result<Option<IpAddr>> {
    Ok(message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    }))
}

fn sent(socket: &UdpSocket, reply: &[u8], to: SocketAddr, from: IpAddr) -> io::Result<()> {
    let (control, length) = source(from);
    let (to, buffers) = (SockAddr::from(to), [IoSlice::new(reply)]);
    let message = MsgHdr::new().with_addr(&to).with_buffers(&buffers).with_control(&control[..length]);
    SockRef::from(socket).sendmsg(&message, 0).map(drop)
}

/// The control message that says where a datagram comes from, as `cmsg(3)` lays it out, and its length. Made by hand: nix
/// would allocate it.
fn source(from: IpAddr) -> ([u8; CONTROL_OCTETS], usize) {
    let mut control = [0; CONTROL_OCTETS];
    let (kind, info_octets, place) = match from {
        // Behind the interface: any.
        IpAddr::V4(_) => (CONTROL_V4, PACKET_INFO_V4_OCTETS, CONTROL_HEAD_OCTETS + 4),
        IpAddr::V6(_) => (CONTROL_V6, PACKET_INFO_V6_OCTETS, CONTROL_HEAD_OCTETS),
    };
    let length = CONTROL_HEAD_OCTETS + info_octets;
    control[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
    control[size_of::<usize>()..][..4].copy_from_slice(&kind[0].to_ne_bytes());
    control[size_of::<usize>() + 4..][..4].copy_from_slice(&kind[1].to_ne_bytes());
    match from {
        IpAddr::V4(v4) => control[place..place + 4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => control[place..place + 16].copy_from_slice(&v6.octets()),
    }
    (control, length.next_multiple_of(size_of::<usize>()))
}
