//! Keeps the view that this node leads by: what the registry told, as far as it is still good.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use portolan_core::view::View;
use portolan_runtime::published::{Publisher, Reader};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::debug;

use super::ask::ask;
use super::ledger::{Ledger, Question};
use crate::subscription::Provenance;

/// How often is looked who has to be asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many nodes are asked at once. Two thousand nodes that do not answer take as long as a lease.
const ASKED_AT_ONCE: usize = 128;
/// How many addresses of a node are tried.
const ADDRESSES_MAX: usize = 2;

/// Keeps it, for ever. Owners are asked on `port`; 0: none is asked, and leases end.
pub(crate) async fn keep(
    (mut told, provenance): (Reader<View>, watch::Receiver<Provenance>),
    (mut ledger, port): (Ledger, u16),
    good: Publisher<View>,
) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let room = Arc::new(Semaphore::new(ASKED_AT_ONCE));
    let mut asking = FuturesUnordered::new();
    loop {
        let (view, now) = (told.load(), Instant::now());
        ledger.look(&view, age(provenance.borrow().current_at_ms), now);
        if port != 0 {
            for question in ledger.due(&view, now) {
                asking.push(asked(question, (view.clone(), port), room.clone()));
            }
        }
        let next = ledger.apply(&view, now);
        let before = good.load();
        // Of a view that is changed here at every look, only another one is news.
        if !Arc::ptr_eq(&before, &next) && (Arc::ptr_eq(&view, &next) || *before != *next) {
            good.publish(next);
        }
        let deadline = ledger.deadline(now);
        // Cancel-safe: each branch only waits, and what is asked stays in its place.
        tokio::select! {
            is_open = told.changed() => if !is_open {
                return;
            },
            Some((question, owned, asked_at)) = asking.next(), if !asking.is_empty() => {
                ledger.answered(&question, owned.as_deref(), asked_at);
            }
            () = sleep_until(deadline.unwrap_or(now)), if deadline.is_some() => {}
            _ = tick.tick() => {}
        }
    }
}

/// How long ago that was, by the wall clock; of times to come, no time at all.
fn age(unix_ms: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(unix_ms))
}

async fn asked(
    question: Question,
    (view, port): (Arc<View>, u16),
    room: Arc<Semaphore>,
) -> (Question, Option<Vec<bool>>, Instant) {
    let _permit = room.acquire().await;
    let ports: Vec<_> = question.endpoints.iter().map(|(_, port)| port.clone()).collect();
    let addresses: Vec<IpAddr> = view.nodes.get(&question.node).map(|node| node.addresses.clone()).unwrap_or_default();
    let mut asked_at = Instant::now();
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        asked_at = Instant::now();
        if let Some(owned) = ask(SocketAddr::new(address, port), &ports).await {
            return (question, Some(owned), asked_at);
        }
    }
    debug!(node = %question.node, "node {} cannot be asked who owns its ports", question.node);
    (question, None, asked_at)
}
