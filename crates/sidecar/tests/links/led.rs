//! A cgroup of its own for the clients of a test, and a place for pins: what the kernel path hangs on.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use portolan_core::evidence::LinkPlane;
use portolan_sidecar::links::{KernelSettings, Links, PlaneStatus, cleanup_kernel_path};

use super::host::{Host, Place, eventually};

/// Removed at the end, with everything that hangs on it.
pub(crate) struct Led {
    cgroup: PathBuf,
    mount: tempfile::TempDir,
}

impl Led {
    pub(crate) fn new(host: &Host) -> Led {
        // Threads of this process may be in it, one by one, because it is below the process's own.
        let cgroup = own_cgroup().join(host.of(Place::Host));
        fs::create_dir(&cgroup).unwrap();
        fs::write(cgroup.join("cgroup.type"), "threaded").unwrap();
        Led { cgroup, mount: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.mount.path().join("portolan")
    }

    pub(crate) fn settings(&self, lease: Duration) -> KernelSettings {
        KernelSettings { plane: LinkPlane::Ebpf, cgroup: Some(self.cgroup.clone()), pins: self.pins(), lease }
    }

    /// Runs `work` on a thread in that namespace whose connections the kernel may lead.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        (host, place): (&Host, Place),
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let threads = self.cgroup.join("cgroup.threads");
        host.start(place, move || {
            fs::write(threads, "0").unwrap();
            work()
        })
    }

    pub(crate) fn at<T: Send + 'static>(&self, client: (&Host, Place), work: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(client, work).join().expect("the client must not panic")
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        cleanup_kernel_path(&self.pins()).ok();
        rustix::mount::unmount(self.mount.path(), rustix::mount::UnmountFlags::DETACH).ok();
        eventually("the cgroup is empty", || fs::remove_dir(&self.cgroup).is_ok());
    }
}

/// How the first link is carried.
pub(crate) fn plane(links: &Links) -> PlaneStatus {
    links.status()[0].plane.clone().expect("the link is open")
}

/// Waits until the kernel leads to so many endpoints of the first link.
pub(crate) fn is_led_to(links: &Links, endpoints: usize) {
    let mut seen = None;
    let is_led = || {
        seen = links.status().into_iter().next().and_then(|link| link.plane);
        seen.as_ref().is_some_and(|plane| plane.endpoints == endpoints)
    };
    let led = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually("the kernel leads", is_led)));
    assert!(led.is_ok(), "the kernel should lead to {endpoints} endpoints: {seen:?}");
}

fn own_cgroup() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2 is mounted");
    let mount = Path::new(line.split(' ').nth(4).unwrap());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("this process has a cgroup").to_owned();
    mount.join(own)
}
