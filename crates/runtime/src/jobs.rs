//! Jobs: the only way to start a task. Each has a name, an owner, and an end.
//!
//! A *job* runs as long as the program; if it ends before shutdown the program says so and stops. A *piece of work* (one
//! connection, one request) may end whenever it likes; a panic in it is logged and counted, and ends nothing else.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, error_span};

/// How long jobs may take to end after shutdown was asked for.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// A handle to the program's jobs. Clones are the same owner.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    shutdown: CancellationToken,
    tasks: TaskTracker,
    failure: watch::Sender<Option<Failure>>,
    panics: AtomicU64,
}

/// A job that ended although the program was to go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("job `{job}` {how}")]
pub struct Failure {
    /// Its name.
    pub job: &'static str,
    /// What it did: `ended`, or `panicked: ...`.
    pub how: String,
}

impl Inner {
    /// Runs a job; if it ends before shutdown, the program does.
    async fn supervised(self: Arc<Self>, name: &'static str, job: impl Future<Output = ()>) {
        let how = match AssertUnwindSafe(job).catch_unwind().await {
            Ok(()) if self.shutdown.is_cancelled() => return,
            Ok(()) => "ended".to_owned(),
            Err(panic) => format!("panicked: {}", panic_text(panic.as_ref())),
        };
        error!(job = name, "job `{name}` {how}: the program stops");
        self.failure
            .send_if_modified(|failure| failure.is_none() && failure.replace(Failure { job: name, how }).is_none());
        self.shutdown.cancel();
    }
}

impl Jobs {
    /// An owner with no jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a job. It is dropped at its next await when shutdown is asked for; if it ends before, the program stops.
    pub fn start(&self, name: &'static str, job: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.inner.shutdown.clone();
        self.start_graceful(name, async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = job => {}
            }
        });
    }

    /// Starts a job that watches [`Jobs::shutdown_requested`] itself, to finish something first.
    pub fn start_graceful(&self, name: &'static str, job: impl Future<Output = ()> + Send + 'static) {
        self.spawn(self.inner.clone().supervised(name, job).instrument(error_span!("job", name)));
    }

    /// As [`Jobs::start`], on a thread of its own with a runtime of its own, so that nothing else delays it. What it starts
    /// runs there too. `make` is called on that thread; the job need not be `Send`.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub fn start_thread<J: Future<Output = ()>>(
        &self,
        name: &'static str,
        make: impl FnOnce() -> J + Send + 'static,
    ) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (inner, counted) = (self.inner.clone(), self.inner.tasks.token());
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let shutdown = inner.shutdown.clone();
            let job = async move {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    () = make() => {}
                }
            };
            runtime.block_on(inner.supervised(name, job).instrument(error_span!("job", name)));
            drop(counted);
        })?;
        Ok(())
    }

    /// Starts a piece of work. The caller bounds how many there are at once. It is dropped at its next await when shutdown
    /// is asked for, so what ends because the program ends (the other side of a stream) is not taken for news.
    pub fn start_work(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let inner = self.inner.clone();
        let shutdown = inner.shutdown.clone();
        self.spawn(async move {
            let caught = AssertUnwindSafe(work).catch_unwind();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                result = caught => if let Err(panic) = result {
                    inner.panics.fetch_add(1, Ordering::Relaxed);
                    error!(work = name, "`{name}` panicked: {}", panic_text(panic.as_ref()));
                },
            }
        });
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where tasks are started")]
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.inner.tasks.track_future(future));
    }

    /// How many pieces of work panicked.
    pub fn panics(&self) -> u64 {
        self.inner.panics.load(Ordering::Relaxed)
    }

    /// Asks every job to end.
    pub fn shut_down(&self) {
        self.inner.shutdown.cancel();
    }

    /// Waits until no job and no piece of work is left. Cancel-safe.
    pub async fn idle(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Waits until shutdown is asked for. Cancel-safe.
    pub async fn shutdown_requested(&self) {
        self.inner.shutdown.cancelled().await;
    }

    /// Runs until a signal asks to stop, or a job fails; then ends every job.
    ///
    /// # Errors
    /// The first job that ended although it should not have.
    pub async fn run_until_stopped(&self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        tokio::select! {
            () = stop => self.shut_down(),
            () = self.shutdown_requested() => {}
        }
        self.finished().await
    }

    /// Waits for shutdown, then for the jobs, at most five seconds.
    ///
    /// # Errors
    /// The first job that ended although it should not have.
    pub async fn finished(&self) -> Result<(), Failure> {
        self.inner.shutdown.cancelled().await;
        self.inner.tasks.close();
        if tokio::time::timeout(SHUTDOWN_GRACE, self.inner.tasks.wait()).await.is_err() {
            error!("some jobs did not end within {} s of shutdown", SHUTDOWN_GRACE.as_secs());
        }
        self.inner.failure.borrow().clone().map_or(Ok(()), Err)
    }
}

/// Waits for SIGTERM or SIGINT. Signals are caught from this call on, before the first wait: call it before anything is
/// started that has to end in order. Cancel-safe.
pub fn stop_signal() -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let caught = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    Box::pin(async move {
        let [terminate, interrupt] = caught.map(|caught| async {
            match caught {
                Ok(mut signal) => drop(signal.recv().await),
                // Without a handler the signal's default ends the process, which is what was asked.
                Err(_) => std::future::pending().await,
            }
        });
        tokio::select! {
            () = terminate => {}
            () = interrupt => {}
        }
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_ends_stops_the_program_and_is_named() {
        let jobs = Jobs::new();
        jobs.start("waits", std::future::pending());
        jobs.start("ends", async {});
        let failure = jobs.finished().await.unwrap_err();
        assert_eq!((failure.job, failure.how.as_str()), ("ends", "ended"));
    }

    #[tokio::test]
    async fn a_thread_is_a_job_like_others() {
        let jobs = Jobs::new();
        let thread = std::thread::current().id();
        let (told, heard) = tokio::sync::oneshot::channel();
        let waits = move || async move {
            told.send(std::thread::current().id()).ok();
            std::future::pending().await
        };
        jobs.start_thread("waits", waits).unwrap();
        assert_ne!(heard.await.unwrap(), thread);
        jobs.start_thread("panics", || async { panic!("by test") }).unwrap();
        let failure = jobs.finished().await.unwrap_err();
        assert_eq!((failure.job, failure.how.as_str()), ("panics", "panicked: by test"));
        // Both have ended, though one would have waited for ever.
        jobs.idle().await;
    }

    #[tokio::test]
    async fn no_work_goes_on_once_shutdown_was_asked_for() {
        // Often, because which of two things that are ready is taken may be left to chance.
        for _ in 0..100 {
            let jobs = Jobs::new();
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            let (told, mut heard) = tokio::sync::oneshot::channel::<()>();
            jobs.start_work("waits", async move {
                ended.await.ok();
                told.send(()).ok();
            });
            tokio::task::yield_now().await;
            jobs.shut_down();
            end.send(()).ok();
            assert_eq!(jobs.finished().await, Ok(()));
            assert!(heard.try_recv().is_err(), "what ends with the program tells nothing of its own end");
        }
    }

    #[tokio::test]
    async fn work_that_panics_ends_nothing_else() {
        let jobs = Jobs::new();
        jobs.start("waits", std::future::pending());
        jobs.start_work("panics", async { panic!("as the test wants") });
        while jobs.panics() == 0 {
            tokio::task::yield_now().await;
        }
        jobs.shut_down();
        assert_eq!(jobs.finished().await, Ok(()));
    }
}
