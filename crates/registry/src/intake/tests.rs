mod ecs;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use portolan_core::evidence::NodeReport;
use portolan_core::view::Readiness;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::metrics::Metrics;
use portolan_runtime::published::Reader;

use super::*;
use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::deadlines::Deadlines;
use crate::store::memory::MemoryStore;
use crate::store::{EmbeddedStore, Identity, Snapshot, Watch};
use crate::testing::{NOW_MS, container, died, node, range, report, service};
use crate::{deadlines, presence};

/// A registry without surfaces.
struct Registry {
    jobs: Jobs,
    intake: Arc<Intake>,
    catalog: Reader<Catalog>,
    clock: Clock,
}

impl Registry {
    async fn start(store: Arc<dyn Store>) -> Registry {
        let (jobs, clock) = (Jobs::new(), Clock::starting_at(NOW_MS));
        let intake = Arc::new(Intake::open(store.clone(), clock.now()).await.unwrap());
        let settings = catalog::Settings { link_range: range(), confirmed: intake.confirmed() };
        let catalog = catalog::start(&jobs, store.clone(), settings);
        let steward = steward::Steward { store, catalog: catalog.clone(), link_range: range(), clock };
        steward::start(&jobs, steward);
        presence::start(&jobs, intake.clone(), clock);
        let watched = Deadlines { intake: intake.clone(), catalog: catalog.clone(), clock };
        deadlines::start(&jobs, watched, &Metrics::new("test", "0"));
        Registry { jobs, intake, catalog, clock }
    }

    async fn open(&self, name: &str, boot_id: &str) -> Result<Session, OpenError> {
        let hello = Hello { node: node(name), boot_id: boot_id.to_owned(), bindings: Vec::new() };
        self.intake.open_session(hello, self.clock.now()).await
    }

    async fn send(&self, session: &Session, generation: u64, what: NodeReport) -> Result<u64, ReportError> {
        let report = NodeReport { node: session.node.clone(), session: session.number, generation, ..what };
        self.intake.report(session, node_report::encode(&report).into(), self.clock.now()).await
    }

    /// Waits until `web`'s endpoints have these states.
    async fn eventually(&mut self, states: &[&str]) {
        let is_so = |catalog: &Catalog| {
            let known = catalog.service(&service("web")).and_then(|s| s.known_endpoints().cloned());
            known.is_some_and(|known| known.iter().map(|e| e.state.to_string()).eq(states.iter().copied()))
        };
        let waiting = self.catalog.wait_for(is_so);
        if tokio::time::timeout(Duration::from_secs(3_600), waiting).await.is_err() {
            panic!("{states:?} never came: {:#?}", self.catalog.load().explained);
        }
    }

    async fn stop(self) {
        self.jobs.shut_down();
        self.jobs.finished().await.unwrap();
    }
}

fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(NOW_MS))
}

fn web() -> NodeReport {
    report("i-1", vec![container("a", "web")])
}

#[tokio::test]
async fn takes_a_report_from_the_stream_to_the_view_on_a_real_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let open = || Arc::new(EmbeddedStore::open(&path, NOW_MS, 1).unwrap());
    let mut registry = Registry::start(open()).await;
    let session = registry.open("i-1", "boot").await.unwrap();
    assert_eq!(registry.send(&session, 1, web()).await.unwrap(), 1);
    registry.eventually(&["usable"]).await;
    let catalog = registry.catalog.load();
    assert_eq!(catalog.view.readiness, Readiness::Current, "an empty store has nothing to confirm");
    let link = catalog.service(&service("web")).unwrap().link.clone();
    assert!(link.is_some());
    let index = catalog.view.index;
    registry.stop().await;
    drop(catalog);

    let mut registry = Registry::start(open()).await;
    registry.eventually(&["usable"]).await;
    let catalog = registry.catalog.load();
    assert_eq!(catalog.view.readiness, Readiness::Stale, "nobody has confirmed it");
    assert_eq!(catalog.service(&service("web")).unwrap().link, link);
    assert!(catalog.view.index >= index);
    let again = registry.open("i-1", "boot").await.unwrap();
    assert!(again.number > session.number);
    registry.send(&again, 1, web()).await.unwrap();
    registry.catalog.wait_for(|c| c.view.readiness == Readiness::Current).await.unwrap();
    registry.stop().await;
}

