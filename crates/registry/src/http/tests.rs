//! The surface over catalogs made by hand.

mod fixture;
mod streams;
mod waiting;
mod writes;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use futures_util::FutureExt;
use portolan_core::lookup::Zone;
use portolan_core::rules::Word;
use portolan_dns::authority::Ttl;
use portolan_runtime::published::{Publisher, published};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::store::memory::MemoryStore;
use fixture::{FIRST, THEN_MS, key, put};

/// The surface, and how to change what it shows.
struct Setup {
    publisher: Publisher<Catalog>,
    router: Router,
    jobs: Jobs,
}

fn setup(catalog: Catalog) -> Setup {
    let (publisher, reader) = published(catalog);
    let zone = Zone::parse("ecs.internal").unwrap();
    let authority = Authority::new(zone, Ttl::default(), "ip-127-0-0-1.addr.ecs.internal.").unwrap();
    let jobs = Jobs::new();
    let clock = Clock::starting_at(THEN_MS + 90_000);
    let store = Arc::new(MemoryStore::new(THEN_MS));
    let intake = Intake::open(store, clock.now()).now_or_never().unwrap().unwrap();
    let shown = Shown { catalog: reader, authority, link_range: "198.18.0.0/16".parse().unwrap(), clock, ecs: None };
    let router = router(shown, Arc::new(intake), &jobs);
    Setup { publisher, router, jobs }
}

