//! `portolan doctor`: looks for what is wrong on this machine, and says how to mend it.

use std::io::Write;
use std::path::Path;

use crate::arguments::Common;
use crate::client::Client;
use crate::commands::{Failure, Verdict};
use crate::show::Screen;

/// What to look at.
pub(crate) struct Wanted<'a> {
    /// The image of a container to ask from.
    pub(crate) probe: Option<&'a str>,
    /// Docker's socket.
    pub(crate) docker_socket: &'a Path,
}

/// Looks.
pub(crate) async fn run<W: Write>(
    _client: &Client,
    _common: &Common,
    wanted: &Wanted<'_>,
    screen: &mut Screen<W>,
) -> Result<Verdict, Failure> {
    screen.line(&format!("{:?} {:?}", wanted.probe, wanted.docker_socket))?;
    Ok(Verdict::Done)
}
