//! Names that containers keep: what the catalog decided is stored, before anybody sees it where that might change.

use portolan_core::name::NodeKey;

use crate::catalog::Catalog;
use crate::store::evidence::NameRecord;
use crate::store::record;
use crate::store::{Expectation, Key, Transaction};

/// How long a container waits for ECS to tell its service, milliseconds (DESIGN section 3).
pub(crate) const NAME_WAIT_MS: u64 = 5_000;
/// How many names one transaction stores.
const NAMES_AT_ONCE: usize = 256;

/// Transactions for the names that can be stored at `now_ms`.
pub(super) fn plan(catalog: &Catalog, now_ms: u64) -> Vec<Transaction> {
    let mut transactions = Vec::new();
    for (node, needs) in &catalog.name_needs {
        let is_due = |since_ms: u64| now_ms.saturating_sub(since_ms) >= NAME_WAIT_MS;
        let late = needs.waiting.iter().filter(|(_, since_ms, _)| is_due(*since_ms));
        let late = late.map(|(id, _, record)| (id, record));
        let names: Vec<_> = needs.given.iter().map(|(id, record)| (id, record)).chain(late).collect();
        let mut made: Vec<_> = names.chunks(NAMES_AT_ONCE).map(|names| store(node, names, now_ms)).collect();
        if let Some(last) = made.pop() {
            made.push(forgetting(last, catalog, node));
        }
        transactions.extend(made);
    }
    transactions
}

/// Where containers come and go, names go as they come: the store holds few of which nobody tells any more.
fn forgetting(transaction: Transaction, catalog: &Catalog, node: &NodeKey) -> Transaction {
    let stale = catalog.stale_names.get(node).map(|ids| ids.as_slice()).unwrap_or_default();
    let keys = stale.iter().take(NAMES_AT_ONCE).map(|id| Key::Name(node.clone(), id.clone()));
    keys.fold(transaction, Transaction::deleting)
}

fn store(node: &NodeKey, names: &[(&String, &NameRecord)], now_ms: u64) -> Transaction {
    names.iter().fold(Transaction::at(now_ms), |made, (id, record)| {
        let key = Key::Name(node.clone(), (*id).clone());
        made.expecting(Expectation::Absent(key.clone())).putting(key, record::encode(*record))
    })
}

/// When the next container has waited long enough, Unix milliseconds.
pub(super) fn next_due_ms(catalog: &Catalog) -> Option<u64> {
    let waiting = catalog.name_needs.values().flat_map(|needs| &needs.waiting);
    waiting.map(|(_, since_ms, _)| since_ms.saturating_add(NAME_WAIT_MS)).min()
}
