//! The stand-in image: one static binary, compiled here and imported as a tar made here.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::Context;

use crate::dockerd::Engine;
use crate::{janitor, parts, programs};

/// Its name in every engine of the harness.
pub const STANDIN: &str = "standin";

const SOURCE: &str = include_str!("../standin/standin.rs");
const COMPILER_ARGS: [&str; 7] =
    ["--edition=2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "--crate-name=standin"];

/// The stand-in as a program of this machine, compiled at most once per content. Containers that run in a namespace
/// without Docker are made of it too.
///
/// # Errors
/// When it does not compile.
pub fn standin() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| compile().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

fn compile() -> anyhow::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (SOURCE, COMPILER_ARGS).hash(&mut hasher);
    let folder = programs::target_folder()?.join("standin").join(format!("{:016x}", hasher.finish()));
    let program = folder.join("standin");
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&folder)?;
    // Under a name of its own, then renamed: another test process may be doing the same.
    let source = folder.join(janitor::unique("source"));
    let output = source.with_extension("out");
    fs::write(&source, SOURCE)?;
    parts::run(Command::new("rustc").args(COMPILER_ARGS).arg("-o").arg(&output).arg(&source))?;
    fs::rename(&output, &program)?;
    fs::remove_file(source)?;
    Ok(program)
}

/// Loads the image into an engine. `/standin` is its entry point, and also its `/bin/sh`.
///
/// # Errors
/// When it does not compile or the engine refuses it.
pub fn load(engine: &Engine) -> anyhow::Result<()> {
    let program = fs::read(standin()?).context("read the stand-in")?;
    let mut tar = entry("standin", &program);
    tar.extend(entry("bin/sh", &program));
    tar.extend([0; 1024]);
    let mut import = engine.command();
    import.args(["import", "--change", r#"ENTRYPOINT ["/standin"]"#, "-", STANDIN]);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context("docker import")?;
    import.stdin.take().context("docker import takes no input")?.write_all(&tar)?;
    anyhow::ensure!(import.wait()?.success(), "docker import failed");
    Ok(())
}

/// One executable file as a ustar entry (POSIX.1-1988): a header of 512 bytes, then the content in blocks of 512.
fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    let mut put = |offset: usize, field: &[u8]| header[offset..offset + field.len()].copy_from_slice(field);
    put(0, name.as_bytes());
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = content.len().next_multiple_of(512) - content.len();
    [&header, content, &vec![0; padding]].concat()
}
