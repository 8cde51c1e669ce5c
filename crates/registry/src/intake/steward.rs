//! The steward: stores what the catalog found out about names and links, expecting what the catalog saw, and forgets what
//! nobody needs any more.
//!
//! What it writes comes back by the store's watch, so the catalog itself never writes. When another write came first the
//! catalog will say anew what is needed. There is one; with several registries, the elected one's.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ipnet::Ipv4Net;
use portolan_core::name::ServiceKey;
use portolan_core::view::LinkMode;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::catalog::Catalog;
use crate::catalog::needs::{Need, OwnerNeed, Recorded};
use crate::clock::Clock;
use crate::store::record::{self, AddressRecord, LinkDecision, LinkRecord, Owner};
use crate::store::{CommitError, Expectation, Key, Store, Transaction};

mod addresses;
mod expire;
mod names;

use addresses::Addresses;
pub(crate) use expire::expire;

/// How long a service without endpoints stays known, and how long its address then stays unused, milliseconds: 30 days.
pub const KEPT_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// How many services may be known. More are not recorded, and so not answered.
pub const SERVICES_MAX: usize = 100_000;
/// How many transactions are under way at once.
const AT_ONCE: usize = 256;
/// How often is looked for what is due to be forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How long a name waits for an owner that has nothing left: a task is replaced, or crashes and is started again by ECS,
/// within minutes, and must not find its name gone.
pub const NAME_HELD_MS: u64 = 600_000;
/// How soon is looked again at names that wait.
const NAME_LOOK_MIN: Duration = Duration::from_millis(50);
/// How long to wait after the store failed.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// What the steward works with.
#[derive(Debug)]
pub struct Steward {
    /// Where it writes.
    pub store: Arc<dyn Store>,
    /// What it reads.
    pub catalog: Reader<Catalog>,
    /// The range of the virtual addresses.
    pub link_range: Ipv4Net,
    /// The time that records carry.
    pub clock: Clock,
}

/// Starts the job.
pub fn start(jobs: &Jobs, steward: Steward) {
    jobs.start("steward", run(steward));
}

async fn run(mut steward: Steward) {
    let mut seen = 0;
    let mut expire_at = Instant::now() + EXPIRE_EVERY;
    loop {
        let until = expire_at.min(steward.next_name_due());
        let is_needed = |catalog: &Catalog| !catalog.needs.is_empty() || !catalog.name_needs.is_empty();
        let waiting = steward.catalog.wait_for(|catalog| catalog.revision >= seen && is_needed(catalog));
        let catalog = match timeout_at(until, waiting).await {
            Ok(Some(catalog)) => catalog,
            Ok(None) => return,
            // Names that waited for their owners, or for ECS, become due without any change of the catalog.
            Err(_) => steward.catalog.load(),
        };
        let now_ms = steward.clock.now().unix_ms;
        let mut transactions = plan(&catalog, steward.link_range, now_ms);
        if Instant::now() >= expire_at {
            expire_at = Instant::now() + EXPIRE_EVERY;
            transactions.extend(expire(&catalog, now_ms));
        }
        // Whatever happens, the next look is at a newer catalog, or after a wait: never the same need at once again.
        seen = match commit(&steward, transactions).await {
            Ok(revision) => revision.max(catalog.revision + 1),
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "names and links cannot be stored: {error}");
                tokio::time::sleep(RETRY_WAIT).await;
                catalog.revision
            }
        };
    }
}

impl Steward {
    /// When the next container has waited long enough for its name; never at once again, should its name not be stored.
    fn next_name_due(&self) -> Instant {
        let due_ms = names::next_due_ms(&self.catalog.peek()).unwrap_or(u64::MAX);
        let wait = Duration::from_millis(due_ms.saturating_sub(self.clock.now().unix_ms)).min(EXPIRE_EVERY);
        Instant::now() + wait.max(NAME_LOOK_MIN)
    }
}

