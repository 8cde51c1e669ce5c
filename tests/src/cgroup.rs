//! A cgroup for the clients of a test, and a place for the kernel path's pins: what hangs there sees them, and nobody else of
//! the machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::janitor::{self, Kind};

/// A cgroup below the one that the tests run in, so that their threads may be in it one by one.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// An empty one.
    ///
    /// # Errors
    /// When no cgroup hierarchy of version 2 is mounted, or it refuses.
    pub fn new() -> anyhow::Result<Self> {
        let path = own()?.join(janitor::unique("cgroup"));
        janitor::remember(Kind::Cgroup, &path.to_string_lossy())?;
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        let cgroup = Cgroup { path };
        fs::write(cgroup.path.join("cgroup.type"), "threaded").context("take threads one by one")?;
        Ok(cgroup)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves this thread into it. Its connections count from then on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_this_thread(&self) -> anyhow::Result<()> {
        fs::write(self.path.join("cgroup.threads"), "0").with_context(|| format!("enter {}", self.path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        janitor::remove(Kind::Cgroup, &self.path.to_string_lossy());
    }
}

/// The cgroup of this process.
fn own() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    Ok(Path::new(mount.context("no cgroup hierarchy of version 2 is mounted")?).join(own))
}

/// A cgroup and a place for pins, so that the kernel path of a node is that node's alone.
#[derive(Debug)]
pub struct KernelPath {
    /// Whose connections are led.
    pub cgroup: Cgroup,
    folder: PathBuf,
}

impl KernelPath {
    /// Both, empty.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let folder = janitor::folder(&janitor::unique("bpf"), Kind::Folder)?;
        fs::create_dir(folder.join("mount"))?;
        Ok(KernelPath { cgroup: Cgroup::new()?, folder })
    }

    /// The setting `link.pins`.
    pub fn pins(&self) -> PathBuf {
        self.folder.join("mount/portolan")
    }

    /// What a sidecar is to be started with.
    pub fn args(&self) -> [String; 2] {
        let cgroup = format!("--link-cgroup={}", self.cgroup.path().display());
        [cgroup, format!("--link-pins={}", self.pins().display())]
    }
}

impl Drop for KernelPath {
    fn drop(&mut self) {
        janitor::remove(Kind::Folder, &self.folder.to_string_lossy());
    }
}