impl Setup {
    async fn get(&self, path: &str) -> Response {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn json(&self, path: &str) -> (StatusCode, Value) {
        let response = self.get(path).await;
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{path}: {body:?}")))
    }

    fn change(&self, change: impl FnOnce(&mut Catalog)) {
        let mut catalog = Catalog::clone(&self.publisher.load());
        change(&mut catalog);
        self.publisher.publish(catalog.into());
    }

    /// Waits until the job that wakes readers has seen the newest catalog.
    async fn settled(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn lists_services_of_all_clusters_or_of_one() {
    let setup = setup(fixture::catalog());
    let names = |value: &Value| -> Vec<String> {
        let services = value["services"].as_array().unwrap().iter();
        services.map(|s| s["dns_name"].as_str().unwrap().to_owned()).collect()
    };
    let (status, all) = setup.json("/api/services").await;
    assert_eq!(status, 200);
    assert_eq!(names(&all), ["es.prod.ecs.internal.", "web.prod.ecs.internal.", "es.test.ecs.internal."]);
    assert_eq!(all["services"][0]["endpoints"]["usable"], 1);
    assert_eq!(all["services"][0]["endpoints"]["draining"], 1);
    assert_eq!(all["services"][0]["virtual_address"], "198.18.7.9");
    assert_eq!(all["services"][0]["ports"], json!(["9200/tcp"]));
    let (_, test) = setup.json("/api/services?cluster=TEST").await;
    assert_eq!(names(&test), ["es.test.ecs.internal."]);
}

#[tokio::test]
async fn shows_a_service_as_scripts_read_it() {
    let setup = setup(fixture::catalog());
    let response = setup.get("/api/services/prod/es").await;
    let header = |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("x-portolan-index"), FIRST.to_string());
    assert_eq!(header("x-portolan-epoch"), "e1");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-content-type-options"), "nosniff");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    assert_eq!(text.matches(r#""state":"usable""#).count(), 1, "{text}");
    assert!(!text.contains('\u{1b}'), "control characters stay escaped: {text}");
    let service: Value = serde_json::from_str(text).unwrap();
    let endpoint = &service["endpoints"][0];
    assert_eq!(endpoint["address"], "10.0.0.5");
    assert_eq!((&endpoint["port"], &endpoint["container_port"]), (&json!(30_001), &json!(9200)));
    assert_eq!(endpoint["since"], "2026-01-02T03:04:05.000Z");
    assert_eq!(endpoint["tags"][0], "<script>\u{1b}[2J");
    assert_eq!(service["link"]["ports"][0], json!({"port": 9200, "container_port": 9200, "protocol": "tcp"}));
}

#[tokio::test]
async fn unknown_names_are_problems_that_say_the_nearest() {
    let setup = setup(fixture::catalog());
    let rows = [
        ("/api/services/prod/ess", 404, "cluster `prod` has no service `ess`; did you mean `es`?"),
        ("/api/services/prodd/es", 404, "no cluster is called `prodd`; did you mean `prod`?"),
        ("/api/services/prod/hidden", 404, "service `hidden.prod` has nothing that may be answered"),
        ("/api/services/prod/a%0ab", 400, "`a\\u{a}b` is not a DNS label"),
        ("/api/services?service=es", 400, "`service` needs `cluster` beside it"),
        ("/api/services?index=x", 400, "`x` is not an index"),
        ("/api/services?wait=5", 400, "`5` is not a time"),
        ("/api/resolve/elasticsearch", 404, "no service is called `elasticsearch`"),
        ("/api/resolve/es", 400, "`es` is in several clusters; say which: es.prod, es.test"),
        ("/api/resolve/wob", 404, "no service is called `wob`; did you mean `web`?"),
        ("/api/resolve/nope.es.prod", 404, "service `es.prod` has nothing called"),
        ("/api/resolve/a..b", 400, "is not a DNS name"),
        ("/api/explain/n1.node.prod", 400, "is not a name of a service"),
        ("/api/explain/10.0.0.5", 404, "is an address of node"),
        ("/api/nodes/hst-a", 404, "no node is called `hst-a`; did you mean `host-a`?"),
        ("/api/nodes/host-a", 400, "several nodes are called `host-a`"),
        ("/api/watch?service=es", 400, "`service` needs `cluster` beside it"),
    ];
    for (path, expected, words) in rows {
        let response = setup.get(path).await;
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let (status, problem) = setup.json(path).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == expected && detail.contains(words), "{path}: {status} {problem}");
    }
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_loaded_but_the_status() {
    let setup = setup(Catalog { epoch: "e1".into(), ..Catalog::default() });
    for path in ["/api/services", "/api/services/a/b", "/api/resolve/a.b", "/api/explain/a.b", "/api/nodes"] {
        assert_eq!(setup.json(path).await.0, 503, "{path}");
    }
    for path in ["/api/nodes/a", "/api/events", "/api/watch"] {
        assert_eq!(setup.json(path).await.0, 503, "{path}");
    }
    let (status, body) = setup.json("/api/status").await;
    assert_eq!((status.as_u16(), &body["readiness"]), (200, &json!("loading")));
}

#[tokio::test]
async fn resolves_as_dns_does() {
    let setup = setup(fixture::catalog());
    let (status, found) = setup.json("/api/resolve/es.prod").await;
    assert_eq!(status, 200);
    assert_eq!(found["name"], "es.prod.ecs.internal.");
    assert_eq!((&found["status"], &found["answered_by"]), (&json!("NOERROR"), &json!("registry")));
    assert_eq!(found["addresses"], json!(["10.0.0.5"]), "a registry answers real addresses");
    assert_eq!(found["virtual_address"], Value::Null);
    let record = json!({"priority": 0, "weight": 1, "port": 30_001, "target": "ip-10-0-0-5.addr.ecs.internal.",
        "address": "10.0.0.5", "state": "usable", "node": "n1", "container": "es"});
    assert_eq!(found["srv"], json!([record]));
    let (_, web) = setup.json("/api/resolve/web").await;
    assert_eq!((&web["status"], &web["srv"]), (&json!("NOERROR"), &json!([])), "known, without endpoints");
    let (_, pointer) = setup.json("/api/resolve/198.18.7.9").await;
    assert_eq!(pointer["pointers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn answers_the_next_best_and_says_so() {
    let setup = setup(fixture::catalog());
    setup.change(|catalog| put(catalog, &key("es", "prod"), &[(1, Word::Failing)], FIRST + 1));
    let (_, found) = setup.json("/api/resolve/es.prod").await;
    assert_eq!(found["srv"][0]["state"], "unusable");
    assert!(found["note"].as_str().unwrap().contains("nothing better is left"), "{found}");
}

#[tokio::test]
async fn explains_every_candidate() {
    let setup = setup(fixture::catalog());
    let (status, why) = setup.json("/api/explain/es.prod.ecs.internal").await;
    assert_eq!(status, 200);
    let candidates = why["candidates"].as_array().unwrap();
    let states: Vec<(&str, bool)> =
        candidates.iter().map(|c| (c["state"].as_str().unwrap(), c["is_answered"].as_bool().unwrap())).collect();
    assert_eq!(states, [("usable", true), ("draining", false), ("gone", false)]);
    assert_eq!(candidates[0]["rule_text"], fixture::PASSING.text());
    assert_eq!(candidates[0]["named_by"], "the Compose service");
    let sidecar =
        json!({"witness": "sidecar", "word": "passing", "since": "2026-01-02T03:04:05.000Z", "age_seconds": 90});
    assert_eq!(candidates[0]["witnesses"][0], sidecar);
    assert_eq!(candidates[0]["witnesses"][1]["word"], "not used");
    assert_eq!(candidates[2]["ended"]["exit_code"], 137);
    let (_, hidden) = setup.json("/api/explain/hidden").await;
    assert_eq!(hidden["candidates"][0]["is_refused"], true);
    assert_eq!(hidden["candidates"][0]["refused"][0]["reason"], "holds \\u{1b}]0;x");
    assert_eq!(hidden["refused"][0]["field"], "service");
    let (_, task) = setup.json("/api/explain/00000000000000000000000000000002.es.prod").await;
    assert_eq!(task["candidates"].as_array().unwrap().len(), 1, "{task}");
    assert_eq!(task["candidates"][0]["state"], "draining");
}

#[tokio::test]
async fn explains_what_limits_hold_back_and_which_tasks_stopped() {
    let setup = setup(fixture::catalog());
    setup.change(fixture::hold);
    let (_, why) = setup.json("/api/explain/es.prod").await;
    let first = &why["candidates"][0];
    assert_eq!((&first["is_held"], &why["candidates"][1]["is_held"]), (&json!(true), &json!(false)));
    let told: Vec<_> = first["witnesses"].as_array().unwrap().iter().map(|w| (&w["word"], &w["age_seconds"])).collect();
    let expected = [
        (&json!("passing"), &json!(90)),
        (&json!("listed no longer"), &json!(30)),
        (&json!("not known"), &Value::Null),
        (&json!("drains it"), &json!(10)),
    ];
    assert_eq!(told, expected);
    let container = json!({"name": "es", "exit_code": 1, "reason": "CannotPullContainerError"});
    assert_eq!(why["stopped"][0]["containers"], json!([container]));
    assert_eq!(why["stopped"][0]["reason"], "no image");
    let (_, status) = setup.json("/api/status").await;
    assert_eq!(status["held"], json!({"endpoints": 1, "nodes": 1, "services": 1}));
    let (_, service) = setup.json("/api/services/prod/es").await;
    assert_eq!((&service["ecs"]["desired"], &service["ecs"]["pending"]), (&json!(3), &json!(1)));
    assert_eq!(service["ecs"]["deployments"][0]["rollout_state"], "FAILED");
    let (_, without) = setup.json("/api/services/prod/web").await;
    assert_eq!(without["ecs"], Value::Null);
}

#[tokio::test]
async fn shows_nodes_and_what_runs_there() {
    let setup = setup(fixture::catalog());
    let (_, list) = setup.json("/api/nodes").await;
    let words: Vec<&str> = list["nodes"].as_array().unwrap().iter().map(|n| n["sidecar"].as_str().unwrap()).collect();
    assert_eq!(words, ["speaking", "silent"]);
    assert_eq!(list["nodes"][1]["since"], "2026-01-02T03:04:10.000Z");
    setup.change(|catalog| {
        let mut alone = crate::catalog::NodeStatus::clone(catalog.nodes.get(&fixture::node("n2")).unwrap());
        (alone.has_sidecar, alone.silence, alone.unnamed) = (false, None, 2);
        catalog.nodes.insert(alone.key.clone(), std::sync::Arc::new(alone));
    });
    let (_, list) = setup.json("/api/nodes").await;
    let alone = &list["nodes"][1];
    assert_eq!((&alone["sidecar"], &alone["since"], &alone["unnamed"]), (&json!("none"), &Value::Null, &json!(2)));
    let (status, one) = setup.json("/api/nodes/n1").await;
    assert_eq!(status, 200);
    assert_eq!(one["dns_name"], "n1.node.prod.ecs.internal.");
    assert_eq!(one["endpoints"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn tells_what_changed_and_why() {
    let setup = setup(fixture::catalog());
    setup.change(|catalog| put(catalog, &key("es", "prod"), &[(1, Word::Died)], FIRST + 1));
    setup.change(|catalog| put(catalog, &key("web", "prod"), &[(7, Word::Starting)], FIRST + 2));
    let (_, all) = setup.json("/api/events").await;
    assert_eq!(all["events"].as_array().unwrap().len(), 2);
    assert_eq!(all["complete_after"], FIRST);
    let event = &all["events"][0];
    assert_eq!((&event["from"], &event["to"]), (&json!("usable"), &json!("gone")));
    assert_eq!(event["reason"], "its container ended or was removed: gone, exit code 137, out of memory");
    let (_, later) = setup.json(&format!("/api/events?since={}", FIRST + 1)).await;
    assert_eq!(later["events"].as_array().unwrap().len(), 1);
    assert_eq!((&later["events"][0]["from"], &later["events"][0]["service"]), (&Value::Null, &json!("web")));
    let (_, one) = setup.json("/api/events?cluster=prod&service=es").await;
    assert_eq!(one["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn refuses_other_hosts_and_other_sites_on_its_listener() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let setup = setup(fixture::catalog());
    let listener = portolan_runtime::http::Listener::bind("http", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.addr();
    listener.serve(&setup.jobs, setup.router.clone());
    for (head, expected) in [
        ("GET /api/status HTTP/1.1\r\nHost: localhost", "HTTP/1.1 200 "),
        ("GET /api/status HTTP/1.1\r\nHost: evil.example", "HTTP/1.1 421 "),
        ("POST /api/status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example", "HTTP/1.1 403 "),
        ("POST /api/status HTTP/1.1\r\nHost: localhost", "HTTP/1.1 405 "),
        ("POST /api/drain/nodes/n1 HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example", "HTTP/1.1 403 "),
        ("POST /api/drain/nodes/n1 HTTP/1.1\r\nHost: localhost\r\nOrigin: null", "HTTP/1.1 403 "),
        ("POST /api/drain/nodes/n1 HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-site", "HTTP/1.1 403 "),
        ("POST /api/drain/nodes/n1 HTTP/1.1\r\nHost: evil.example", "HTTP/1.1 421 "),
        ("DELETE /api/drain/nodes/n1 HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:1", "HTTP/1.1 403 "),
        ("PUT /api/external/a/b HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example", "HTTP/1.1 403 "),
        ("DELETE /api/external/a/b HTTP/1.1\r\nHost: localhost", "HTTP/1.1 404 "),
    ] {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(expected), "{head}: {answer}");
    }
}

#[test]
fn the_description_that_is_checked_in_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let fresh = description();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &fresh).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == fresh, "docs/openapi.json is old: UPDATE=1 cargo test -p portolan-registry description renews it");
}
