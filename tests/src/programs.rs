//! Our own programs, as a user runs them: built once, started in a namespace, watched by their log, killed by process id.
//!
//! Where they come from: `PORTOLAN_BIN` names their folder; without it they are built, in the tests' own profile, because
//! that shares every compiled dependency with the tests.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::janitor::{self, Kind};
use crate::namespace::Namespace;
use crate::wait::{PATIENCE, eventually};
use crate::{parts, report};

/// The folder of compiled things that this test belongs to.
///
/// # Errors
/// When the test does not run from such a folder.
pub fn target_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let holds_tag = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
    let found = program.ancestors().find(holds_tag).or_else(|| program.ancestors().nth(3));
    found.map(Path::to_owned).context("the test runs outside a target folder")
}

/// Where a program of ours is: `portolan`, `portolan-registry`, `portolan-sidecar`.
///
/// # Errors
/// When it cannot be built.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let file = folder.clone().map_err(anyhow::Error::msg)?.join(name);
    anyhow::ensure!(file.exists(), "{} is not there: run `cargo build`", file.display());
    Ok(file)
}

fn build() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("PORTOLAN_BIN") {
        return Ok(PathBuf::from(folder));
    }
    let target = target_folder()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.args(["build", "--workspace", "--bin=portolan", "--bin=portolan-registry", "--bin=portolan-sidecar"]);
    parts::run(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("debug"))
}

/// A running program of ours. Dropped: killed; its log is printed, which the test runner shows when the test fails.
#[derive(Debug)]
pub struct Program {
    name: String,
    node: Arc<Namespace>,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts one of our programs in a namespace. Its log is verbose; it gets no `PORTOLAN_` variable of the caller's.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub fn start(node: &Arc<Namespace>, name: &str, args: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(node, name, args, &[])
    }

    /// As [`Program::start`], with more in its environment.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(
        node: &Arc<Namespace>,
        name: &str,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let file = path(name)?.to_string_lossy().into_owned();
        Self::launch(node, file, args, variables)
    }

    /// Starts any program in a namespace, such as the stand-in, dnsmasq or unbound in the foreground.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_file(node: &Arc<Namespace>, file: &str, args: &[&str]) -> anyhow::Result<Self> {
        Self::launch(node, file.to_owned(), args, &[])
    }

    fn launch(node: &Arc<Namespace>, name: String, args: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let log = janitor::folder(&janitor::unique("log"), Kind::Folder)?.join("log");
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let variables: Vec<_> = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let child = spawn(node, &name, (&args, &variables), &log)?;
        Ok(Program { name, node: node.clone(), args, variables, log, child })
    }

    /// What it was started with: the value of `--NAME=VALUE`.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.args.iter().find_map(|arg| arg.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process id of a sidecar's worker, which its keeper started.
    ///
    /// # Errors
    /// While there is none.
    pub fn worker_pid(&self) -> anyhow::Result<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).context("look for the worker")?;
        let worker =
            children.split_ascii_whitespace().next().with_context(|| format!("{} keeps no worker", self.name))?;
        Ok(worker.parse()?)
    }

    /// The namespace it runs in.
    pub fn node(&self) -> &Arc<Namespace> {
        &self.node
    }

    /// What it has written so far, both streams.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until a line of the log contains `text`; gives the line.
    ///
    /// # Errors
    /// When the program ends or 20 s are over.
    pub fn wait_for_line(&mut self, text: &str) -> anyhow::Result<String> {
        let found = eventually(PATIENCE, || {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return Ok(Ok(line.to_owned()));
            }
            match self.child.try_wait() {
                Ok(Some(status)) => Ok(Err(anyhow::anyhow!("{} ended with {status} before {text:?}", self.name))),
                _ => Err(format!("no line of {} contains {text:?}", self.name)),
            }
        });
        found?
    }

    /// Where it listens for `listener`, by its log line `listening listener=http addr=127.0.0.1:8500`.
    ///
    /// # Errors
    /// As [`Program::wait_for_line`].
    pub fn listening(&mut self, listener: &str) -> anyhow::Result<SocketAddr> {
        let line = self.wait_for_line(&format!("listener={listener} "))?;
        let addr = line.split_whitespace().find_map(|word| word.strip_prefix("addr="));
        addr.and_then(|addr| addr.parse().ok()).with_context(|| format!("no address in {line:?}"))
    }

    /// Its exit code, when it has ended; 128 and the signal when one ended it, as a shell says.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn try_ended(&mut self) -> anyhow::Result<Option<i32>> {
        let status = self.child.try_wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(status.map(|status| status.code().unwrap_or(128 + status.signal().unwrap_or(0))))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.try_wait()?.is_none(), "{} has ended", self.name);
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// `kill -9`, and waits for the end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().ok();
        self.child.wait().map(drop).with_context(|| format!("wait for {}", self.name))
    }

    /// Starts it again with the same arguments, after it was killed if it still ran. The log goes on in a new file.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        report::show_log(&self.name, &self.log);
        self.log = janitor::folder(&janitor::unique("log"), Kind::Folder)?.join("log");
        self.child = spawn(&self.node, &self.name, (&self.args, &self.variables), &self.log)?;
        Ok(())
    }

    /// SIGTERM, then waits for the end; gives the exit code.
    ///
    /// # Errors
    /// When it does not end in 20 s.
    pub fn terminate(&mut self) -> anyhow::Result<Option<i32>> {
        self.signal(Signal::TERM)?;
        eventually(PATIENCE, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status.code()),
            other => Err(format!("{} after SIGTERM: {other:?}", self.name)),
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill().ok();
        report::show_log(&self.name, &self.log);
        if let Some(folder) = self.log.parent() {
            fs::remove_dir_all(folder).ok();
        }
    }
}

fn spawn(
    node: &Namespace,
    file: &str,
    (args, variables): (&[String], &[(String, String)]),
    log: &Path,
) -> anyhow::Result<Child> {
    let log = File::create(log)?;
    let mut command = node.command(file);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PORTOLAN_")) {
        command.env_remove(name);
    }
    // A benchmark logs less: `PORTOLAN_TEST_LOG=info`.
    let verbose = || "debug,aws=info,h2=info,hyper=info,hyper_util=info,tower=info".to_owned();
    let level = std::env::var("PORTOLAN_TEST_LOG").unwrap_or_else(|_| verbose());
    let variables = variables.iter().map(|(name, value)| (name, value));
    let command = command.args(args).env("PORTOLAN_LOG", level).env("NO_COLOR", "1").envs(variables);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().with_context(|| format!("start {file}"))
}
