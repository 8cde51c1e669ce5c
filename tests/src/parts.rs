//! Real parts: programs of other people that tests run against. One that is missing skips the test, loudly; with `CI`
//! set in the environment it fails the test, so that a green run there means that everything ran.

use std::path::PathBuf;
use std::process::Command;

/// Programs and their Debian and Ubuntu packages; `tests/install` reads the same file.
const PARTS: &str = include_str!("../parts.txt");

/// Folders of system programs that are not in every user's `PATH`.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/systemd"];

/// Returns `Ok(())` from the test, loudly, unless it is root and every program that is named can be found. After
/// `anyone:` it need not be root.
#[macro_export]
macro_rules! needs {
    (anyone: $($program:expr),+ $(,)?) => {
        if !$crate::parts::are_found(&[$($program),+]) {
            return Ok(());
        }
    };
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
pub fn are_here(programs: &[&str]) -> bool {
    let root = "not root (run as root: the test makes network namespaces)";
    are_found(programs) && (rustix::process::geteuid().is_root() || skip(root))
}

/// Whether every program is here. Otherwise the test must end, and this has said why.
///
/// # Panics
/// When something is missing and `CI` is set.
pub fn are_found(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
    missing.is_empty() || skip(&format!("{} not found ({})", missing.join(", "), packages(&missing)))
}

/// Says why a test is skipped.
#[expect(clippy::panic, clippy::print_stderr, reason = "in CI a skipped test is a failure; skipping is said aloud")]
fn skip(reason: &str) -> bool {
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

/// How the programs are had: `apt install gcc`, `tests/install brings awscli`.
fn packages(programs: &[&str]) -> String {
    let packages = programs.iter().map(|&program| {
        let mut parts = PARTS.lines().filter_map(|line| line.split_once(' '));
        parts.find(|(name, _)| *name == program).map_or(program, |(_, package)| package)
    });
    let (brought, mut debian): (Vec<&str>, Vec<&str>) = packages.partition(|package| package.contains(':'));
    debian.dedup();
    let mut ways = Vec::new();
    if !debian.is_empty() {
        ways.push(format!("apt install {}", debian.join(" ")));
    }
    if !brought.is_empty() {
        ways.push(format!("tests/install brings {}", brought.join(" ").replace("pip:", "").replace("unpack:", "")));
    }
    ways.join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_names_the_way_to_each_program() {
        let rows: [(&[&str], &str); 4] = [
            (&["docker", "dockerd", "ip"], "apt install docker.io iproute2"),
            (&["unheard-of"], "apt install unheard-of"),
            (&["aws", "cc"], "apt install gcc, tests/install brings awscli==1.45.11"),
            (&["systemd-resolved"], "tests/install brings systemd-resolved,libsystemd-shared"),
        ];
        rows.iter().for_each(|(programs, expected)| assert_eq!(packages(programs), *expected));
    }
}
