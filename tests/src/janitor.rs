//! The janitor: a child process that outlives the tests and takes away what they made, however they ended.
//!
//! It reads the names of engines, namespaces, folders and cgroups from a pipe; the pipe ends with the test process, even by
//! kill -9, and then it cleans. Things that are dropped in order are removed by the same script at once.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use anyhow::Context;
use std::os::unix::process::CommandExt;

const SCRIPT: &str = include_str!("janitor.sh");

/// A kind of thing that the janitor can remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A private Docker engine, by its folder.
    Engine,
    /// A network namespace, by its name.
    Namespace,
    /// A folder.
    Folder,
    /// A cgroup that nothing is in any more, by its folder.
    Cgroup,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Engine => "engine",
            Kind::Namespace => "netns",
            Kind::Folder => "folder",
            Kind::Cgroup => "cgroup",
        }
    }
}

/// Has `name` removed when this process ends. Say it before making the thing.
///
/// # Errors
/// When the janitor cannot be started.
pub fn remember(kind: Kind, name: &str) -> anyhow::Result<()> {
    static JANITOR: OnceLock<Mutex<Option<Child>>> = OnceLock::new();
    let janitor = JANITOR.get_or_init(|| Mutex::new(start().ok()));
    let mut janitor = janitor.lock().map_err(|_| anyhow::anyhow!("a test panicked beside the janitor"))?;
    let input = janitor.as_mut().and_then(|child| child.stdin.as_mut()).context("start the janitor")?;
    writeln!(input, "{} {name}", kind.as_str()).context("tell the janitor")
}

fn start() -> std::io::Result<Child> {
    // A process group of its own, so that Ctrl-C on the tests does not reach it.
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn()
}

/// Removes a thing now.
pub fn remove(kind: Kind, name: &str) {
    let result = Command::new("sh").args(["-c", SCRIPT, "janitor", kind.as_str(), name]).output();
    match result {
        Ok(output) if output.status.success() => {}
        Ok(output) => crate::report::say(&format!("remove {name}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => crate::report::say(&format!("remove {name}: {error}")),
    }
}

/// A name that no other test of this machine uses: short, because socket paths are.
pub fn unique(purpose: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("ptl-{purpose}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A folder of this name in the temporary directory, removed when the process ends.
///
/// # Errors
/// When it cannot be made.
pub fn folder(name: &str, kind: Kind) -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(name);
    remember(kind, &folder.to_string_lossy())?;
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}
