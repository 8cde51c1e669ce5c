//! Who waits for what: each reader is woken by its own resource, not by everything that happens (one change among ten
//! thousand services wakes the readers of one).
//!
//! One job compares each catalog with the one before it; maps that share what did not change make that cheap. It also
//! counts the indexes of what has none of its own in the catalog: the lists, the nodes, the explanations. Such an index
//! is at least one higher at each change and never above the store's own, because each change took a commit.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_runtime::published::Reader;
use tokio::sync::watch;

use crate::catalog::{Catalog, Stated};

/// Something that can be waited for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    /// What clients are answered from.
    Services(Scope),
    /// Why, with everything that was refused. Whatever changes there may have made events.
    Explained(Scope),
    /// Every node.
    Nodes,
    /// One node.
    Node(NodeKey),
    /// Every order of an operator.
    Orders,
    /// Every declared service.
    Externals,
    /// One declared service.
    External(ServiceKey),
}

/// Of which services.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// All.
    All,
    /// Those of one cluster.
    Cluster(Label),
    /// One.
    Service(ServiceKey),
}

impl Scope {
    /// Whether `key` is one of them.
    pub(super) fn holds(&self, key: &ServiceKey) -> bool {
        match self {
            Scope::All => true,
            Scope::Cluster(cluster) => &key.cluster == cluster,
            Scope::Service(service) => key == service,
        }
    }
}

/// The topics. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Topics {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: Arc<Catalog>,
    /// Of every topic that has changed since the first catalog, and is still there.
    indexes: HashMap<Topic, u64>,
    /// Of every other topic.
    floor: u64,
    /// Only of what somebody waits for.
    waiting: HashMap<Topic, watch::Sender<()>>,
}

/// Waits for one topic.
#[derive(Debug)]
pub(super) struct Subscription {
    topics: Topics,
    topic: Topic,
    /// Taken only when dropped, so that the last one to leave sees that nobody is left.
    woken: Option<watch::Receiver<()>>,
}

impl Topics {
    /// Takes each new catalog in; ends with its publisher.
    pub(super) async fn follow(self, mut catalog: Reader<Catalog>) {
        loop {
            self.take(catalog.load());
            if !catalog.changed().await {
                return std::future::pending().await;
            }
        }
    }

    /// The index at which `topic` last changed, as far as `catalog` was taken in.
    pub(super) fn index(&self, topic: &Topic, catalog: &Catalog) -> u64 {
        if let Topic::Services(Scope::Service(key)) = topic {
            return catalog.service_index(key);
        }
        let inner = self.locked();
        let counted = inner.indexes.get(topic).copied().unwrap_or(inner.floor);
        // Zero only before the first catalog was taken in, which will count everything at its index.
        if counted == 0 { catalog.view.index } else { counted }
    }

    /// Waits for what happens to `topic` from now on.
    pub(super) fn subscribe(&self, topic: Topic) -> Subscription {
        let mut inner = self.locked();
        let sender = inner.waiting.entry(topic.clone()).or_insert_with(|| watch::channel(()).0);
        let woken = Some(sender.subscribe());
        Subscription { topics: self.clone(), topic, woken }
    }

    /// Takes `catalog` in: counts indexes, wakes who waits.
    pub(super) fn take(&self, catalog: Arc<Catalog>) {
        let mut inner = self.locked();
        let before = std::mem::replace(&mut inner.seen, catalog.clone());
        let index = catalog.view.index;
        if inner.floor == 0 {
            // The first: whatever it holds, nothing of it has changed since, so everything has its index.
            inner.floor = index;
            inner.waiting.values().for_each(|sender| sender.send_replace(()));
            return;
        }
        // Each topic once, however much of it changed: an index must not run ahead of the store's.
        let mut changed: HashMap<Topic, Fate> = HashMap::new();
        for (key, fate) in touched(&before.view.services, &catalog.view.services) {
            changed.insert(Topic::Services(Scope::All), Fate::Stays);
            changed.insert(Topic::Services(Scope::Cluster(key.cluster.clone())), Fate::Stays);
            changed.insert(Topic::Services(Scope::Service(key)), fate);
        }
        for (key, fate) in touched(&before.explained, &catalog.explained) {
            changed.insert(Topic::Explained(Scope::All), Fate::Stays);
            changed.insert(Topic::Explained(Scope::Cluster(key.cluster.clone())), Fate::Stays);
            changed.insert(Topic::Explained(Scope::Service(key)), fate);
        }
        stated(&before.stated, &catalog.stated, &mut changed);
        for (key, fate) in touched(&before.nodes, &catalog.nodes) {
            changed.insert(Topic::Nodes, Fate::Stays);
            changed.insert(Topic::Node(key), fate);
        }
        for (topic, fate) in changed {
            inner.change(topic, index, fate);
        }
        if before.view.readiness != catalog.view.readiness {
            inner.waiting.values().for_each(|sender| sender.send_replace(()));
        }
    }

    /// How many topics somebody waits for.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.locked().waiting.len()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of something that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
}

impl Inner {
    fn change(&mut self, topic: Topic, index: u64, fate: Fate) {
        let told = self.indexes.get(&topic).copied().unwrap_or(self.floor);
        // What changed in nothing that has an index of its own is counted all the same: a commit was needed for it.
        let now = index.max(told + 1);
        if let Some(sender) = self.waiting.get(&topic) {
            sender.send_replace(());
        }
        match fate {
            Fate::Stays => drop(self.indexes.insert(topic, now)),
            Fate::Goes => {
                self.indexes.remove(&topic);
                self.floor = self.floor.max(now);
            }
        }
    }
}

/// What operators and ECS stated. That of ECS is told where a service is explained.
fn stated(before: &Stated, now: &Stated, changed: &mut HashMap<Topic, Fate>) {
    if !touched(&before.orders, &now.orders).is_empty() {
        changed.insert(Topic::Orders, Fate::Stays);
    }
    let declared = touched(&before.externals, &now.externals);
    let resolved = touched(&before.resolved, &now.resolved).into_iter().map(|(key, _)| (key, Fate::Stays));
    for (key, fate) in resolved.chain(declared) {
        changed.insert(Topic::Externals, Fate::Stays);
        changed.insert(Topic::External(key), fate);
    }
    for (key, _) in touched(&before.services, &now.services) {
        changed.entry(Topic::Explained(Scope::Service(key))).or_insert(Fate::Stays);
    }
}

fn touched<K: Ord + Clone, V: PartialEq>(before: &OrdMap<K, V>, now: &OrdMap<K, V>) -> Vec<(K, Fate)> {
    let one = |item: DiffItem<'_, '_, K, V>| match item {
        DiffItem::Add(key, _) => (key.clone(), Fate::Stays),
        DiffItem::Update { new: (key, _), .. } => (key.clone(), Fate::Stays),
        DiffItem::Remove(key, _) => (key.clone(), Fate::Goes),
    };
    before.diff(now).map(one).collect()
}

impl Subscription {
    /// Waits until the topic changed since the last call. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        let is_open = match &mut self.woken {
            Some(woken) => woken.changed().await.is_ok(),
            None => false,
        };
        if !is_open {
            // The program ends; whoever waits is bounded by its own time.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.woken = None;
        let mut inner = self.topics.locked();
        if inner.waiting.get(&self.topic).is_some_and(|sender| sender.receiver_count() == 0) {
            inner.waiting.remove(&self.topic);
        }
    }
}
