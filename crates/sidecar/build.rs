//! Compiles the kernel path of links with clang. Where there is none the object is left empty, and the sidecar says so when
//! somebody wants that path: a build never fails for want of it.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "bpf/links.bpf.c";

fn main() -> io::Result<()> {
    let object = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("links.bpf.o");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    if let Err(reason) = compile(&clang, &object) {
        println!("cargo::warning=links have no kernel path in this build (plane `ebpf`): {reason}");
        // A clang that is installed later shows in one of these folders.
        let folders = env::var_os("PATH").unwrap_or_default();
        for folder in env::split_paths(&folders).filter(|folder| folder.is_dir()) {
            println!("cargo::rerun-if-changed={}", folder.display());
        }
        fs::write(&object, [])?;
    }
    Ok(())
}

/// The oldest instructions that a kernel with all of our hooks has for sure: `-mcpu=v2`.
fn compile(clang: &str, object: &Path) -> Result<(), String> {
    let options = ["-O2", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-mcpu=v2", "-c", SOURCE, "-o"];
    let output = Command::new(clang).args(options).arg(object).output();
    let output = output.map_err(|error| format!("run `{clang}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{clang}` failed: {}", String::from_utf8_lossy(&output.stderr).replace('\n', " / ")))
}
