//! Names outside the zone: whole messages to the host's resolvers and back, through a bounded cache.
//!
//! ```text
//! question ──asked──> cache ──fresh──> reply
//!                       │
//!                    flights ──> exchange ──> attempts at upstreams, by routes
//!                 (failures)     (budget,         │
//!                                 standing)       v
//!             cache <── stored <── bailiwick <── records
//! ```
//!
//! One flight per question, however many ask; at most 500 upstream questions a second (a VPC resolver drops what exceeds
//! 1,024 packets per interface); stale answers while nobody upstream answers (RFC 8767). What is stored are the upstream's
//! own records, those that belong to the question, so types unknown here pass unharmed. Nothing is ever asked of ourselves,
//! and a question of ours that comes back by way of others is refused.

pub mod addresses;
mod asked;
mod attempt;
mod bailiwick;
mod budget;
mod cache;
mod exchange;
mod failures;
mod flights;
mod metrics;
mod records;
pub mod resolv_conf;
pub mod routes;
mod standing;
mod stored;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use portolan_runtime::jobs::Jobs;
use tokio::time::Instant;
use tracing::error;

use crate::wire::{Extended, Request, put_question};
use asked::{Asked, Query, Read};
use cache::{Cache, Found};
use exchange::{Exchange, TOTAL, Unanswered};
use failures::{Cause, Failed, Failures, Fallback};
use flights::{Flight, Flights, Landed};
pub use metrics::ForwardMetrics;
use routes::Routes;
use stored::{Stored, refuse};

/// After that long without an upstream answer a stale one is given (RFC 8767 section 5, client response timer).
const STALE_AFTER: Duration = Duration::from_millis(1800);
/// How long a question without a stale answer waits. Longer than the exchange itself takes.
const PATIENCE: Duration = TOTAL.saturating_add(Duration::from_millis(500));

const STALE: Extended = Extended { code: 3, text: "upstream does not answer" };
const STALE_NXDOMAIN: Extended = Extended { code: 19, text: "upstream does not answer" };
const UNREACHABLE: Extended = Extended { code: 22, text: "no upstream resolver answered" };
const REFUSED: Extended = Extended { code: 22, text: "no upstream resolver could answer" };
const FAILED_BEFORE: Extended = Extended { code: 13, text: "it failed a moment ago" };
const OVERLOADED: Extended = Extended { code: 0, text: "too much is asked upstream" };
const NO_UPSTREAM: Extended = Extended { code: 20, text: "no upstream resolver is set" };
const NO_TRANSFER: Extended = Extended { code: 20, text: "transfers are not forwarded" };
const LOOP: Extended = Extended { code: 0, text: "an upstream resolver asks this one" };

/// Asks the upstream resolvers.
pub struct Forwarder {
    jobs: Jobs,
    own: Vec<IpAddr>,
    exchange: Exchange,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    routes: Routes,
    cache: Cache,
    flights: Flights,
    failures: Failures,
    /// That the present routes lead back here was said.
    is_loop_said: bool,
}

/// What the asker of `request` gets when an upstream sends `packet` for it, if that is an answer to it. All that is done
/// with an upstream's octets happens here, so it is what is fuzzed.
pub fn passed_on(request: &Request, packet: &[u8]) -> Option<Vec<u8>> {
    let asked = Asked::new(request.question.as_ref()?, request);
    let id = u16::from_be_bytes(*packet.first_chunk()?);
    let Read::Answer(stored) = Query::new(&asked, None, id).read(packet) else { return None };
    let mut out = Vec::new();
    stored.write(request, None, &mut out);
    Some(out)
}

/// What a question gets.
enum Verdict {
    Fresh(Arc<Stored>),
    Stale(Arc<Stored>),
    Failed(Extended),
}

impl Forwarder {
    /// Asks as `routes` say, leaving out upstreams at an address of `own`.
    pub fn new(jobs: Jobs, routes: &Routes, own: &[IpAddr], metrics: ForwardMetrics) -> Arc<Forwarder> {
        let state = State { routes: routes.without(own), ..State::default() };
        Arc::new(Forwarder { jobs, own: own.to_vec(), exchange: Exchange::new(metrics), state: Mutex::new(state) })
    }

    /// Asks these from now on for names without a suffix of their own: the host's resolvers changed. What is known stays
    /// known, failures are forgotten.
    pub fn set_default(&self, upstreams: &[SocketAddr]) {
        let mut state = self.state();
        state.routes = state.routes.with_default(upstreams).without(&self.own);
        state.failures.clear();
        state.is_loop_said = false;
        self.exchange.standings().keep(|upstream| state.routes.has(upstream));
    }

