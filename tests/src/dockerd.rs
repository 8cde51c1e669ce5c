//! A private Docker engine in a node's network namespace: own data, own sockets, own bridge. It starts in half a second.
//!
//! It shares the machine's cgroups and nothing else. Images come from [`crate::image`]: there is no image registry here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::image;
use crate::janitor::{self, Kind};
use crate::namespace::Namespace;
use crate::parts;
use crate::report;
use crate::wait::{PATIENCE, eventually};

/// How long an engine may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A running engine. Dropped: its containers are killed, it is stopped by its process id, its folder is removed.
#[derive(Debug)]
pub struct Engine {
    node: Arc<Namespace>,
    folder: PathBuf,
    extra_args: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl Engine {
    /// Starts one in `node`, with the stand-in image in it.
    ///
    /// # Errors
    /// When it does not answer in time; its log has been shown.
    pub fn start(node: &Arc<Namespace>) -> anyhow::Result<Arc<Self>> {
        Self::start_with(node, &[])
    }

    /// As [`Engine::start`], with more arguments for dockerd, such as `--userland-proxy=false`.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(node: &Arc<Namespace>, extra_args: &[&str]) -> anyhow::Result<Arc<Self>> {
        let folder = janitor::folder(&janitor::unique("engine"), Kind::Engine)?;
        let extra_args = extra_args.iter().map(|&arg| arg.to_owned()).collect();
        let engine = Engine { node: node.clone(), folder, extra_args, process: Mutex::new(None) };
        engine.launch()?;
        image::load(&engine)?;
        Ok(Arc::new(engine))
    }

    fn launch(&self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let flag = |name: &str, file: &str| format!("--{name}={}", self.folder.join(file).display());
        let child = self
            .node
            .command("dockerd")
            .args([flag("data-root", "data"), flag("exec-root", "exec"), flag("pidfile", "pid")])
            // vfs works on every file system, and the images are small.
            .args(["--storage-driver=vfs", "--host", &self.host()])
            .args(&self.extra_args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        *self.lock() = Some(child);
        let answered = eventually(PATIENCE, || self.docker(&["version", "--format", "{{.Server.Version}}"]));
        answered.map(drop).inspect_err(|_| report::show_log("dockerd", &self.log()))
    }

    /// The Unix socket of its API.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// Its address as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The node that it runs in.
    pub fn node(&self) -> &Arc<Namespace> {
        &self.node
    }

    /// A folder that goes away with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn log(&self) -> PathBuf {
        self.folder.join("dockerd.log")
    }

    /// The docker command line against it, run in its node. An engine that never answers fails the command after two
    /// minutes, so that a test ends by saying which one.
    pub fn command(&self) -> Command {
        let mut command = self.node.command("timeout");
        command
            .args(["--kill-after=5", "120"])
            .arg(parts::find("docker").unwrap_or_else(|| PathBuf::from("docker")))
            .args(["--host", &self.host()])
            .env("DOCKER_CONFIG", self.folder.join("config"))
            .env_remove("DOCKER_HOST");
        command
    }

    /// Runs a docker command to its end; gives what it printed.
    ///
    /// # Errors
    /// As [`parts::run`].
    pub fn docker(&self, args: &[&str]) -> anyhow::Result<String> {
        parts::run(self.command().args(args))
    }

    /// Runs the stand-in in a container to its end (`docker run --rm`); `options` go to docker, `args` to the stand-in.
    ///
    /// # Errors
    /// When either fails: with what they printed.
    pub fn run_once(&self, options: &[&str], args: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command();
        parts::run(command.args(["run", "--rm"]).args(options).arg(image::STANDIN).args(args))
    }

    /// Stops the engine's process where it stands: its socket still takes connections, and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stall(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a stalled engine go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.lock();
        let pid =
            process.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed())).context("no engine runs")?;
        kill_process(pid, signal).context("signal dockerd")
    }

    /// Stops the engine; its containers end with it, unless it was started with `--live-restore`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&self) -> anyhow::Result<()> {
        // A stalled one could not hear the signal.
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)?;
        let Some(mut child) = self.lock().take() else { return Ok(()) };
        let ended = eventually(STOP_PATIENCE, || match child.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(other),
        });
        if ended.is_err() {
            child.kill().context("kill dockerd")?;
            child.wait().context("wait for dockerd")?;
        }
        Ok(())
    }

    /// Starts it again after [`Engine::stop`], with the data it had.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_again(&self) -> anyhow::Result<()> {
        self.launch()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        // A panic elsewhere does not make the process handle wrong.
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.lock().is_some() {
            self.resume().ok();
            let running = self.docker(&["ps", "--quiet"]).unwrap_or_default();
            if !running.is_empty() {
                let mut kill = self.command();
                parts::run(kill.arg("kill").args(running.lines())).ok();
            }
            self.stop().ok();
        }
        janitor::remove(Kind::Engine, &fs::canonicalize(&self.folder).unwrap_or_default().to_string_lossy());
    }
}
