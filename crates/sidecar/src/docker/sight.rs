//! Sight of a container's process: a pidfd that tells its death some 24 ms before Docker does.
//!
//! Docker's pid counts in the host's namespace. Where that is not ours, the number is nobody, or somebody else's
//! process; so the process must carry the container's id in its control group.

use std::os::fd::OwnedFd;

use portolan_core::endpoint::Run;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::state::Input;

/// A pidfd of `pid`, if that process is the container's.
pub(super) fn open(pid: i32, container_id: &str) -> Option<OwnedFd> {
    // The descriptor first: what is read of /proc afterwards is then of the same process or of none.
    let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.contains(container_id).then_some(fd)
}

/// Waits for the process's end and reports it. Ends then, at the latest.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that may swap their descriptor; an OwnedFd never does"
)]
pub(super) async fn watch(fd: OwnedFd, (id, run): (String, Run), inputs: mpsc::Sender<Input>) {
    let Ok(fd) = AsyncFd::with_interest(fd, Interest::READABLE) else { return };
    if fd.readable().await.is_ok() {
        inputs.send(Input::Exited { id, run }).await.ok();
    }
}
