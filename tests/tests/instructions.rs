//! How many instructions of ours an answer takes, counted by valgrind: a number that does not depend on what else the machine
//! does. Only what the kernel does for the socket comes to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use portolan_tests::{needs, parts, programs};

/// What runs while an answer is made, compiled as in a release; the rest is what every other test was built with.
const OPTIMISED: [&str; 11] = [
    "portolan-core",
    "portolan-dns",
    "hickory-proto",
    "prometheus-client",
    "rand",
    "rand_core",
    "chacha20",
    "siphasher",
    "ipnet",
    "arc-swap",
    "imbl",
];
/// Enough for every order of every name to be made.
const WARM_UP: u64 = 1_024;
/// A multiple of what it takes until an order is replaced, for each name.
const COUNTED: u64 = 8_192;
/// Each kind of question, how it comes, and the most that it may take: about a sixth above what was measured. The contract
/// asks for 5,000 where a reply is ready. By TCP, and when it is new, each answer is made; by UDP it is in the packet table.
const BOUNDS: [(&str, &str, u64); 5] = [
    ("a", "udp", 1_550),
    ("srv", "udp", 1_650),
    ("absent", "udp", 1_450),
    ("srv", "tcp", 18_500),
    ("absent", "tcp", 8_200),
];

#[test]
fn an_answer_takes_few_instructions() -> Result<()> {
    needs!(anyone: "valgrind");
    let program = build()?;
    let folder = tempfile::tempdir()?;
    let mut failed = Vec::new();
    for (kind, transport, most) in BOUNDS {
        let counted = |count| instructions(&program, folder.path(), [kind, transport], count);
        let each = (counted(WARM_UP + COUNTED)? - counted(WARM_UP)?) / COUNTED;
        let line = format!("{kind} by {transport}: {each} instructions, {most} at most");
        eprintln!("{line}");
        if each > most || each == 0 {
            failed.push(line);
        }
    }
    ensure!(failed.is_empty(), "too many: {}", failed.join("; "));
    Ok(())
}

/// Of the whole workspace, so that dependencies have the features that they have for every other test.
fn build() -> Result<PathBuf> {
    let target = programs::target_folder()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--workspace", "--example=desk"]);
    for package in OPTIMISED {
        for setting in ["opt-level=3", "debug-assertions=false", "codegen-units=1"] {
            cargo.arg("--config").arg(format!("profile.dev.package.{package}.{setting}"));
        }
    }
    parts::run(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("debug/examples/desk"))
}

fn instructions(program: &Path, folder: &Path, asked: [&str; 2], count: u64) -> Result<u64> {
    let mut valgrind = parts::command("valgrind");
    let out = folder.join("counted");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display()));
    parts::run(valgrind.arg(program).args(asked).arg(count.to_string()))?;
    let text = std::fs::read_to_string(&out)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    total.context("callgrind gave no total")?.trim().parse().context("callgrind's total is a number")
}
