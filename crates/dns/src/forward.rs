//! Names outside the zone: whole messages to the host's resolvers and back, through a bounded cache.
//!
//! One flight per question, however many ask; at most 500 upstream questions a second (a VPC resolver drops what exceeds
//! 1,024 packets per interface); stale answers while nobody upstream answers (RFC 8767). What is stored are the upstream's
//! own records, unread but for their TTLs, so types unknown here pass unharmed. Nothing is ever asked of ourselves.

pub mod addresses;
mod cache;
mod exchange;
mod packet;
pub mod resolv_conf;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use portolan_runtime::jobs::Jobs;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::wire::{Extended, Request};
use cache::{Cache, Found};
use exchange::{Budget, Unanswered};
use packet::{Asked, Stored};

/// After that long without an upstream answer a stale one is given (RFC 8767 section 5, client response timer).
const STALE_AFTER: Duration = Duration::from_millis(1800);
/// How long a question without a stale answer waits. Longer than the exchange itself takes.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long a failure is remembered (RFC 9520 section 3.2 asks for 1 s to 5 min).
const FAILURE_TTL: Duration = Duration::from_secs(5);
/// Questions under way at once; beyond it, stale or SERVFAIL.
const FLIGHTS_MAX: usize = 256;
/// Remembered failures.
const FAILURES_MAX: usize = 1024;

const STALE: Extended = Extended { code: 3, text: "upstream does not answer" };
const UNREACHABLE: Extended = Extended { code: 22, text: "no upstream resolver answered" };
const NO_UPSTREAM: Extended = Extended { code: 20, text: "no upstream resolver is set" };
const NO_TRANSFER: Extended = Extended { code: 20, text: "transfers are not forwarded" };

type Flight = watch::Receiver<Option<Arc<Stored>>>;

/// Asks the upstream resolvers.
pub struct Forwarder {
    jobs: Jobs,
    own: Vec<IpAddr>,
    state: Mutex<State>,
    metrics: ForwardMetrics,
}

#[derive(Default)]
struct State {
    upstreams: Arc<[SocketAddr]>,
    cache: Cache,
    flights: HashMap<Asked, Flight>,
    failures: HashMap<Asked, Instant>,
    budget: Budget,
}

/// Counts of forwarded questions; clones count together.
#[derive(Debug, Clone, Default)]
pub struct ForwardMetrics {
    hits: Counter,
    sent: Counter,
    stale: Counter,
    failed: Counter,
}

impl ForwardMetrics {
    /// Counters that `registry` shows as `dns_forward_*_total`.
    pub fn new(registry: &mut Registry) -> ForwardMetrics {
        let metrics = ForwardMetrics::default();
        let mut show = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        show("dns_forward_hits", "forwarded questions answered from the cache", &metrics.hits);
        show("dns_forward_sent", "questions sent to an upstream resolver, with retries", &metrics.sent);
        show("dns_forward_stale", "forwarded questions answered with stale records", &metrics.stale);
        show("dns_forward_failed", "forwarded questions that failed", &metrics.failed);
        metrics
    }
}

/// What a question gets.
enum Verdict {
    Fresh(Arc<Stored>),
    Stale(Arc<Stored>),
    Failed,
}

impl Forwarder {
    /// Asks `upstreams` in that order, leaving out those at an address of `own`.
    pub fn new(jobs: Jobs, upstreams: &[SocketAddr], own: &[IpAddr], metrics: ForwardMetrics) -> Arc<Forwarder> {
        let forwarder = Forwarder { jobs, own: own.to_vec(), state: Mutex::default(), metrics };
        forwarder.set_upstreams(upstreams);
        Arc::new(forwarder)
    }

    /// Asks these from now on: the host's resolvers changed. What is known stays known, failures are forgotten.
    pub fn set_upstreams(&self, upstreams: &[SocketAddr]) {
        let upstreams = upstreams.iter().copied().filter(|upstream| !self.own.contains(&upstream.ip())).collect();
        let mut state = self.state();
        state.upstreams = upstreams;
        state.failures.clear();
    }