    /// Writes the reply to `request` into `out` and returns its code. Takes at most five seconds.
    pub async fn forward(self: &Arc<Self>, request: &Request, out: &mut Vec<u8>) -> ResponseCode {
        let Some(question) = &request.question else {
            return refuse(request, ResponseCode::FormErr, None, out);
        };
        if matches!(question.record_type, RecordType::AXFR | RecordType::IXFR) {
            return refuse(request, ResponseCode::Refused, Some(NO_TRANSFER), out);
        }
        let asked = Asked::new(question, request);
        let upstreams = self.state().routes.of(asked.name());
        if upstreams.is_empty() {
            return refuse(request, ResponseCode::Refused, Some(NO_UPSTREAM), out);
        }
        let mut spelled = Vec::with_capacity(asked.octets());
        put_question(question, &mut spelled);
        let metrics = &self.exchange.metrics;
        match self.resolve(&asked, &spelled, &upstreams).await {
            Verdict::Fresh(stored) => stored.write(request, None, out),
            Verdict::Stale(stored) => {
                metrics.stale.inc();
                let is_missing = stored.code() == ResponseCode::NXDomain;
                stored.write(request, Some(if is_missing { STALE_NXDOMAIN } else { STALE }), out)
            }
            Verdict::Failed(why) => {
                metrics.failed.inc();
                refuse(request, ResponseCode::ServFail, Some(why), out)
            }
        }
    }

    async fn resolve(self: &Arc<Self>, asked: &Asked, spelled: &[u8], upstreams: &Arc<[SocketAddr]>) -> Verdict {
        let (stale, flight) = {
            let mut state = self.state();
            let now = Instant::now();
            if state.flights.is_one_of_ours(spelled) {
                return self.looped(&mut state, upstreams);
            }
            let stale = match state.cache.find(asked, now) {
                Found::Fresh(stored) => {
                    self.exchange.metrics.hits.inc();
                    return Verdict::Fresh(stored);
                }
                Found::Stale(stored) => Some(stored),
                Found::Nothing => None,
            };
            if state.failures.find(asked, now).is_some() {
                return stale.map_or(Verdict::Failed(FAILED_BEFORE), Verdict::Stale);
            }
            (stale, self.join(&mut state, asked, upstreams))
        };
        let Some(mut flight) = flight else { return stale.map_or(Verdict::Failed(OVERLOADED), Verdict::Stale) };
        let patience = match stale {
            // Nobody waits for those who have not answered anybody lately; whether they are back shows all the same.
            Some(_) if self.exchange.are_silent(upstreams) => Duration::ZERO,
            Some(_) => STALE_AFTER,
            None => PATIENCE,
        };
        let why = match flight.landed_within(patience).await {
            Some(Ok(stored)) => return Verdict::Fresh(stored),
            Some(Err(Unanswered::OverBudget)) => OVERLOADED,
            Some(Err(Unanswered::Failed(_))) if flight.is_circle() => LOOP,
            Some(Err(Unanswered::Failed(Cause::Refusal))) => REFUSED,
            Some(Err(Unanswered::Failed(Cause::Silence))) | None => UNREACHABLE,
        };
        stale.map_or(Verdict::Failed(why), Verdict::Stale)
    }

    /// A question of ours came back: whoever sent it asks us what we ask it.
    fn looped(&self, state: &mut State, upstreams: &[SocketAddr]) -> Verdict {
        self.exchange.metrics.looped.inc();
        if !std::mem::replace(&mut state.is_loop_said, true) {
            error!(
                "names outside the zone go in a circle: what this node asks {upstreams:?} comes back to it; \
                 let those resolvers send only the zone here, or name others (setting `upstreams`)"
            );
        }
        Verdict::Failed(LOOP)
    }

    /// The flight of that question, started if there is none; `None` when there are too many.
    fn join(self: &Arc<Self>, state: &mut State, asked: &Asked, upstreams: &Arc<[SocketAddr]>) -> Option<Flight> {
        if let Some(flight) = state.flights.of(asked) {
            return Some(flight);
        }
        let (flight, landing) = state.flights.start(asked, Instant::now())?;
        let (forwarder, asked, upstreams) = (self.clone(), asked.clone(), upstreams.clone());
        let spelling = flight.spelling.clone();
        self.jobs.start_work("dns forward", async move {
            let landed = forwarder.exchange.ask(&upstreams, &asked, &spelling).await.map(Arc::new);
            forwarder.land(&asked, &landed);
            landing.send_replace(Some(landed));
        });
        Some(flight)
    }

    fn land(&self, asked: &Asked, landed: &Landed) {
        let mut state = self.state();
        state.flights.end(asked);
        if self.exchange.take_return() {
            state.failures.end_silence();
        }
        match landed {
            Ok(stored) => {
                state.failures.forget(asked);
                state.cache.insert(asked.clone(), stored.clone());
            }
            Err(Unanswered::OverBudget) => {}
            Err(Unanswered::Failed(cause)) => {
                let now = Instant::now();
                let is_known = !matches!(state.cache.find(asked, now), Found::Nothing);
                let fallback = if is_known { Fallback::Stale } else { Fallback::Nothing };
                state.failures.remember(asked, Failed { cause: *cause, fallback }, now);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves maps that are still maps: at the worst an answer is asked for again.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
