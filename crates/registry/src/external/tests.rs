//! The job over a store and a catalog, in a world that says what it is told to. Time is virtual.

mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use portolan_core::endpoint::Protocol;
use portolan_dns::forward::addresses::{Addresses, AddressesError};
use tokio::sync::watch;
use tokio::time::sleep;

use super::*;
use crate::catalog;
use crate::intake::statement::{CheckState, ExternalEndpoint, ExternalRecord};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::testing::{NOW_MS, range, service};

/// Longer than anything that happens at once takes in virtual time.
const A_MOMENT: Duration = Duration::from_millis(1);

/// The world outside.
#[derive(Debug, Default)]
struct Script {
    /// Where names lead, and for how many seconds; of others nobody knows.
    names: Mutex<BTreeMap<String, (Vec<IpAddr>, u64)>>,
    open: Mutex<BTreeSet<SocketAddr>>,
    asked: AtomicUsize,
    connected: AtomicUsize,
    /// How long everything takes.
    delay: Mutex<Duration>,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
}

impl Script {
    fn name(&self, host: &str, addresses: &[&str], ttl_s: u64) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.names.lock().unwrap().insert(host.to_owned(), (addresses, ttl_s));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn begins(&self) -> Duration {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once_max.fetch_max(now, Ordering::SeqCst);
        *self.delay.lock().unwrap()
    }

    fn ends(&self) {
        self.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Outside for Script {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Answers> {
        async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            sleep(self.begins()).await;
            self.ends();
            let Some((all, ttl_s)) = self.names.lock().unwrap().get(host).cloned() else {
                return Answers { v4: Err(AddressesError::Unanswered), v6: Err(AddressesError::Unanswered) };
            };
            let ttl = Duration::from_secs(ttl_s);
            let (v4, v6) = all.into_iter().partition(IpAddr::is_ipv4);
            Answers { v4: Ok(Addresses { addresses: v4, ttl }), v6: Ok(Addresses { addresses: v6, ttl }) }
        }
        .boxed()
    }

    fn connects(&self, place: SocketAddr) -> BoxFuture<'_, bool> {
        async move {
            self.connected.fetch_add(1, Ordering::SeqCst);
            sleep(self.begins()).await;
            self.ends();
            self.open.lock().unwrap().contains(&place)
        }
        .boxed()
    }
}

/// The job, and what it works on.
struct World {
    store: Arc<MemoryStore>,
    intake: Arc<Intake>,
    catalog: Reader<Catalog>,
    clock: Clock,
    script: Arc<Script>,
    jobs: Jobs,
}

impl World {
    async fn new() -> World {
        let (store, jobs) = (Arc::new(MemoryStore::new(NOW_MS)), Jobs::new());
        let clock = Clock::starting_at(NOW_MS);
        let intake = Arc::new(Intake::open(store.clone(), clock.now()).await.unwrap());
        let (_, confirmed) = watch::channel(true);
        let settings = catalog::Settings { link_range: range(), confirmed };
        let catalog = catalog::start(&jobs, store.clone(), settings);
        World { store, intake, catalog, clock, script: Arc::default(), jobs }
    }

    /// With the job running.
    async fn started() -> World {
        let world = World::new().await;
        world.start();
        world
    }

    fn start(&self) {
        let follower = Follower::new(self.external(), self.script.clone());
        self.jobs.start("external", follower.run(self.catalog.clone()));
    }

    fn external(&self) -> External {
        let (intake, catalog) = (self.intake.clone(), self.catalog.clone());
        External { intake, catalog, clock: self.clock, link_range: range() }
    }

    async fn declare(&self, name: &str, record: Option<ExternalRecord>) {
        self.intake.state(vec![Statement::External(service(name), record)], NOW_MS).await.unwrap();
        sleep(A_MOMENT).await;
    }

    /// What is stated of a service: each place as `host=address:port check`, then what is unresolved.
    fn stated(&self, name: &str) -> String {
        let stated = self.catalog.load().stated.resolved.get(&service(name)).cloned();
        let Some(stated) = stated else { return "nothing".to_owned() };
        let check = |check: Option<CheckState>| match check {
            None => "",
            Some(CheckState::Starting) => " starting",
            Some(CheckState::Passing) => " passing",
            Some(CheckState::Failing) => " failing",
        };
        let place = |p: &crate::intake::statement::ResolvedPlace| {
            format!("{}={}{}", p.host, SocketAddr::new(p.address, p.port), check(p.check))
        };
        let places = stated.places.iter().map(place);
        places.chain(stated.unresolved.iter().map(|host| format!("unresolved {host}"))).collect::<Vec<_>>().join(", ")
    }

    async fn revision(&self) -> u64 {
        self.store.load().await.unwrap().revision
    }
}

