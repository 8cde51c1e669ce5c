//! Real parts: programs of other people that tests run against. One that is missing skips the test, loudly; with `CI`
//! set in the environment it fails the test, so that a green run there means that everything ran.

use std::path::PathBuf;
use std::process::Command;

/// Programs and their Debian and Ubuntu packages; `tests/install` reads the same file.
const PARTS: &str = include_str!("../parts.txt");

/// Folders of system programs that are not in every user's `PATH`.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Returns `Ok(())` from the test, loudly, unless it is root and every program that is named can be found.
#[macro_export]
macro_rules! needs {
    ($($program:expr),+ $(,)?) => {
        if !$crate::parts::are_here(&[$($program),+]) {
            return Ok(());
        }
    };
}

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A command that runs the program, wherever it is.
pub fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)))
}

/// Whether this process is root and every program is here. Otherwise the test must end, and this has said why.
///
/// # Panics
/// When something is missing and `CI` is set.
#[expect(clippy::panic, clippy::print_stderr, reason = "in CI a skipped test is a failure; skipping is said aloud")]
pub fn are_here(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
    let reason = match missing.as_slice() {
        [] if rustix::process::geteuid().is_root() => return true,
        [] => "not root (run as root: the test makes network namespaces)".to_owned(),
        missing => format!("{} not found (apt install {})", missing.join(", "), packages(missing)),
    };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    if std::env::var_os("CI").is_some() {
        panic!("{test}: {reason}, and CI is set");
    }
    // To the terminal itself: what a test prints is captured, and a skip should be seen.
    let line = format!("SKIPPED: {test}: {reason}\n");
    if std::fs::write("/dev/tty", &line).is_err() {
        eprint!("{line}");
    }
    false
}

fn packages(programs: &[&str]) -> String {
    let package = |program: &str| {
        let parts = PARTS.lines().filter_map(|line| line.split_once(' '));
        parts.into_iter().find(|(name, _)| *name == program).map(|(_, package)| package)
    };
    let mut packages: Vec<&str> = programs.iter().map(|program| package(program).unwrap_or(program)).collect();
    packages.dedup();
    packages.join(" ")
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// When it cannot be started or fails: with what it printed on standard error.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().map_err(|error| anyhow::anyhow!("run {command:?}: {error}"))?;
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}{}",
        output.status,
        out.trim(),
        error.trim()
    );
    Ok(out.trim().to_owned())
}
