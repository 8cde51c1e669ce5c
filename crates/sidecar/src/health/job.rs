//! One check: repeats a probe, and reports its first outcome and every change.

use std::sync::Arc;
use std::time::Duration;

use portolan_core::evidence::Health;
use rand::RngExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::machine::{Machine, Outcome};
use super::{Checked, Method, Plan, grpc, listening, probe};
use crate::docker::state::Input;

/// The first checks of a port follow each other quickly, because somebody waits for the first pass.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// Reading the sockets of a namespace costs little, but not nothing.
const LISTENING_WAIT_MAX: Duration = Duration::from_millis(250);

pub(super) struct Job {
    pub(super) plan: Plan,
    pub(super) serial: u64,
    pub(super) health: Health,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) permits: Arc<Semaphore>,
}

impl Job {
    /// Checks until stopped, or until a port listens: it then passes until its run ends.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.check() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn check(self) {
        let mut machine = Machine::new(self.health);
        let mut reported = None;
        let mut first_wait = FIRST_WAIT;
        let is_listening_check = matches!(self.plan.method, Method::Listening { .. });
        let wait_max = if is_listening_check { LISTENING_WAIT_MAX } else { self.plan.interval };
        loop {
            let outcome = self.probe().await;
            let health = machine.observe(outcome);
            if reported != Some(health) {
                reported = Some(health);
                let checked = Checked { key: self.plan.key.clone(), serial: self.serial, health };
                if self.inputs.send(Input::Checked(checked)).await.is_err() {
                    return;
                }
            }
            if is_listening_check && outcome == Outcome::Passed {
                return;
            }
            let wait = if health == Health::Starting {
                first_wait = (first_wait * 2).min(wait_max);
                first_wait / 2
            } else {
                jittered(self.plan.interval)
            };
            sleep(wait).await;
        }
    }

    async fn probe(&self) -> Outcome {
        // The semaphore is never closed; without a permit the check would run all the same.
        let _permit = self.permits.acquire().await.ok();
        match &self.plan.method {
            Method::Always | Method::Docker(_) => Outcome::Passed,
            Method::Listening { pid } => listening::probe(*pid, self.plan.key.container_port).await,
            Method::Tcp(address) => probe::tcp(*address).await,
            Method::Grpc(address) => grpc::probe(*address).await,
            Method::Http { address, path } => probe::http(*address, path).await,
        }
    }
}

/// Up to a tenth more or less, so that the checks of many containers started at once drift apart.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(0.9..1.1))
}