fn endpoint(host: &str, port: u16) -> ExternalEndpoint {
    ExternalEndpoint { host: host.to_owned(), port, protocol: Protocol::Tcp, port_name: None, weight: 1, az: None }
}

fn record(endpoints: Vec<ExternalEndpoint>, check_every_ms: Option<u64>) -> Option<ExternalRecord> {
    Some(ExternalRecord { endpoints, check_every_ms, tags: Vec::new(), meta: Vec::new(), since_ms: NOW_MS })
}

#[tokio::test(start_paused = true)]
async fn a_name_is_followed_by_its_ttl_and_told_when_it_moves() {
    let world = World::started().await;
    world.script.name("db.test", &["192.0.2.2", "192.0.2.1", "2001:db8::1"], 60);
    world.declare("db", record(vec![endpoint("db.test", 5432), endpoint("10.0.0.7", 1)], None)).await;
    let all = "10.0.0.7=10.0.0.7:1, db.test=192.0.2.1:5432, db.test=192.0.2.2:5432, db.test=[2001:db8::1]:5432";
    assert_eq!(world.stated("db"), all);
    let before = world.revision().await;
    sleep(Duration::from_secs(59)).await;
    assert_eq!(world.script.asked(), 1);
    sleep(Duration::from_secs(8)).await;
    assert_eq!((world.script.asked(), world.revision().await), (2, before), "equal answers are not written");
    world.script.name("db.test", &["192.0.2.3"], 3_600);
    sleep(Duration::from_secs(66)).await;
    assert_eq!(world.stated("db"), "10.0.0.7=10.0.0.7:1, db.test=192.0.2.3:5432");
    world.script.name("db.test", &["192.0.2.4"], 0);
    sleep(Duration::from_secs(331)).await;
    assert_eq!(world.stated("db"), "10.0.0.7=10.0.0.7:1, db.test=192.0.2.4:5432", "a long TTL counts as five minutes");
    let asked = world.script.asked();
    sleep(Duration::from_secs(10)).await;
    let often = world.script.asked() - asked;
    assert!((9..=10).contains(&often), "no TTL counts as a second: {often}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_knows_keeps_its_addresses_and_is_told() {
    let world = World::started().await;
    world.declare("db", record(vec![endpoint("db.test", 1)], None)).await;
    assert_eq!(world.stated("db"), "unresolved db.test");
    world.script.name("db.test", &["192.0.2.1"], 10);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.1:1");
    world.script.names.lock().unwrap().clear();
    sleep(Duration::from_secs(12)).await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.1:1, unresolved db.test");
    let before = world.revision().await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.revision().await, before, "that it is still unknown is no news");
    assert!(world.script.asked() > 10, "it is asked for again and again");
    world.script.name("db.test", &[], 10);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.1:1, unresolved db.test", "nor does a name that is gone");
    world.script.name("db.test", &["127.0.0.1", "192.0.2.2"], 10);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.2:1");
}

#[tokio::test(start_paused = true)]
async fn a_check_passes_at_once_and_fails_after_three() {
    let world = World::started().await;
    let place: SocketAddr = "10.0.0.7:1".parse().unwrap();
    let udp = ExternalEndpoint { protocol: Protocol::Udp, ..endpoint("10.0.0.7", 2) };
    world.declare("db", record(vec![endpoint("10.0.0.7", 1), udp], Some(10_000))).await;
    assert_eq!(world.stated("db"), "10.0.0.7=10.0.0.7:1 starting, 10.0.0.7=10.0.0.7:2");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.stated("db"), "10.0.0.7=10.0.0.7:1 starting, 10.0.0.7=10.0.0.7:2", "it never passed");
    world.script.open.lock().unwrap().insert(place);
    sleep(Duration::from_millis(10_501)).await;
    assert_eq!(world.stated("db"), "10.0.0.7=10.0.0.7:1 passing, 10.0.0.7=10.0.0.7:2");
    world.script.open.lock().unwrap().clear();
    sleep(Duration::from_secs(19)).await;
    assert_eq!(world.stated("db"), "10.0.0.7=10.0.0.7:1 passing, 10.0.0.7=10.0.0.7:2", "two failures are not enough");
    sleep(Duration::from_secs(13)).await;
    assert_eq!(world.stated("db"), "10.0.0.7=10.0.0.7:1 failing, 10.0.0.7=10.0.0.7:2");
    // A shorter interval counts from now on, and no check ends what it did.
    world.declare("db", record(vec![endpoint("10.0.0.7", 1)], Some(1_000))).await;
    let connected = world.script.connected.load(Ordering::SeqCst);
    sleep(Duration::from_secs(3)).await;
    assert!(world.script.connected.load(Ordering::SeqCst) >= connected + 2);
    assert_eq!(world.stated("db"), "10.0.0.7=10.0.0.7:1 failing");
    world.declare("db", record(vec![endpoint("10.0.0.7", 1)], None)).await;
    assert_eq!(world.stated("db"), "10.0.0.7=10.0.0.7:1");
    let connected = world.script.connected.load(Ordering::SeqCst);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.script.connected.load(Ordering::SeqCst), connected);
}

