//! Declared services: follows their names, checks their places, and states where they are whenever that changed.
//!
//! ```text
//! catalog.stated.externals ──> book (what is due) ──> outside (resolvers, connections)
//!                               │  └──────<── answers ──────┘
//!                               └──> statements ──> intake
//! ```
//!
//! A name that nobody can resolve keeps its former addresses and is told as unresolved. Bounds: how much is asked at once,
//! how many names a second, addresses of a name and of a service. When there is more to do than that, it is done later.
//! What a name leads to counts only if it may be announced, so that nobody is led to this machine or to its metadata.

mod book;
mod check;
mod declared;
mod host;
mod outside;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, future};
use imbl::ordmap::DiffItem;
use ipnet::Ipv4Net;
use portolan_core::name::ServiceKey;
use portolan_dns::upstreams::Upstreams;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use rand::RngExt;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::catalog::{Catalog, Stated};
use crate::clock::Clock;
use crate::intake::Intake;
use crate::intake::statement::{ResolvedRecord, Statement};
use book::{Book, Landed, Moment, What, Work};
use host::News;
use outside::{Answers, Network, Outside};

/// Questions and connections under way at once.
const FLIGHTS_MAX: usize = 64;
/// How long to wait after the store did not take a statement.
const STORE_RETRY_WAIT: Duration = Duration::from_secs(1);

/// What the job works with.
#[derive(Debug)]
pub struct External {
    /// Takes what it states.
    pub intake: Arc<Intake>,
    /// Says what is declared.
    pub catalog: Reader<Catalog>,
    /// For when to ask again.
    pub clock: Clock,
    /// The virtual addresses: no name may lead there.
    pub link_range: Ipv4Net,
}

/// Starts the job. It asks `upstreams`.
pub fn start(jobs: &Jobs, external: External, upstreams: &Upstreams) {
    let outside = Arc::new(Network::new(jobs, upstreams));
    let catalog = external.catalog.clone();
    jobs.start("external", Follower::new(external, outside).run(catalog));
}

/// The job.
struct Follower {
    intake: Arc<Intake>,
    clock: Clock,
    outside: Arc<dyn Outside>,
    book: Book,
    seen: Stated,
    flights: FuturesUnordered<BoxFuture<'static, (Work, Landed)>>,
    /// Nothing is stated before.
    store_wait: Option<Instant>,
}

impl Follower {
    fn new(external: External, outside: Arc<dyn Outside>) -> Follower {
        Follower {
            intake: external.intake,
            clock: external.clock,
            outside,
            book: Book::new(external.link_range),
            seen: Stated::default(),
            flights: FuturesUnordered::new(),
            store_wait: None,
        }
    }

    async fn run(mut self, mut catalog: Reader<Catalog>) {
        loop {
            self.look(&catalog.load().stated);
            self.take_off();
            self.state().await;
            let due = self.book.next_due().filter(|_| self.flights.len() < FLIGHTS_MAX);
            // Cancel-safe: what lands is taken out of the flights only when it wins.
            tokio::select! {
                is_open = catalog.changed() => if !is_open {
                    return future::pending().await;
                },
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => self.land(landed),
                () = at(due) => {}
                () = at(self.store_wait) => self.store_wait = None,
            }
            // All that landed meanwhile is stated together.
            while let Some(Some(landed)) = self.flights.next().now_or_never() {
                self.land(landed);
            }
        }
    }

    /// Takes in what is declared now.
    fn look(&mut self, stated: &Stated) {
        let now = self.clock.now().instant;
        for item in self.seen.externals.diff(&stated.externals) {
            match item {
                DiffItem::Add(service, record) | DiffItem::Update { new: (service, record), .. } => {
                    let former = stated.resolved.get(service).map(AsRef::as_ref);
                    self.book.declare(service, (record, former), now);
                }
                DiffItem::Remove(service, _) => self.book.take_back(service),
            }
        }
        for item in self.seen.resolved.diff(&stated.resolved) {
            if let DiffItem::Add(service, _) | DiffItem::Update { new: (service, _), .. } = item
                && !self.book.holds(service)
            {
                self.book.doubt(service);
            }
        }
        (self.seen.externals, self.seen.resolved) = (stated.externals.clone(), stated.resolved.clone());
    }

    /// Begins what is due, as far as there is room.
    fn take_off(&mut self) {
        let now = self.clock.now().instant;
        while self.flights.len() < FLIGHTS_MAX {
            let Some(work) = self.book.take_due(now) else { return };
            let outside = self.outside.clone();
            self.flights.push(
                async move {
                    let landed = match &work.what {
                        What::Resolve(name) => Landed::Resolved(outside.resolve(name).await),
                        What::Check(place) => Landed::Checked { passed: outside.connects(*place).await },
                    };
                    (work, landed)
                }
                .boxed(),
            );
        }
    }

    fn land(&mut self, (work, landed): (Work, Landed)) {
        let moment = Moment { now: self.clock.now().instant, jitter: rand::rng().random_range(0.0..1.0) };
        let news = self.book.land(&work, &landed, moment);
        if let (What::Resolve(name), Landed::Resolved(answers)) = (&work.what, &landed) {
            tell(&work.service, name, answers, news);
        }
    }

    /// States what changed.
    async fn state(&mut self) {
        if self.store_wait.is_some() {
            return;
        }
        let news = self.book.news();
        let statement = |(service, record): &(ServiceKey, Option<ResolvedRecord>)| {
            Statement::Resolved(service.clone(), record.clone())
        };
        match self.intake.state(news.iter().map(statement).collect(), self.clock.now().unix_ms).await {
            Ok(_) => self.book.stated(news),
            Err(error) => {
                warn!("where declared services are cannot be kept: {:#}", anyhow::Error::from(error));
                self.store_wait = Some(Instant::now() + STORE_RETRY_WAIT);
            }
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => future::pending().await,
    }
}

/// For the person who declared it: when a name is lost.
fn tell(service: &ServiceKey, name: &str, answers: &Answers, news: News) {
    match news {
        News::Lost => {
            let reason = match (&answers.v4, &answers.v6) {
                (Err(error), _) | (_, Err(error)) => error.to_string(),
                (Ok(v4), Ok(v6)) if v4.addresses.is_empty() && v6.addresses.is_empty() => {
                    "it has no address".to_owned()
                }
                (Ok(_), Ok(_)) => "it leads to addresses that are not announced".to_owned(),
            };
            warn!(service = %service, host = name, "service `{service}`: `{name}` is not resolved: {reason}");
        }
        News::Found => info!(service = %service, host = name, "service `{service}`: `{name}` is resolved again"),
        News::Nothing => {}
    }
}