    /// Writes the reply to `request` into `out` and returns its code. Takes at most six seconds.
    pub async fn forward(self: &Arc<Self>, request: &Request, out: &mut Vec<u8>) -> ResponseCode {
        let Some(question) = &request.question else {
            return packet::refuse(request, ResponseCode::FormErr, None, out);
        };
        if matches!(question.record_type, RecordType::AXFR | RecordType::IXFR) {
            return packet::refuse(request, ResponseCode::Refused, Some(NO_TRANSFER), out);
        }
        if self.state().upstreams.is_empty() {
            return packet::refuse(request, ResponseCode::Refused, Some(NO_UPSTREAM), out);
        }
        match self.resolve(&Asked::new(question, request)).await {
            Verdict::Fresh(stored) => stored.write(request, None, out),
            Verdict::Stale(stored) => {
                self.metrics.stale.inc();
                stored.write(request, Some(STALE), out)
            }
            Verdict::Failed => {
                self.metrics.failed.inc();
                packet::refuse(request, ResponseCode::ServFail, Some(UNREACHABLE), out)
            }
        }
    }

    async fn resolve(self: &Arc<Self>, asked: &Asked) -> Verdict {
        let (stale, flight) = {
            let mut state = self.state();
            let now = Instant::now();
            let stale = match state.cache.find(asked, now) {
                Found::Fresh(stored) => {
                    self.metrics.hits.inc();
                    return Verdict::Fresh(stored);
                }
                Found::Stale(stored) => Some(stored),
                Found::Nothing => None,
            };
            let has_failed = state.failures.get(asked).is_some_and(|until| now < *until);
            (stale, if has_failed { None } else { self.join(&mut state, asked) })
        };
        let patience = if stale.is_some() { STALE_AFTER } else { PATIENCE };
        match flown(flight, patience).await {
            Some(stored) => Verdict::Fresh(stored),
            None => stale.map_or(Verdict::Failed, Verdict::Stale),
        }
    }

    /// The flight of that question, started if there is none; `None` when there are too many.
    fn join(self: &Arc<Self>, state: &mut State, asked: &Asked) -> Option<Flight> {
        // A flight whose sender is gone without a result has crashed: it is replaced.
        let running = state.flights.get(asked).filter(|flight| flight.has_changed().is_ok());
        if let Some(flight) = running {
            return Some(flight.clone());
        }
        if state.flights.len() >= FLIGHTS_MAX {
            state.flights.retain(|_, flight| flight.has_changed().is_ok());
        }
        if state.flights.len() >= FLIGHTS_MAX {
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        state.flights.insert(asked.clone(), receiver.clone());
        let (forwarder, asked) = (self.clone(), asked.clone());
        self.jobs.start_work("dns forward", async move {
            let result = forwarder.fly(&asked).await;
            let stored = result.as_ref().ok().cloned();
            forwarder.land(&asked, result);
            sender.send_replace(stored);
        });
        Some(receiver)
    }

    async fn fly(&self, asked: &Asked) -> Result<Arc<Stored>, Unanswered> {
        let may_send = || {
            let granted = self.state().budget.take(Instant::now());
            self.metrics.sent.inc_by(u64::from(granted));
            granted
        };
        let upstreams = self.state().upstreams.clone();
        exchange::ask(&upstreams, asked, may_send).await.map(Arc::new)
    }

    fn land(&self, asked: &Asked, result: Result<Arc<Stored>, Unanswered>) {
        let mut state = self.state();
        let now = Instant::now();
        state.flights.remove(asked);
        match result {
            Ok(stored) => {
                state.failures.remove(asked);
                state.cache.insert(asked.clone(), stored);
            }
            Err(Unanswered::OverBudget) => {}
            Err(Unanswered::Failed) => {
                if state.failures.len() >= FAILURES_MAX {
                    state.failures.retain(|_, until| now < *until);
                }
                if state.failures.len() < FAILURES_MAX {
                    state.failures.insert(asked.clone(), now + FAILURE_TTL);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves maps that are still maps: at the worst an answer is asked for again.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What a flight brings within `patience`.
async fn flown(flight: Option<Flight>, patience: Duration) -> Option<Arc<Stored>> {
    let mut flight = flight?;
    // The sender is dropped right behind its result, so an error here still may have one.
    timeout(patience, flight.changed()).await.ok()?.ok();
    flight.borrow().clone()
}
