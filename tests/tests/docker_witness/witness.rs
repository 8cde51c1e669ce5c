//! A Docker witness in a lab's node, and ways to wait for what it publishes.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use portolan_core::evidence::{ContainerReport, Health, Phase};
use portolan_core::name::{Label, NodeKey};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use portolan_sidecar::docker::{self, DockerSettings};
use portolan_sidecar::registration::LocalState;
use portolan_tests::container::Container;
use portolan_tests::lab::Lab;
use portolan_tests::wait::{PATIENCE, eventually};
use prometheus_client::registry::Registry;

/// A witness inside the lab's node. Dropped before the lab.
pub(crate) struct Witness {
    pub(crate) reader: Reader<LocalState>,
    jobs: Jobs,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Witness {
    pub(crate) fn start(lab: &Lab) -> anyhow::Result<Self> {
        Self::start_on(lab, lab.engine.socket())
    }

    pub(crate) fn start_on(lab: &Lab, socket: PathBuf) -> anyhow::Result<Self> {
        // The runtime's threads are born inside the node, so checks reach containers as a sidecar's would.
        let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = lab.node.inside(build)??;
        let jobs = Jobs::new();
        let settings = DockerSettings {
            socket,
            node: NodeKey { cluster: Label::fixed("local"), node: Label::fixed("a") },
            addresses: vec![lab.node.addr()],
        };
        let guard = runtime.enter();
        let reader = docker::start(&jobs, settings, &mut Registry::default());
        drop(guard);
        let witness = Witness { reader, jobs, runtime: Some(runtime) };
        witness.until(|state| state.is_complete.then_some(()))?;
        Ok(witness)
    }

    pub(crate) fn until<T>(&self, look: impl FnMut(&LocalState) -> Option<T>) -> anyhow::Result<T> {
        self.until_within(PATIENCE, look)
    }

    pub(crate) fn until_within<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut(&LocalState) -> Option<T>,
    ) -> anyhow::Result<T> {
        let seen = eventually(patience, || {
            let state = self.reader.load();
            look(&state).ok_or(state)
        });
        seen.map_err(|error| anyhow::anyhow!("{}", error.to_string().chars().take(3000).collect::<String>()))
    }

    /// Waits for the newest run of `container` to look so.
    pub(crate) fn until_report<T>(
        &self,
        container: &Container,
        mut look: impl FnMut(&ContainerReport) -> Option<T>,
    ) -> anyhow::Result<T> {
        self.until(|state| look(newest(state, container)?))
    }

    pub(crate) fn until_phase(&self, container: &Container, phase: &Phase) -> anyhow::Result<()> {
        self.until_report(container, |report| (report.phase == *phase).then_some(()))
    }

    pub(crate) fn until_health(&self, container: &Container, health: Health) -> anyhow::Result<()> {
        self.until_report(container, |report| (report.ports.first()?.health == health).then_some(()))
    }

    pub(crate) fn until_died(&self, container: &Container, exit_code: i64) -> anyhow::Result<()> {
        self.until_report(container, |report| match &report.phase {
            Phase::Died(ending) => (ending.exit_code == Some(exit_code)).then_some(()),
            _ => None,
        })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.jobs.shut_down();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

pub(crate) fn newest<'a>(state: &'a LocalState, container: &Container) -> Option<&'a ContainerReport> {
    state.reports.iter().filter(|report| report.id == container.id).max_by_key(|report| report.run)
}

/// A socket before the engine's that passes every call on but the one for events, which it begins to answer and leaves.
pub(crate) fn socket_without_events(lab: &Lab) -> anyhow::Result<PathBuf> {
    let path = lab.engine.folder().join("deaf.sock");
    let (listener, engine) = (UnixListener::bind(&path)?, lab.engine.socket());
    // The threads end with their connections; the last one with the test program.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let engine = engine.clone();
            std::thread::spawn(move || relay(stream, &engine));
        }
    });
    Ok(path)
}

fn relay(mut client: UnixStream, engine: &std::path::Path) -> std::io::Result<()> {
    let mut head = vec![0; 4096];
    let read = client.read(&mut head)?;
    if head[..read].windows(8).any(|octets| octets == b"/events?") {
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        return client.read(&mut head).map(drop);
    }
    let mut upstream = UnixStream::connect(engine)?;
    upstream.write_all(&head[..read])?;
    let (mut up_read, mut client_write) = (upstream.try_clone()?, client.try_clone()?);
    let down = std::thread::spawn(move || {
        std::io::copy(&mut up_read, &mut client_write).ok();
        client_write.shutdown(std::net::Shutdown::Both).ok();
    });
    std::io::copy(&mut client, &mut upstream).ok();
    upstream.shutdown(std::net::Shutdown::Write).ok();
    down.join().ok();
    Ok(())
}

/// From /proc, because the engine may be deaf.
pub(crate) fn pid_of(container: &Container) -> anyhow::Result<u32> {
    let mut pids: Vec<u32> = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) else {
            continue;
        };
        if std::fs::read_to_string(path.join("cgroup")).is_ok_and(|groups| groups.contains(&container.id)) {
            pids.push(pid);
        }
    }
    pids.into_iter().min().context("no process of the container")
}