#[tokio::test]
async fn writes_nothing_for_a_report_that_says_nothing_new() {
    let store = memory();
    let registry = Registry::start(store.clone()).await;
    let session = registry.open("i-1", "boot").await.unwrap();
    registry.send(&session, 1, web()).await.unwrap();
    let mut catalog = registry.catalog.clone();
    catalog.wait_for(|c| c.view.services.len() == 1 && c.needs.is_empty()).await.unwrap();
    let revision = store.load().await.unwrap().revision;
    assert_eq!(registry.send(&session, 2, web()).await.unwrap(), 2);
    assert_eq!(store.load().await.unwrap().revision, revision);
    registry.send(&session, 3, report("i-1", vec![died(container("a", "web"), None)])).await.unwrap();
    assert!(store.load().await.unwrap().revision > revision);
}

#[tokio::test(start_paused = true)]
async fn drops_what_is_stale_and_what_is_not_the_sessions() {
    let registry = Registry::start(memory()).await;
    let first = registry.open("i-1", "boot").await.unwrap();
    registry.send(&first, 5, web()).await.unwrap();
    for generation in [5, 4, 0] {
        let result = registry.send(&first, generation, web()).await;
        assert!(matches!(result, Err(ReportError::OldGeneration(_))), "{result:?}");
    }
    let foreign = NodeReport { session: first.number, generation: 6, ..report("i-2", vec![]) };
    let now = registry.clock.now();
    let result = registry.intake.report(&first, node_report::encode(&foreign).into(), now).await;
    assert!(matches!(result, Err(ReportError::Foreign)));
    let other_boot = NodeReport { boot_id: "other".into(), ..web() };
    assert!(matches!(registry.send(&first, 6, other_boot).await, Err(ReportError::Foreign)));
    let garbage = registry.intake.report(&first, Bytes::from_static(b"\xff\xff"), now).await;
    assert!(matches!(garbage, Err(ReportError::Decode(_))));
    let long = registry.intake.report(&first, vec![0; REPORT_BYTES_MAX + 1].into(), now).await;
    assert!(matches!(long, Err(ReportError::TooLong(_))));
    // The same boot connects again: the newer session counts, its generations begin anew.
    let second = registry.open("i-1", "boot").await.unwrap();
    assert!(matches!(registry.send(&first, 7, web()).await, Err(ReportError::SessionOver)));
    assert_eq!(registry.intake.heard(&first, now), Standing::TakenOver);
    assert_eq!(registry.intake.heard(&second, now), Standing::Live);
    assert_eq!(registry.send(&second, 1, web()).await.unwrap(), 1);
    // The end of the former stream says nothing of the node.
    registry.intake.end_session(&first, now).await.unwrap();
    assert!(registry.catalog.load().nodes.get(&node("i-1")).is_none_or(|n| n.silence.is_none()));
}

#[tokio::test(start_paused = true)]
async fn leaves_a_key_with_the_machine_that_holds_it() {
    let registry = Registry::start(memory()).await;
    let first = registry.open("i-1", "boot").await.unwrap();
    registry.send(&first, 1, web()).await.unwrap();
    let refused = registry.open("i-1", "clone").await;
    assert!(matches!(&refused, Err(OpenError::Refused(reason)) if reason.contains("another machine")), "{refused:?}");
    assert_eq!(registry.intake.refused()[0].boot_id, "clone");
    assert!(registry.open("i-1", "").await.is_err());
    let reserved = NodeKey { cluster: crate::testing::label("addr"), node: crate::testing::label("x") };
    let hello = Hello { node: reserved, boot_id: "b".into(), bindings: Vec::new() };
    assert!(registry.intake.open_session(hello, registry.clock.now()).await.is_err());
    // Once the holder's stream is gone, the next boot has the key.
    registry.intake.end_session(&first, registry.clock.now()).await.unwrap();
    let next = registry.open("i-1", "clone").await.unwrap();
    let report = NodeReport { boot_id: "clone".into(), ..web() };
    registry.send(&next, 1, report).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn finds_a_stalled_stream_within_five_seconds() {
    let mut registry = Registry::start(memory()).await;
    let session = registry.open("i-1", "boot").await.unwrap();
    registry.send(&session, 1, web()).await.unwrap();
    registry.eventually(&["usable"]).await;
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(registry.intake.heard(&session, registry.clock.now()), Standing::Live);
    }
    let heard = registry.clock.now().unix_ms;
    registry.eventually(&["unverified"]).await;
    let waited = registry.clock.now().unix_ms - heard;
    assert!((5_000..6_000).contains(&waited), "{waited} ms");
    assert_eq!(registry.intake.heard(&session, registry.clock.now()), Standing::Ended, "it may come back at once");
    // It comes back with the same words: they have to be written again as spoken.
    let back = registry.open("i-1", "boot").await.unwrap();
    registry.send(&back, 1, web()).await.unwrap();
    registry.eventually(&["usable"]).await;
}

