//! `portolan dev`: a registry and a sidecar on this machine, in one process.

use anyhow::bail;

use crate::commands::Verdict;

/// What `dev` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs both until it is told to end.
pub(crate) async fn run(_arguments: Arguments) -> anyhow::Result<Verdict> {
    bail!("this build has no registry and sidecar to run")
}
