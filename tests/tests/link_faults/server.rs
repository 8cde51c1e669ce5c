//! Servers that fail in one way each: what they do after a connection was accepted.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use portolan_tests::namespace::Namespace;
use portolan_tests::wait::pause;
use rustix::net::sockopt::set_socket_linger;

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Sends back what comes, to the end.
    Echo,
    /// Accepts and does nothing more.
    Hang,
    /// Reads a question, and resets.
    Reset,
    /// Echoes so many bytes, then resets.
    ResetAfter(usize),
    /// Echoes 64 KiB each 5 ms.
    Slow,
}

/// Serves on `port` of a node for as long as the process lives.
pub(crate) fn serve(node: &Namespace, port: u16, manner: Manner) -> anyhow::Result<SocketAddr> {
    let address = SocketAddr::new(node.addr(), port);
    let listener = node.inside(|| TcpListener::bind(address))??;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || converse(stream, manner));
        }
    });
    Ok(address)
}

fn converse(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = match manner {
        Manner::Hang => {
            // Longer than any client waits.
            pause(Duration::from_secs(60));
            return Ok(());
        }
        Manner::Reset => stream.read(&mut buffer).map(|_| 0)?,
        Manner::ResetAfter(bytes) => bytes,
        Manner::Echo | Manner::Slow => usize::MAX,
    };
    while left > 0 {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(&buffer[..length.min(left)])?;
        left = left.saturating_sub(length);
        if manner == Manner::Slow {
            pause(Duration::from_millis(5));
        }
    }
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}