#[tokio::test(start_paused = true)]
async fn calls_nobody_silent_for_a_stall_of_its_own() {
    let mut registry = Registry::start(memory()).await;
    let session = registry.open("i-1", "boot").await.unwrap();
    registry.send(&session, 1, web()).await.unwrap();
    registry.eventually(&["usable"]).await;
    // Nothing of the program runs meanwhile.
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(registry.intake.heard(&session, registry.clock.now()), Standing::Live);
    registry.eventually(&["usable"]).await;
}

#[tokio::test(start_paused = true)]
async fn expires_nothing_before_nodes_had_the_time_to_connect() {
    let store = memory();
    let mut registry = Registry::start(store.clone()).await;
    let session = registry.open("i-1", "boot").await.unwrap();
    registry.send(&session, 1, web()).await.unwrap();
    registry.eventually(&["usable"]).await;
    registry.stop().await;

    let mut registry = Registry::start(store).await;
    let started = registry.clock.now().unix_ms;
    registry.eventually(&["usable"]).await;
    registry.eventually(&["unverified"]).await;
    let waited = registry.clock.now().unix_ms - started;
    assert!((10_000..11_000).contains(&waited), "{waited} ms");
    registry.catalog.wait_for(|c| c.view.readiness == Readiness::Current).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drops_silent_endpoints_after_ten_minutes_but_never_the_last_one() {
    let mut registry = Registry::start(memory()).await;
    let steady = registry.open("i-0", "boot").await.unwrap();
    let seven = (0..7).map(|i| container(&i.to_string(), "web")).collect();
    registry.send(&steady, 1, report("i-0", seven)).await.unwrap();
    let silent = registry.open("i-1", "boot").await.unwrap();
    let both = vec![container("a", "web"), container("b", "only")];
    registry.send(&silent, 1, report("i-1", both)).await.unwrap();
    registry.eventually(&["usable"; 8]).await;
    let ended = registry.clock.now().unix_ms;
    registry.intake.end_session(&silent, registry.clock.now()).await.unwrap();
    let jobs = registry.jobs.clone();
    let (intake, clock) = (registry.intake.clone(), registry.clock);
    jobs.start("heartbeats", async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(intake.heard(&steady, clock.now()), Standing::Live);
        }
    });
    registry.eventually(&["usable"; 7]).await;
    let waited = registry.clock.now().unix_ms - ended;
    assert!((600_000..603_000).contains(&waited), "{waited} ms");
    let catalog = registry.catalog.load();
    let only = catalog.service(&service("only")).unwrap().known_endpoints().cloned().unwrap();
    assert_eq!(only[0].state.as_str(), "unverified", "the last of its service is kept");
}

#[tokio::test(start_paused = true)]
async fn adopts_virtual_addresses_only_when_its_store_is_empty() {
    let store = memory();
    let registry = Registry::start(store.clone()).await;
    let hello = |address: &str| Hello {
        node: node("i-1"),
        boot_id: "boot".to_owned(),
        bindings: vec![(service("web"), address.parse().unwrap()), (service("db"), "198.18.7.7".parse().unwrap())],
    };
    let session = registry.intake.open_session(hello("198.18.9.9"), registry.clock.now()).await.unwrap();
    registry.send(&session, 1, web()).await.unwrap();
    let mut catalog = registry.catalog.clone();
    let now = catalog.wait_for(|c| c.service(&service("web")).is_some()).await.unwrap();
    let expected = Some("198.18.9.9".parse().unwrap());
    assert_eq!(now.service(&service("web")).unwrap().virtual_address(), expected);
    registry.stop().await;
    let registry = Registry::start(store).await;
    registry.intake.open_session(hello("198.18.1.1"), registry.clock.now()).await.unwrap();
    let mut catalog = registry.catalog.clone();
    let now = catalog.wait_for(|c| c.service(&service("web")).is_some()).await.unwrap();
    assert_eq!(now.service(&service("web")).unwrap().virtual_address(), expected);
}