/// The newest revision that was committed.
async fn commit(steward: &Steward, transactions: Vec<Transaction>) -> Result<u64, CommitError> {
    let commits = transactions.into_iter().map(|transaction| steward.store.commit(transaction));
    let mut results = futures_util::stream::iter(commits).buffer_unordered(AT_ONCE);
    let mut newest = 0;
    while let Some(result) = results.next().await {
        match result {
            Ok(revision) => newest = newest.max(revision),
            // Another write came first: the catalog takes it in and says what is needed then.
            Err(CommitError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(newest)
}

/// Transactions for all services whose records, and containers whose names, are not what the catalog found out.
pub(crate) fn plan(catalog: &Catalog, range: Ipv4Net, now_ms: u64) -> Vec<Transaction> {
    let mut addresses = Addresses::new(catalog, range, now_ms);
    let mut room = SERVICES_MAX.saturating_sub(catalog.view.services.len());
    let mut transactions = Vec::new();
    for (service, need) in &catalog.needs {
        if is_held(need, now_ms) {
            continue;
        }
        if need.records.owner.is_none() && need.owner.is_some() {
            if room == 0 {
                warn!(service = %service, "service `{service}` is not taken: {SERVICES_MAX} are known already");
                continue;
            }
            room -= 1;
        }
        transactions.push(transaction(service, need, &mut addresses));
    }
    transactions.extend(names::plan(catalog, now_ms));
    transactions
}

/// Whether somebody waits for a name whose owner may come back.
fn is_held(need: &Need, now_ms: u64) -> bool {
    let takes = matches!(need.owner, Some(OwnerNeed::Take(_)));
    let empty_since_ms = need.records.owner.as_ref().and_then(|owner| owner.value.empty_since_ms);
    takes && empty_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) < NAME_HELD_MS)
}

fn transaction(service: &ServiceKey, need: &Need, addresses: &mut Addresses<'_>) -> Transaction {
    let (owner_key, link_key) = (Key::Owner(service.clone()), Key::Link(service.clone()));
    let now_ms = addresses.now_ms;
    let mut made = Transaction::at(now_ms)
        .expecting(expect(&owner_key, need.records.owner.as_ref()))
        .expecting(expect(&link_key, need.records.link.as_ref()));
    let stored = need.records.owner.as_ref().map(|owner| owner.value.clone());
    let owner = match (&need.owner, stored) {
        (Some(OwnerNeed::Take(owner)), _) => Some(Owner { since_ms: now_ms, ..owner.clone() }),
        (Some(OwnerNeed::Emptied), Some(stored)) => Some(Owner { empty_since_ms: Some(now_ms), ..stored }),
        (Some(OwnerNeed::Filled), Some(stored)) => Some(Owner { empty_since_ms: None, ..stored }),
        (Some(OwnerNeed::Emptied | OwnerNeed::Filled) | None, _) => None,
    };
    if let Some(owner) = owner {
        made = made.putting(owner_key, record::encode(&owner));
    }
    let Some((mode, decided_by)) = need.link else { return made };
    let stored = need.records.link.as_ref().and_then(|link| link.value.address);
    let mut link = LinkRecord { mode, decided_by, address: stored, since_ms: now_ms };
    if stored.is_none() && mode == LinkMode::Vip {
        match addresses.give(service) {
            Some((address, former)) => {
                let key = Key::Address(address);
                let given = AddressRecord { service: service.clone(), freed_at_ms: None };
                made = made.expecting(expect(&key, former.as_ref())).putting(key, record::encode(&given));
                link.address = Some(address);
            }
            None => (link.mode, link.decided_by) = (LinkMode::Direct, LinkDecision::Exhausted),
        }
    }
    made.putting(link_key, record::encode(&link))
}

fn expect<T>(key: &Key, recorded: Option<&Recorded<T>>) -> Expectation {
    match recorded {
        Some(recorded) => Expectation::AtRevision(key.clone(), recorded.revision),
        None => Expectation::Absent(key.clone()),
    }
}

#[cfg(test)]
mod tests;
