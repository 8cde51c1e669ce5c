//! A conversation with the stand-in's TCP echo over one connection: who is behind it, and whether bytes still pass.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;

/// How long a connect, and each answer, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection.
#[derive(Debug)]
pub struct Talk {
    /// Who answers.
    pub name: String,
    stream: TcpStream,
}

impl Talk {
    /// Connects, and hears who is there. From wherever the thread is; afterwards it may be used anywhere.
    ///
    /// # Errors
    /// When the connection fails, or nobody says a name.
    pub fn begin(addr: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT).with_context(|| format!("connect to {addr}"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let mut heard = Vec::new();
        while !heard.ends_with(b": ") {
            let mut byte = [0];
            stream.read_exact(&mut byte).with_context(|| format!("hear a name from {addr}"))?;
            heard.push(byte[0]);
        }
        heard.truncate(heard.len() - 2);
        Ok(Talk { name: String::from_utf8(heard)?, stream })
    }

    /// Begins conversations until one is with `name`.
    ///
    /// # Errors
    /// When one fails, or `name` does not come in a hundred.
    pub fn begin_with(addr: SocketAddr, name: &str) -> anyhow::Result<Self> {
        for _ in 0..100 {
            let talk = Self::begin(addr)?;
            if talk.name == name {
                return Ok(talk);
            }
        }
        anyhow::bail!("{name} is not behind {addr}")
    }

    /// The names behind an address, by as many conversations.
    ///
    /// # Errors
    /// The first that fails.
    pub fn names(addr: SocketAddr, times: u32) -> anyhow::Result<BTreeSet<String>> {
        (0..times).map(|_| Self::begin(addr).map(|talk| talk.name)).collect()
    }

    /// Says something, and hears the same.
    ///
    /// # Errors
    /// When the connection was cut, or something else comes.
    pub fn goes_on(&mut self) -> anyhow::Result<()> {
        let said = *b"are you still there?";
        self.stream.write_all(&said).with_context(|| format!("speak to {}", self.name))?;
        let mut heard = [0; 20];
        self.stream.read_exact(&mut heard).with_context(|| format!("hear {}", self.name))?;
        anyhow::ensure!(heard == said, "{} says {:?}", self.name, String::from_utf8_lossy(&heard));
        Ok(())
    }
}
