//! Words and sockets from process to process over a Unix stream (unix(7), `SCM_RIGHTS`). Every message is as long as every other, so
//! that none is ever taken for the end of the one before.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::{Duplicates, Purpose};

/// A word, and the names of the sockets that come with it, filled up with spaces.
const MESSAGE_OCTETS: usize = 64;
/// Room for one socket of each purpose.
const ROOM: usize = rustix::cmsg_space!(ScmRights(Purpose::ALL.len()));

/// What one sidecar says to another, or to its keeper.
#[derive(Debug)]
pub enum Message {
    /// These are the sockets that are listened on.
    Sockets(Duplicates),
    /// The next sidecar is to serve now.
    TakeOver,
}

/// Sends a message.
///
/// # Errors
/// When the other side is gone, or does not read.
pub async fn send(stream: &UnixStream, message: &Message) -> io::Result<()> {
    let (mut text, sockets) = match message {
        Message::Sockets(sockets) => ("sockets".to_owned(), sockets.as_slice()),
        Message::TakeOver => ("takeover".to_owned(), &[][..]),
    };
    for (purpose, _) in sockets {
        text.push(' ');
        text.push_str(purpose.name());
    }
    let octets = format!("{text:MESSAGE_OCTETS$}").into_bytes();
    let descriptors: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut room = [MaybeUninit::uninit(); ROOM];
            let mut beside = SendAncillaryBuffer::new(&mut room);
            if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            Ok(sendmsg(stream, &[IoSlice::new(&octets)], &mut beside, SendFlags::NOSIGNAL)?)
        })
        .await?;
    if sent == octets.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Waits for a message. `None`: the other side is gone, or speaks otherwise. Not cancel-safe between the parts of one message, which
/// come together unless somebody means ill.
///
/// # Errors
/// When the stream cannot be read.
pub async fn receive(stream: &UnixStream) -> io::Result<Option<Message>> {
    let (mut octets, mut filled, mut sockets) = ([0; MESSAGE_OCTETS], 0, Vec::new());
    while filled < MESSAGE_OCTETS {
        let read = stream.async_io(Interest::READABLE, || part(stream, &mut octets[filled..], &mut sockets)).await?;
        if read == 0 {
            return Ok(None);
        }
        filled += read;
    }
    Ok(read(&octets, sockets))
}

fn part(stream: &UnixStream, octets: &mut [u8], sockets: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut beside = RecvAncillaryBuffer::new(&mut room);
    let read = recvmsg(stream, &mut [IoSliceMut::new(octets)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    Ok(read.bytes)
}

fn read(octets: &[u8], sockets: Vec<OwnedFd>) -> Option<Message> {
    let text = std::str::from_utf8(octets).ok()?;
    let mut words = text.split_ascii_whitespace();
    match words.next()? {
        "takeover" => Some(Message::TakeOver),
        "sockets" => {
            let names: Vec<&str> = words.collect();
            let are_named = names.len() == sockets.len();
            // A newer sidecar may have sockets that this one does not know.
            let known = names.into_iter().map(Purpose::parse).zip(sockets);
            are_named
                .then(|| Message::Sockets(known.filter_map(|(purpose, socket)| Some((purpose?, socket))).collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn sockets_arrive_as_they_were_sent() {
        let (here, there) = UnixStream::pair().unwrap();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let named = [Purpose::Relay, Purpose::DnsTcp].into_iter().zip(listeners.map(OwnedFd::from)).collect();
        send(&here, &Message::Sockets(named)).await.unwrap();
        send(&here, &Message::TakeOver).await.unwrap();
        send(&here, &Message::Sockets(Vec::new())).await.unwrap();
        let Some(Message::Sockets(got)) = receive(&there).await.unwrap() else { panic!("sockets") };
        let got: Vec<_> = got
            .into_iter()
            .map(|(purpose, socket)| (purpose, TcpListener::from(socket).local_addr().unwrap()))
            .collect();
        assert_eq!(got, [(Purpose::Relay, addresses[0]), (Purpose::DnsTcp, addresses[1])]);
        assert!(matches!(receive(&there).await.unwrap(), Some(Message::TakeOver)));
        assert!(matches!(receive(&there).await.unwrap(), Some(Message::Sockets(none)) if none.is_empty()));
        drop(here);
        assert!(receive(&there).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_talk() {
        for text in ["", "sockets relay", "hello", "\u{7f}"] {
            let (here, there) = UnixStream::pair().unwrap();
            let octets = format!("{text:MESSAGE_OCTETS$}").into_bytes();
            assert_eq!(here.try_write(&octets).unwrap(), MESSAGE_OCTETS);
            assert!(receive(&there).await.unwrap().is_none(), "{text:?}");
        }
    }
}
