//! Tries connections that the registry asks for, so that this node can testify about others that fell silent.
//!
//! A connection is closed at once and no byte is sent on it. One probe at a time, in a job of its own: whoever brings a
//! probe never waits for it, and an answer that nobody takes is dropped. It never tries to reach this node itself, or what
//! no connection of ours may go to: of that it says nothing.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use ipnet::Ipv4Net;
use portolan_core::neighbours::Met;
use portolan_core::reach::may_be_reached;
use portolan_proto::probe::{Probe, ProbeResult};
use portolan_runtime::jobs::Jobs;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a connection may take: longer than a lost SYN, which is sent again after a second.
const CONNECT_MAX: Duration = Duration::from_millis(1_500);
/// How many connections are tried at once: what a registry asks at a time (64 targets and their controls), so that its
/// answer comes within one [`CONNECT_MAX`].
const CONNECTS_AT_ONCE: usize = 68;
/// How many probes wait their turn; of those that come when it is full nothing is known. A registry asks for the next one
/// when it has the answer to the last.
const QUEUED_MAX: usize = 4;

/// Where this node does not try to go.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// The virtual addresses' range.
    pub(crate) range: Ipv4Net,
    /// This node's own addresses.
    pub(crate) own: Vec<IpAddr>,
}

/// Takes probes.
#[derive(Debug, Clone)]
pub(crate) struct Prober {
    asks: mpsc::Sender<Ask>,
}

/// A probe, and where its answer goes.
#[derive(Debug)]
struct Ask {
    probe: Probe,
    answer: mpsc::Sender<ProbeResult>,
}

/// Starts the job.
pub(crate) fn start(jobs: &Jobs, limits: Limits) -> Prober {
    let (asks, mut asked) = mpsc::channel::<Ask>(QUEUED_MAX);
    jobs.start("prober", async move {
        while let Some(Ask { probe, answer }) = asked.recv().await {
            if !answer.is_closed() {
                let result = tried(&probe, &limits).await;
                answer.try_send(result).ok();
            }
        }
    });
    Prober { asks }
}

impl Prober {
    /// Has `probe` tried; the result goes to `answer`. When too many wait already, the result is here at once: nothing.
    pub(crate) fn ask(&self, probe: Probe, answer: mpsc::Sender<ProbeResult>) -> Option<ProbeResult> {
        let nothing = ProbeResult { id: probe.id, met: Vec::new(), is_control_reached: false };
        self.asks.try_send(Ask { probe, answer }).is_err().then_some(nothing)
    }
}

async fn tried(probe: &Probe, limits: &Limits) -> ProbeResult {
    // Controls and targets side by side: a failure counts only for the moment in which a control was reached.
    let places = probe.controls.iter().chain(&probe.targets);
    let connects: Vec<_> = places.map(|place| met(may_try(*place, limits).then_some(*place))).collect();
    let met: Vec<Met> = futures_util::stream::iter(connects).buffered(CONNECTS_AT_ONCE).collect().await;
    let (controls, targets) = met.split_at(probe.controls.len());
    ProbeResult { id: probe.id, met: targets.to_vec(), is_control_reached: controls.contains(&Met::Connected) }
}

/// `None` is a place that is not tried.
async fn met(place: Option<SocketAddr>) -> Met {
    match place {
        Some(place) => connect(place).await,
        None => Met::Nothing,
    }
}

fn may_try(place: SocketAddr, limits: &Limits) -> bool {
    let address = place.ip().to_canonical();
    let is_own = limits.own.iter().any(|own| own.to_canonical() == address);
    place.port() != 0 && !is_own && may_be_reached(address, limits.range)
}

async fn connect(place: SocketAddr) -> Met {
    match timeout(CONNECT_MAX, TcpStream::connect(place)).await {
        Ok(Ok(_)) => Met::Connected,
        Ok(Err(error)) => of_error(&error),
        Err(_) => Met::TimedOut,
    }
}

/// What an error says of the place; one that is this node's own fault, such as no file descriptor left, says nothing.
fn of_error(error: &io::Error) -> Met {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Met::Refused,
        ErrorKind::TimedOut => Met::TimedOut,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Met::Unreachable,
        _ => Met::Nothing,
    }
}

#[cfg(test)]
mod tests;
