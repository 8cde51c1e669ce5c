//! Writes, over a store and the catalog that follows from it: what they keep, and what they refuse.

use std::time::Duration;

use portolan_core::endpoint::Protocol;
use portolan_core::evidence::{ContainerReport, NodeReport};
use portolan_core::name::Label;
use portolan_core::naming::NameSource;
use portolan_core::view::LinkMode;
use portolan_proto::node_report;
use tokio::sync::watch;

use super::*;
use crate::catalog::{self, Catalog};
use crate::intake::statement::{ExternalEndpoint, ExternalRecord, Order, OrderRecord, Statement, Target};
use crate::store::evidence::{ClusterRecord, Deployment, ServiceRecord};
use crate::store::record::{self, LinkDecision, LinkRecord, Owner, Presence};
use crate::store::{Key, Store, Transaction};
use crate::testing::{NOW_MS, container, node, range, report, service};

const TASK: &str = "0123456789abcdef0123456789abcdef";

/// The surface over a real catalog.
struct World {
    store: Arc<MemoryStore>,
    intake: Arc<Intake>,
    catalog: Reader<Catalog>,
    router: Router,
}

impl World {
    async fn new() -> World {
        let (store, jobs) = (Arc::new(MemoryStore::new(NOW_MS)), Jobs::new());
        let clock = Clock::starting_at(NOW_MS);
        let intake = Arc::new(Intake::open(store.clone(), clock.now()).await.unwrap());
        let (_, confirmed) = watch::channel(true);
        let settings = catalog::Settings { link_range: range(), confirmed };
        let catalog = catalog::start(&jobs, store.clone(), settings);
        let zone = Zone::parse("ecs.internal").unwrap();
        let authority = Authority::new(zone, Ttl::default(), "ip-127-0-0-1.addr.ecs.internal.").unwrap();
        let shown = Shown { catalog: catalog.clone(), authority, link_range: range(), clock, ecs: None };
        let router = router(shown, intake.clone(), &jobs);
        let mut world = World { store, intake, catalog, router };
        world.seen().await;
        world
    }

    /// With node `n1` and a task on it.
    async fn with_a_task() -> World {
        let mut world = World::new().await;
        world.report(&report("n1", vec![task("aa")])).await;
        world
    }

    async fn report(&mut self, report: &NodeReport) {
        let presence = Presence { boot_id: report.boot_id.clone(), since_ms: NOW_MS, silence: None };
        let transaction = Transaction::at(NOW_MS)
            .putting(Key::Node(report.node.clone()), node_report::encode(report))
            .putting(Key::Presence(report.node.clone()), record::encode(&presence));
        self.store.commit(transaction).await.unwrap();
        self.seen().await;
    }

    /// Waits until the catalog has everything that was committed.
    async fn seen(&mut self) {
        let revision = self.store.load().await.unwrap().revision;
        self.catalog.wait_for(|c| c.revision >= revision && c.view.index > 0).await.unwrap();
    }

