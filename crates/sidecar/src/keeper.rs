//! The keeper: the small process that is started first. It starts the sidecar that works, holds duplicates of its sockets, and
//! starts it again if it dies: what came in between waited in the sockets' queues.
//!
//! The worker's end of their talk is its standard input. It dies with its keeper, however that dies.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::sockets::pass::{Message, receive, send};
use crate::sockets::{Duplicates, Sockets, duplicated};

/// In a worker's environment: its keeper's process id.
const KEEPER: &str = "SIDECAR_KEEPER";
/// A worker that lived so long is started again at once.
const LIVED: Duration = Duration::from_secs(10);
/// The first and the longest wait before one that did not.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The exit status of a worker that a signal killed, and that is not started again, is this and the signal's number, as shells have it.
const KILLED: i32 = 128;

/// A worker's keeper.
#[derive(Debug)]
pub struct Keeper {
    stream: UnixStream,
}

/// This process's keeper, if it has one, and the sockets that the worker before left.
///
/// # Errors
/// When the keeper cannot be heard.
pub async fn of_this_process() -> anyhow::Result<Option<(Keeper, Duplicates)>> {
    let Some(keeper) = std::env::var(KEEPER).ok().and_then(|pid| pid.parse::<i32>().ok()) else { return Ok(None) };
    set_parent_process_death_signal(Some(Signal::KILL)).context("die with the keeper")?;
    // It may be dead already.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(keeper) {
        anyhow::bail!("the keeper is gone ({KEEPER} is set by it, and by nobody else)");
    }
    let stream =
        std::os::unix::net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned().context("the keeper's stream")?);
    stream.set_nonblocking(true).context("the keeper's stream")?;
    let stream = UnixStream::from_std(stream).context("the keeper's stream")?;
    match receive(&stream).await.context("hear the keeper")? {
        Some(Message::Sockets(left)) => Ok(Some((Keeper { stream }, left))),
        Some(Message::TakeOver) | None => anyhow::bail!("the keeper said nothing that makes sense"),
    }
}

impl Keeper {
    /// Tells the keeper of the sockets, and of each change of them, for ever.
    pub async fn tell(self, mut held: watch::Receiver<Arc<Duplicates>>) {
        held.mark_changed();
        while held.changed().await.is_ok() {
            let sockets = duplicated(&held.borrow_and_update());
            let told = match sockets {
                Ok(sockets) => send(&self.stream, &Message::Sockets(sockets)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                warn!(
                    "the keeper cannot be told of the sockets, a restart would refuse connections for a moment: {error}"
                );
            }
        }
        std::future::pending().await
    }
}

/// The sockets of `sockets` that somebody left, of both: who serves before counts more than the worker before.
pub fn joined(standby: Duplicates, keeper: Duplicates) -> Sockets {
    let rest =
        keeper.into_iter().filter(|(purpose, _)| standby.iter().all(|(of, _)| of != purpose)).collect::<Vec<_>>();
    Sockets::new(standby.into_iter().chain(rest).collect())
}

/// A worker, and the talk with it.
struct Worker {
    child: Child,
    stream: UnixStream,
    began: Instant,
}

impl Worker {
    /// Starts this program again, with the same arguments.
    async fn start(held: &Duplicates) -> anyhow::Result<Worker> {
        let (stream, theirs) = UnixStream::pair().context("a stream to the worker")?;
        let theirs = OwnedFd::from(theirs.into_std().context("a stream to the worker")?);
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        // What runs, also where its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("portolan-sidecar").args(arguments).env(KEEPER, std::process::id().to_string());
        let child = command.stdin(Stdio::from(theirs)).spawn().context("start the worker")?;
        // Of a worker that is gone by now its end tells.
        send(&stream, &Message::Sockets(duplicated(held)?)).await.ok();
        Ok(Worker { child, stream, began: Instant::now() })
    }

    /// Keeps what it sends until it ends; passes on a request to stop.
    async fn end(&mut self, held: &mut Duplicates, stop: &mut Stop) -> io::Result<ExitStatus> {
        let mut talks = true;
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                message = receive(&self.stream), if talks => match message {
                    Ok(Some(Message::Sockets(sockets))) => *held = sockets,
                    Ok(Some(Message::TakeOver)) => {}
                    Ok(None) | Err(_) => talks = false,
                },
                () = &mut stop.asked, if !stop.was_asked => {
                    stop.was_asked = true;
                    let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
                    if let Some(pid) = pid {
                        kill_process(pid, Signal::TERM)?;
                    }
                }
            }
        }
    }
}

/// A request to stop.
struct Stop {
    asked: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    was_asked: bool,
}

/// Keeps a worker working until it ends by itself, or is asked to. What it ended with.
///
/// # Errors
/// When no worker can be started.
pub async fn run(stop: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> anyhow::Result<ExitCode> {
    let (mut held, mut stop) = (Duplicates::new(), Stop { asked: stop, was_asked: false });
    let mut wait = AGAIN_AFTER.0;
    loop {
        let mut worker = Worker::start(&held).await?;
        let status = worker.end(&mut held, &mut stop).await.context("wait for the worker")?;
        // One that fails before it serves has said why: trying again would hide that.
        let has_served = !held.is_empty();
        if stop.was_asked || status.success() || (status.code().is_some() && !has_served) {
            return Ok(code(status));
        }
        let lived = worker.began.elapsed();
        error!("the worker died ({status}) after {lived:.1?}: its sockets are kept, another one starts");
        if lived >= LIVED {
            wait = AGAIN_AFTER.0;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(AGAIN_AFTER.1),
            () = &mut stop.asked => return Ok(code(status)),
        }
    }
}

fn code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| KILLED + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
