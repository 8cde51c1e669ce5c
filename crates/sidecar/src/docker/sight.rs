//! Sight of a container's process: a pidfd that tells its death some 24 ms before Docker does.
//!
//! Docker's pid counts in the host's namespace. Where that is not ours, the number is nobody, or somebody else's
//! process; so the process must carry the container's id in its control group.

use std::os::fd::OwnedFd;

use portolan_core::endpoint::Run;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::facts::Sight;
use super::state::Input;

/// A pidfd of `pid`, if that process is the container's; else why there is none.
pub(super) fn open(pid: i32, container_id: &str) -> Result<OwnedFd, Sight> {
    let pid_of = Pid::from_raw(pid).ok_or(Sight::Hidden)?;
    // The descriptor first: what is read of /proc afterwards is then of the same process or of none.
    let fd = pidfd_open(pid_of, PidfdFlags::empty()).map_err(|error| match error {
        Errno::SRCH => Sight::Gone,
        _ => Sight::Hidden,
    })?;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|_| Sight::Gone)?;
    if groups.contains(container_id) { Ok(fd) } else { Err(Sight::Hidden) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_process_that_is_gone_from_anothers() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(open(own, "no container of this id").err(), Some(Sight::Hidden));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert_eq!(open(pid, "").err(), Some(Sight::Gone));
    }
}