#[tokio::test(start_paused = true)]
async fn what_is_declared_no_more_is_stated_no_more() {
    let world = World::started().await;
    world.script.name("db.test", &["192.0.2.1"], 60);
    world.script.name("other.test", &["192.0.2.9"], 60);
    world.declare("db", record(vec![endpoint("db.test", 1)], None)).await;
    world.declare("db", record(vec![endpoint("db.test", 2), endpoint("other.test", 1)], None)).await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.1:2, other.test=192.0.2.9:1");
    assert_eq!(world.script.asked(), 2, "a name that stays is not asked for anew");
    world.declare("db", None).await;
    assert_eq!(world.stated("db"), "nothing");
    let asked = world.script.asked();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.script.asked(), asked);
    world.declare("db", record(vec![endpoint("db.test", 1)], None)).await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.1:1");
    // As when a declaration was taken back while this registry was down, or its statement crossed the other.
    let orphan = world.catalog.load().stated.resolved[&service("db")].as_ref().clone();
    world.intake.state(vec![Statement::Resolved(service("orphan"), Some(orphan))], NOW_MS).await.unwrap();
    sleep(A_MOMENT).await;
    assert_eq!(world.stated("orphan"), "nothing");
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_it_was() {
    let world = World::new().await;
    world.script.name("db.test", &["192.0.2.1"], 60);
    world.script.open.lock().unwrap().insert("192.0.2.1:1".parse().unwrap());
    let first = world.jobs.clone();
    world.start();
    world.declare("db", record(vec![endpoint("db.test", 1)], Some(10_000))).await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.1:1 passing");
    first.shut_down();
    first.finished().await.unwrap();

    // Another life of the registry, in which nobody answers.
    let jobs = Jobs::new();
    let intake = Arc::new(Intake::open(world.store.clone(), world.clock.now()).await.unwrap());
    let (_, confirmed) = watch::channel(true);
    let settings = catalog::Settings { link_range: range(), confirmed };
    let catalog = catalog::start(&jobs, world.store.clone(), settings);
    let world = World { intake, catalog, jobs, script: Arc::default(), ..world };
    *world.script.delay.lock().unwrap() = Duration::from_secs(2);
    world.start();
    sleep(Duration::from_secs(1)).await;
    let before = world.revision().await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.1:1 passing");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.1:1 passing, unresolved db.test");
    assert_eq!(world.revision().await, before + 1);
    sleep(Duration::from_secs(40)).await;
    assert_eq!(world.stated("db"), "db.test=192.0.2.1:1 failing, unresolved db.test");
}

#[tokio::test(start_paused = true)]
async fn only_so_much_is_under_way_at_once_and_all_gets_its_turn() {
    let world = World::started().await;
    *world.script.delay.lock().unwrap() = Duration::from_secs(1);
    let mut declared = Vec::new();
    for number in 0..1_000 {
        let host = format!("h{number}.test");
        world.script.name(&host, &["192.0.2.1"], 3_600);
        declared.push(Statement::External(service(&format!("s{number}")), record(vec![endpoint(&host, 1)], None)));
    }
    world.intake.state(declared, NOW_MS).await.unwrap();
    sleep(Duration::from_secs(17)).await;
    assert_eq!(world.script.at_once_max.load(Ordering::SeqCst), FLIGHTS_MAX);
    assert_eq!(world.script.asked(), 1_000);
    let resolved = world.catalog.load().stated.resolved.values().filter(|r| !r.places.is_empty()).count();
    assert_eq!(resolved, 1_000);
    assert!(world.revision().await < 100, "what is learned together is written together");
}

#[tokio::test(start_paused = true)]
async fn a_service_has_so_many_addresses_at_the_most() {
    let world = World::started().await;
    let mut endpoints = Vec::new();
    for number in 0..100u16 {
        let host = format!("h{number}.test");
        let addresses: Vec<String> = (0..10).map(|octet| format!("192.0.{number}.{octet}")).collect();
        world.script.name(&host, &addresses.iter().map(String::as_str).collect::<Vec<_>>(), 60);
        endpoints.push(endpoint(&host, 1));
    }
    world.declare("db", record(endpoints, Some(10_000))).await;
    sleep(Duration::from_secs(9)).await;
    assert_eq!(world.catalog.load().stated.resolved[&service("db")].places.len(), declared::PLACES_MAX);
    let connected = world.script.connected.load(Ordering::SeqCst);
    assert!(connected <= 100 * host::ADDRESSES_MAX, "{connected}");
}