    async fn revision(&self) -> u64 {
        self.store.load().await.unwrap().revision
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let response = self.router.clone().oneshot(request.unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{path}: {body:?}")))
    }
}

fn task(id: &str) -> ContainerReport {
    let mut container = container(id, "web");
    container.task_id = Some(TASK.to_owned());
    container
}

/// `status field: detail` of a problem.
fn problem((status, body): (u16, Value)) -> String {
    format!("{status} {}: {}", body["field"].as_str().unwrap_or_default(), body["detail"].as_str().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_is_listed_at_once_and_put_back() {
    let world = World::with_a_task().await;
    let (status, order) = world.ask("POST", "/api/drain/nodes/n1", Some(json!({"reason": " kernel \u{1b} "}))).await;
    let expected = json!({"kind": "node", "target": "n1.prod", "order": "drain", "since": "2023-11-14T22:13:20.000Z",
        "reason": "kernel \\u{1b}", "endpoints": 1});
    assert_eq!((status, &order), (200, &expected));
    assert_eq!(world.ask("GET", "/api/drain", None).await.1["orders"], json!([expected]));
    let before = world.revision().await;
    let again = world.ask("POST", "/api/drain/nodes/N1.prod", Some(json!({"reason": "kernel \u{1b}"}))).await;
    assert_eq!((again, world.revision().await), ((200, expected.clone()), before), "what stands is not written again");
    assert_eq!(world.ask("DELETE", "/api/drain/nodes/n1", None).await, (200, expected));
    assert_eq!(world.ask("GET", "/api/drain", None).await.1["orders"], json!([]));
    let gone = problem(world.ask("DELETE", "/api/drain/nodes/n1", None).await);
    assert_eq!(gone, "404 : no such order stands; GET /api/drain lists them");
}

#[tokio::test]
async fn a_drain_outlives_its_node_and_can_be_undone() {
    let mut world = World::with_a_task().await;
    assert_eq!(world.ask("POST", "/api/drain/nodes/n1", None).await.0, 200);
    world.store.commit(Transaction::at(NOW_MS).deleting(Key::Node(node("n1")))).await.unwrap();
    world.seen().await;
    let (_, list) = world.ask("GET", "/api/drain", None).await;
    assert_eq!((&list["orders"][0]["target"], &list["orders"][0]["endpoints"]), (&json!("n1.prod"), &json!(0)));
    assert_eq!(world.ask("DELETE", "/api/drain/nodes/n1", None).await.0, 200);
}

#[tokio::test]
async fn a_task_is_found_by_enough_of_its_id_and_so_is_a_container() {
    let mut world = World::with_a_task().await;
    world.report(&report("n1", vec![task("aa"), container("bb", "db")])).await;
    let arn = format!("arn%3Aaws%3Aecs%3Aeu-west-1%3A123456789012%3Atask%2Fprod%2F{TASK}");
    let container_id = format!("{:0>64}", "bb");
    let rows = [
        (TASK, "task", TASK),
        ("0123456789AB", "task", TASK),
        (arn.as_str(), "task", TASK),
        (container_id.as_str(), "container", container_id.as_str()),
    ];
    for (id, kind, target) in rows {
        let (status, order) = world.ask("POST", &format!("/api/drain/tasks/{id}"), None).await;
        assert_eq!((status, &order["kind"], &order["target"]), (200, &json!(kind), &json!(target)), "{id}");
        assert_eq!(order["endpoints"], 1);
        assert_eq!(world.ask("DELETE", &format!("/api/drain/tasks/{id}"), None).await.0, 200, "{id}");
    }
    let rows = [
        ("0123456789ac", "404 : no task or container has the id `0123456789ac`; did you mean `0123"),
        ("0123456789a", "404 : `0123456789a` is too little of an id"),
        ("000000000000", "400 id: several ids begin with `000000000000`; say which: 0000"),
        ("a%0ab", "404 : `a\\u{a}b` is too little of an id"),
    ];
    for (id, expected) in rows {
        let found = problem(world.ask("POST", &format!("/api/drain/tasks/{id}"), None).await);
        assert!(found.starts_with(expected), "{id}: {found}");
    }
    assert_eq!(world.catalog.load().stated.orders.len(), 0, "an error changes nothing");
}

#[tokio::test]
async fn a_link_is_switched_off_by_its_service_and_on_again() {
    let mut world = World::with_a_task().await;
    let key = service("web");
    let off = "/api/links/prod/web/off";
    let (source, family) = (NameSource::Family, Some(Label::fixed("web")));
    let owner = Owner { source, family, ecs_service: None, since_ms: NOW_MS, empty_since_ms: None };
    world.store.commit(Transaction::at(NOW_MS).putting(Key::Owner(key.clone()), record::encode(&owner))).await.unwrap();
    world.seen().await;
    let found = problem(world.ask("POST", off, None).await);
    assert_eq!(found, "404 : `web.prod` has no link: its name answers its endpoints' addresses already");
    let (mode, address) = (LinkMode::Vip, Some([198, 18, 0, 9].into()));
    let link = LinkRecord { mode, decided_by: LinkDecision::Auto, address, since_ms: NOW_MS };
    world.store.commit(Transaction::at(NOW_MS).putting(Key::Link(key.clone()), record::encode(&link))).await.unwrap();
    world.seen().await;
    let mode = |world: &World| world.catalog.load().view.service(&key).unwrap().link.clone().map(|link| link.mode);
    assert_eq!(mode(&world), Some(LinkMode::Vip));
    let found = problem(world.ask("POST", "/api/links/prod/webb/off", None).await);
    assert_eq!(found, "404 : there is no service `webb.prod`; did you mean `web`?");
    let (status, order) = world.ask("POST", off, Some(json!({"reason": "slow"}))).await;
    assert_eq!((status, &order["order"], &order["target"]), (200, &json!("unlink"), &json!("web.prod")));
    assert_eq!(mode(&world), Some(LinkMode::Direct), "the address stays");
    assert_eq!(world.ask("DELETE", off, None).await.0, 200);
    assert_eq!(mode(&world), Some(LinkMode::Vip));
    assert_eq!(world.ask("DELETE", off, None).await.0, 404);
}

#[tokio::test]
async fn an_eviction_says_why_and_is_more_than_a_drain() {
    let world = World::with_a_task().await;
    let (evict, drain) = (format!("/api/evict/{TASK}"), format!("/api/drain/tasks/{TASK}"));
    for body in [None, Some(json!({})), Some(json!({"reason": " "}))] {
        let found = problem(world.ask("POST", &evict, body).await);
        assert_eq!(found, "400 reason: say why: it is shown wherever the task is missed");
    }
    assert_eq!(world.ask("POST", &drain, None).await.0, 200);
    assert_eq!(world.ask("DELETE", &evict, None).await.0, 404, "it is drained, not evicted");
    let (status, order) = world.ask("POST", &evict, Some(json!({"reason": "serves old data"}))).await;
    assert_eq!((status, &order["order"], &order["reason"]), (200, &json!("evict"), &json!("serves old data")));
    assert_eq!(world.ask("POST", &drain, None).await.0, 409);
    assert_eq!(world.ask("DELETE", &drain, None).await.0, 404, "it is evicted, not drained");
    assert_eq!(world.ask("DELETE", &evict, None).await.0, 200);
    assert_eq!(world.catalog.load().stated.orders.len(), 0);
}

#[tokio::test]
async fn an_id_that_nothing_has_is_told_the_nearest() {
    let mut world = World::with_a_task().await;
    let mut other = report("n1", Vec::new());
    other.node.cluster = Label::fixed("test");
    world.report(&other).await;
    let rows = [
        (
            "POST",
            "/api/drain/nodes/n1",
            "400 cluster: several nodes are called `n1`; name the cluster: n1.prod, n1.test",
        ),
        ("POST", "/api/drain/nodes/n11", "404 : no node is called `n11`; did you mean `n1`?"),
        ("DELETE", "/api/drain/nodes/n11.prod", "404 : no node is called `n11`; did you mean `n1`?"),
        ("POST", "/api/drain/nodes/a_b", "400 id: `a_b` is not a DNS label"),
        ("DELETE", "/api/external/prod/db", "404 : no service `db.prod` is declared"),
    ];
    for (method, path, expected) in rows {
        let found = problem(world.ask(method, path, None).await);
        assert!(found.starts_with(expected), "{method} {path}: {found}");
    }
    assert_eq!(world.ask("POST", "/api/drain/nodes/n1.test", None).await.0, 200);
}

#[tokio::test]
async fn a_body_has_to_say_that_it_is_json() {
    let world = World::with_a_task().await;
    let ask = async |kind: Option<&str>, body: &str| {
        let request = Request::post("/api/drain/nodes/n1");
        let request = kind.into_iter().fold(request, |request, kind| request.header("content-type", kind));
        let response = world.router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        response.status().as_u16()
    };
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application"] {
        assert_eq!(ask(Some(kind), "{}").await, 415, "{kind}");
        assert_eq!(ask(Some(kind), "").await, 415, "{kind}, empty");
    }
    assert_eq!(ask(None, "{}").await, 415);
    assert_eq!(ask(Some("application/json"), "{").await, 400);
    assert_eq!(ask(Some("Application/JSON; charset=utf-8"), "{}").await, 200);
    assert_eq!(ask(None, "").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_declared_service_is_read_as_it_was_written() {
    let world = World::new().await;
    let body = json!({"endpoints": [{"host": "DB.example.com.", "port": 5432}, {"host": "10.0.0.7", "port": 53, "protocol": "udp"}],
        "check": {"tcp": true}, "tags": ["a"], "meta": {"k": "v"}});
    let (status, declared) = world.ask("PUT", "/api/external/prod/db", Some(body.clone())).await;
    let expected = json!({"cluster": "prod", "service": "db", "since": "2023-11-14T22:13:20.000Z",
        "endpoints": [{"host": "db.example.com", "port": 5432, "protocol": "tcp", "weight": 1},
            {"host": "10.0.0.7", "port": 53, "protocol": "udp", "weight": 1}],
        "check": {"tcp": true, "interval": "10s"}, "tags": ["a"], "meta": {"k": "v"}, "places": [], "unresolved": []});
    assert_eq!((status, &declared), (200, &expected));
    assert_eq!(world.ask("GET", "/api/external/prod/db", None).await, (200, expected.clone()));
    let (_, list) = world.ask("GET", "/api/external", None).await;
    assert_eq!((&list["services"][0]["endpoints"], &list["services"][0]["places"]), (&json!(2), &json!(0)));
    let before = world.revision().await;
    assert_eq!(world.ask("PUT", "/api/external/prod/db", Some(body)).await, (200, expected.clone()));
    assert_eq!(world.revision().await, before, "what stands is not written again");
    assert_eq!(world.ask("DELETE", "/api/external/prod/db", None).await, (200, expected));
    let gone = problem(world.ask("GET", "/api/external/prod/db", None).await);
    assert_eq!(gone, "404 : no service `db.prod` is declared");
}

#[tokio::test]
async fn names_that_a_declaration_cannot_have_are_refused() {
    let world = World::new().await;
    let body = || Some(json!({"endpoints": [{"host": "10.0.0.7", "port": 1}]}));
    for (path, expected) in [
        ("addr/db", "400 cluster: `addr` `addr` is reserved"),
        ("prod/node", "400 service: `node` `node` is reserved"),
        ("prod/a_b", "400 service: `a_b` is not a DNS label"),
    ] {
        let found = problem(world.ask("PUT", &format!("/api/external/{path}"), body()).await);
        assert!(found.starts_with(expected), "{path}: {found}");
    }
    let near = world.ask("PUT", "/api/external/prod/db", body()).await;
    assert_eq!(near.0, 200);
    let found = problem(world.ask("GET", "/api/external/prod/dbs", None).await);
    assert_eq!(found, "404 : no service `dbs.prod` is declared; did you mean `db.prod`?");
    let found = problem(world.ask("PUT", "/api/external/prod/none", None).await);
    assert_eq!(found, "400 body: an object is needed: { ... }");
}

#[tokio::test]
async fn no_more_are_taken_than_are_bounded() {
    let mut world = World::with_a_task().await;
    let endpoint = ExternalEndpoint {
        host: "10.0.0.7".to_owned(),
        port: 1,
        protocol: Protocol::Tcp,
        port_name: None,
        weight: 1,
        az: None,
    };
    let record = ExternalRecord {
        endpoints: vec![endpoint],
        check_every_ms: None,
        tags: Vec::new(),
        meta: Vec::new(),
        since_ms: 0,
    };
    let declared = (0..10_000).map(|n| Statement::External(service(&format!("s{n}")), Some(record.clone())));
    let order = OrderRecord { order: Order::Drain, at_ms: 0, reason: String::new() };
    let ordered = (0..10_000).map(|n| Statement::Order(Target::Task(format!("{n:032}")), Some(order.clone())));
    world.intake.state(declared.chain(ordered).collect(), NOW_MS).await.unwrap();
    world.seen().await;
    let body = Some(json!({"endpoints": [{"host": "10.0.0.7", "port": 2}]}));
    assert_eq!(world.ask("PUT", "/api/external/prod/one-more", body.clone()).await.0, 409);
    assert_eq!(world.ask("PUT", "/api/external/prod/s1", body).await.0, 200, "another one's place is not needed");
    assert_eq!(world.ask("POST", "/api/drain/nodes/n1", None).await.0, 409);
    assert_eq!(world.ask("GET", "/api/drain", None).await.1["orders"].as_array().unwrap().len(), 10_000);
}

#[tokio::test]
async fn an_explanation_says_what_operators_ordered_and_why() {
    let world = World::with_a_task().await;
    let operator = async || {
        let (_, why) = world.ask("GET", "/api/explain/web.prod", None).await;
        let witnesses = why["candidates"][0]["witnesses"].as_array().unwrap().clone();
        let said = witnesses.iter().find(|said| said["witness"] == "operator").map(|said| said["word"].clone());
        (why["candidates"][0]["state"].as_str().unwrap().to_owned(), said.unwrap_or_default())
    };
    assert_eq!(operator().await, ("usable".to_owned(), Value::Null));
    world.ask("POST", "/api/drain/nodes/n1", None).await;
    assert_eq!(operator().await, ("draining".to_owned(), json!("drains its node")));
    world.ask("POST", &format!("/api/evict/{TASK}"), Some(json!({"reason": "serves old data"}))).await;
    assert_eq!(operator().await, ("gone".to_owned(), json!("evicted its task: serves old data")));
    world.ask("DELETE", &format!("/api/evict/{TASK}"), None).await;
    assert_eq!(operator().await, ("draining".to_owned(), json!("drains its node")));
    let (_, list) = world.ask("GET", "/api/events", None).await;
    let events = list["events"].as_array().unwrap().iter().filter(|event| event["from"] != json!(null));
    let events: Vec<_> = events.map(|event| event["reason"].as_str().unwrap().to_owned()).collect();
    let evicted = "an operator evicted it: gone, reason: serves old data".to_owned();
    let drained = "an operator drains it: draining".to_owned();
    assert_eq!(events, [drained.clone(), evicted, drained]);
}

fn ecs_service(rollout_state: &str) -> ServiceRecord {
    let deployment = Deployment {
        id: "ecs-svc/1".to_owned(),
        status: "PRIMARY".to_owned(),
        rollout_state: rollout_state.to_owned(),
        reason: String::new(),
        task_definition: "new:1".to_owned(),
        desired: 2,
        running: 0,
        failed: 0,
    };
    let (name, arn) = ("new".to_owned(), "arn".to_owned());
    ServiceRecord { name, arn, desired: 2, running: 0, pending: 2, deployments: vec![deployment] }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_only_ecs_knows_is_explained_and_waited_for() {
    let mut world = World::new().await;
    let explain = "/api/explain/new.prod";
    assert_eq!(world.ask("GET", explain, None).await.0, 404);
    let state = |record| Statement::Service(service("new"), Some(record));
    let cluster = ClusterRecord { arn: "arn".to_owned(), since_ms: NOW_MS };
    let ecs = vec![Statement::Cluster(Label::fixed("prod"), Some(cluster)), state(ecs_service("IN_PROGRESS"))];
    world.intake.state(ecs, NOW_MS).await.unwrap();
    world.seen().await;
    let (status, why) = world.ask("GET", explain, None).await;
    assert_eq!((status, &why["has_ecs"], &why["ecs"]["desired"]), (200, &json!(true), &json!(2)), "{why}");
    let request = Request::get(explain).body(Body::empty()).unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    let index = response.headers()["x-portolan-index"].to_str().unwrap().to_owned();
    let began = tokio::time::Instant::now();
    let waiting = format!("{explain}?index={index}&wait=5m");
    let failed = world.intake.state(vec![state(ecs_service("FAILED"))], NOW_MS);
    let (waited, kept) = tokio::join!(world.ask("GET", &waiting, None), failed);
    kept.unwrap();
    assert_eq!(waited.1["ecs"]["deployments"][0]["rollout_state"], "FAILED");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn lists_of_what_was_said_can_be_waited_for() {
    let world = World::with_a_task().await;
    let index = async |path: &str| {
        let response = world.router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        response.headers()["x-portolan-index"].to_str().unwrap().parse::<u64>().unwrap()
    };
    let began = tokio::time::Instant::now();
    for (list, write, body) in [
        ("/api/drain", "/api/drain/nodes/n1", json!({})),
        ("/api/external", "/api/external/prod/db", json!({"endpoints": [{"host": "10.0.0.7", "port": 1}]})),
        ("/api/external/prod/db", "/api/external/prod/db", json!({"endpoints": [{"host": "10.0.0.7", "port": 2}]})),
    ] {
        let method = if write.contains("drain") { "POST" } else { "PUT" };
        let before = index(list).await;
        let waiting = format!("{list}?index={before}&wait=5m");
        let (after, written) = tokio::join!(index(&waiting), world.ask(method, write, Some(body)));
        assert_eq!(written.0, 200, "{}", written.1);
        assert!(after > before, "{list}");
    }
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn nothing_is_written_before_it_is_loaded() {
    let setup = setup(Catalog { epoch: "e1".into(), ..Catalog::default() });
    for (method, path) in [("POST", "/api/drain/nodes/n1"), ("DELETE", "/api/evict/x"), ("GET", "/api/external")] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        assert_eq!(setup.router.clone().oneshot(request).await.unwrap().status().as_u16(), 503, "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_does_not_show_in_time_says_so() {
    // A catalog that nobody moves on.
    let setup = setup(fixture::catalog());
    let request = Request::post("/api/drain/nodes/n1").body(Body::empty()).unwrap();
    setup.change(|catalog| catalog.revision = 0);
    let response = setup.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 503);
}