#[tokio::test(start_paused = true)]
async fn forgets_old_services_also_where_new_ones_come_all_the_time() {
    let (jobs, clock, store) = (Jobs::new(), Clock::starting_at(NOW_MS), memory());
    let intake = Arc::new(Intake::open(store.clone(), clock.now()).await.unwrap());
    let settings = catalog::Settings { link_range: range(), confirmed: intake.confirmed() };
    let catalog = catalog::start(&jobs, store.clone(), settings);
    // Without those who look for silence, so that a month is over at once.
    steward::start(&jobs, steward::Steward { store, catalog: catalog.clone(), link_range: range(), clock });
    let mut registry = Registry { jobs, intake, catalog, clock };
    let session = registry.open("i-1", "boot").await.unwrap();
    registry.send(&session, 1, report("i-1", vec![container("a", "old")])).await.unwrap();
    registry.catalog.wait_for(|c| c.service(&service("old")).is_some()).await.unwrap();
    registry.send(&session, 2, report("i-1", vec![])).await.unwrap();
    let is_empty = |c: &Catalog| {
        let owner = c.explained.get(&service("old")).and_then(|explained| explained.owner.clone());
        owner.is_some_and(|owner| owner.empty_since_ms.is_some())
    };
    registry.catalog.wait_for(is_empty).await.unwrap();
    tokio::time::advance(Duration::from_millis(steward::KEPT_MS - 60_000)).await;
    for (generation, name) in (3..).zip(["b", "c", "d", "e", "f"]) {
        tokio::time::sleep(Duration::from_secs(1_800)).await;
        registry.send(&session, generation, report("i-1", vec![container(name, name)])).await.unwrap();
        registry.catalog.wait_for(|c| c.service(&service(name)).is_some()).await.unwrap();
    }
    assert!(registry.catalog.load().service(&service("old")).is_none());
    registry.stop().await;
}

#[tokio::test(start_paused = true)]
async fn doubts_itself_when_half_of_the_streams_go_at_once() {
    let registry = Registry::start(memory()).await;
    let mut sessions = Vec::new();
    for i in 0..6 {
        sessions.push(registry.open(&format!("i-{i}"), "boot").await.unwrap());
    }
    let now = || registry.clock.now();
    for session in &sessions[..3] {
        registry.intake.end_session(session, now()).await.unwrap();
    }
    assert!(!registry.intake.is_doubtful(now()), "half is not over half");
    registry.intake.end_session(&sessions[3], now()).await.unwrap();
    registry.intake.end_session(&sessions[4], now()).await.unwrap();
    assert!(registry.intake.is_doubtful(now()));
    tokio::time::advance(Duration::from_secs(60)).await;
    let _ = registry.intake.heard(&sessions[5], now());
    assert!(registry.intake.is_doubtful(now()), "one of six is not a third");
    registry.open("i-0", "boot").await.unwrap();
    registry.open("i-1", "boot").await.unwrap();
    assert!(!registry.intake.is_doubtful(now()));
}

/// A store whose disk can be full.
#[derive(Debug)]
struct Full {
    inner: MemoryStore,
    is_full: AtomicBool,
}

impl Store for Full {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }
    fn load(&self) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        self.inner.load()
    }
    fn watch(&self, revision: u64) -> Watch {
        self.inner.watch(revision)
    }
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<u64, CommitError>> {
        if self.is_full.load(Ordering::Relaxed) {
            let source = Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
            let error = StoreError::Io { action: "write".into(), source };
            return std::future::ready(Err(CommitError::Store(error))).boxed();
        }
        self.inner.commit(transaction)
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_reports_and_heals_by_itself() {
    let store = Arc::new(Full { inner: MemoryStore::new(NOW_MS), is_full: AtomicBool::new(false) });
    let mut registry = Registry::start(store.clone()).await;
    let session = registry.open("i-1", "boot").await.unwrap();
    registry.send(&session, 1, web()).await.unwrap();
    registry.eventually(&["usable"]).await;
    store.is_full.store(true, Ordering::Relaxed);
    let ended = report("i-1", vec![died(container("a", "web"), None)]);
    assert!(matches!(registry.send(&session, 2, ended.clone()).await, Err(ReportError::Store(_))));
    registry.eventually(&["usable"]).await;
    store.is_full.store(false, Ordering::Relaxed);
    registry.send(&session, 2, ended).await.unwrap();
    registry.eventually(&[]).await;
}
