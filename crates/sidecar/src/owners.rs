//! Leases between nodes: what the registry told of other nodes counts for 30 s after its last word; then, or a while before,
//! the owner of each endpoint is asked whether it still has its port.
//!
//! ```text
//! told view ──> keep (ledger: what is still good) ──view──> overlay
//!                 │ ^
//!   while no registry is in reach: ask, over TCP, port 8511 of the owner's node
//! LocalState ──> answer: what other nodes ask of this one
//! ```
//!
//! With a registry in reach nothing is asked, and its word alone counts.

mod answer;
mod ask;
mod keep;
mod ledger;

pub(crate) use answer::{Listening, start as start_answering};
pub(crate) use keep::keep;
pub(crate) use ledger::Ledger;

use std::io;

use portolan_proto::ownership::OCTETS_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads a message that has its length before it.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    if length > OCTETS_MAX {
        return Err(io::Error::other(format!("a message of {length} octets; at most {OCTETS_MAX} are taken")));
    }
    let mut octets = vec![0; length];
    stream.read_exact(&mut octets).await?;
    Ok(octets)
}

/// Writes a message with its length before it.
async fn write(stream: &mut (impl AsyncWrite + Unpin), octets: &[u8]) -> io::Result<()> {
    let length = u32::try_from(octets.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), octets].concat()).await?;
    stream.flush().await
}
