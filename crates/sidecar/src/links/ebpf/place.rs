//! Where the kernel path hangs on this machine: the cgroup that its programs see, and the file system that keeps them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

use super::PlaneError;

/// linux/magic.h: BPF_FS_MAGIC.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
const MOUNTS: &str = "/proc/self/mountinfo";

/// The cgroup whose processes the programs see: what the setting says, else the root of all.
pub(super) fn cgroup(setting: Option<&Path>) -> Result<PathBuf, PlaneError> {
    if let Some(path) = setting {
        return Ok(path.to_owned());
    }
    let mounts = fs::read_to_string(MOUNTS).map_err(|source| PlaneError::Read { path: MOUNTS.into(), source })?;
    let root = cgroup_root(&mounts).ok_or(PlaneError::NoCgroup)?;
    // Every cgroup but the root of all has a type. In a container with a cgroup namespace of its own the root is its own.
    if root.join("cgroup.type").exists() {
        return Err(PlaneError::OwnCgroup { path: root });
    }
    Ok(root)
}

/// Where the cgroup hierarchy (version 2) is mounted: `ID PARENT DEVICE ROOT PLACE OPTIONS... - TYPE SOURCE OPTIONS`.
fn cgroup_root(mounts: &str) -> Option<PathBuf> {
    let place = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let (root, place) = (before.split(' ').nth(3)?, before.split(' ').nth(4)?);
        (after.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(place.replace("\\040", " ")))
    };
    mounts.lines().find_map(place)
}

/// Makes sure that `pins` can be made on a BPF file system: mounts one on the folder above it, as systemd does at its start,
/// where that is empty.
pub(super) fn bpf_file_system(pins: &Path) -> Result<(), PlaneError> {
    let folder = pins.parent().unwrap_or(Path::new("/"));
    let refused = |source| PlaneError::NoBpfFs { path: folder.to_owned(), source };
    if is_bpf_file_system(folder).map_err(refused)? {
        return Ok(());
    }
    if fs::read_dir(folder).map_err(refused)?.next().is_some() {
        return Err(refused(io::Error::other("another file system is there, and it is not empty")));
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", folder, "bpf", flags, c"mode=0700").map_err(|errno| refused(errno.into()))
}

fn is_bpf_file_system(folder: &Path) -> io::Result<bool> {
    // The type of the field is another one on each architecture.
    Ok(statfs(folder)?.f_type as u64 == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cgroup_hierarchy() {
        let rows = [
            ("31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate", Some("/sys/fs/cgroup")),
            ("40 32 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", Some("/sys/fs/cgroup/unified")),
            ("33 32 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", None),
            ("50 32 0:30 /docker/1 /mnt/part rw - cgroup2 cgroup2 rw", None),
            ("51 32 0:30 / /mnt/with\\040space rw - cgroup2 cgroup2 rw", Some("/mnt/with space")),
            ("- cgroup2", None),
        ];
        for (line, expected) in rows {
            let mounts = format!("1 0 8:1 / / rw - ext4 /dev/root rw\n{line}\n");
            assert_eq!(cgroup_root(&mounts), expected.map(PathBuf::from), "{line}");
        }
    }
}
