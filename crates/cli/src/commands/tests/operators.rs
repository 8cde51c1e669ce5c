//! What operators say, and what they wait for.

use super::server::serve_and_remember;
use super::*;

const TASK: &str = "0123456789abcdef0123456789abcdef";

/// What a command printed and asked, and how it ended.
async fn said(line: &str, pages: Vec<(&str, Page)>) -> (String, Vec<String>, Result<Verdict, Failure>) {
    let jobs = Jobs::new();
    let pages = pages.into_iter().map(|(path, page)| (path.to_owned(), page)).collect();
    let (addr, asked) = serve_and_remember(&jobs, pages).await;
    let line = format!("portolan --registry http://{addr} {line}");
    let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
    let mut out = Vec::new();
    let mut screen = Screen::new(&mut out, Colour::Never, NOW.parse().unwrap());
    let verdict = Box::pin(run(&arguments, &mut screen)).await;
    let asked = asked.lock().unwrap().clone();
    (String::from_utf8(out).unwrap().replace(&addr.to_string(), "SERVER"), asked, verdict)
}

fn order(kind: &str, target: &str, order: &str, reason: &str) -> Value {
    json!({"kind": kind, "target": target, "order": order, "since": "2026-01-02T03:04:05.000Z", "reason": reason,
        "endpoints": 2})
}

fn external() -> Value {
    json!({"cluster": "prod", "service": "db", "since": "2026-01-02T03:04:05.000Z",
        "endpoints": [{"host": "db.test", "port": 5432, "protocol": "tcp", "weight": 1, "port_name": "sql"},
            {"host": "10.0.0.7", "port": 53, "protocol": "udp", "weight": 1}, {"host": "new.test", "port": 1}],
        "check": {"tcp": true, "interval": "10s"}, "tags": [], "meta": {},
        "places": [{"host": "db.test", "address": "192.0.2.1", "port": 5432, "protocol": "tcp", "check": "failing"},
            {"host": "10.0.0.7", "address": "10.0.0.7", "port": 53, "protocol": "udp", "check": null}],
        "unresolved": ["db.test"]})
}

fn externals() -> Value {
    let of = |cluster: &str| {
        json!({"cluster": cluster, "service": "db", "endpoints": 2, "places": 2, "failing": 1,
            "unresolved": ["db.test"], "since": "2026-01-02T03:04:05.000Z"})
    };
    let mut other = of("test");
    other["service"] = json!("mail");
    json!({"index": 7, "services": [of("prod"), of("test"), other]})
}

#[tokio::test]
async fn orders_are_given_and_taken_back() {
    let node = || Page::json(&order("node", "n1.prod", "drain", "new kernel"));
    let task = || Page::json(&order("task", TASK, "evict", "old"));
    let rows = [
        (
            "drain n1 --reason kernel",
            ("POST /api/drain/nodes/n1", node()),
            r#"POST /api/drain/nodes/n1 {"reason":"kernel"}"#,
            "node n1.prod is drained: 2 endpoints out of answers while anything better is left; open links finish\n",
        ),
        (
            "drain n1.prod",
            ("POST /api/drain/nodes/n1.prod", node()),
            "POST /api/drain/nodes/n1.prod",
            "node n1.prod is drained: 2 endpoints out of answers while anything better is left; open links finish\n",
        ),
        (
            "drain n1 --undo",
            ("DELETE /api/drain/nodes/n1", node()),
            "DELETE /api/drain/nodes/n1",
            "node n1.prod is back; it was drained for 1m30s (new kernel)\n",
        ),
        (
            "drain 0123456789ab",
            ("POST /api/drain/tasks/0123456789ab", task()),
            "POST /api/drain/tasks/0123456789ab",
            "task 0123456789abcdef0123456789abcdef is evicted: 2 endpoints out of every answer\n",
        ),
        (
            "evict 0123456789ab --reason old",
            ("POST /api/evict/0123456789ab", task()),
            r#"POST /api/evict/0123456789ab {"reason":"old"}"#,
            "task 0123456789abcdef0123456789abcdef is evicted: 2 endpoints out of every answer\n",
        ),
        (
            "evict 0123456789ab --undo",
            ("DELETE /api/evict/0123456789ab", task()),
            "DELETE /api/evict/0123456789ab",
            "task 0123456789abcdef0123456789abcdef is back; it was evicted for 1m30s (old)\n",
        ),
    ];
    for (line, page, question, expected) in rows {
        let (out, asked, verdict) = said(line, vec![page]).await;
        assert!(matches!(verdict, Ok(Verdict::Done)), "{line}: {verdict:?}");
        assert_eq!((out.as_str(), asked.as_slice()), (expected, [question.to_owned()].as_slice()), "{line}");
    }
}

#[tokio::test]
async fn a_target_is_looked_for_as_a_node_and_as_a_task() {
    let missing = |what: &str| Page::problem("404 Not Found", what);
    let task = Page::json(&order("task", TASK, "drain", ""));
    let pages = vec![("POST /api/drain/nodes/cafe", missing("no node")), ("POST /api/drain/tasks/cafe", task)];
    let (out, _, verdict) = said("drain cafe", pages).await;
    assert!(verdict.is_ok() && out.starts_with("task 0123"), "{out}");
    let pages = vec![("POST /api/drain/nodes/nn", missing("no node; did you mean `n1`?"))];
    let (_, asked, verdict) = said("drain nn", pages).await;
    let text = verdict.unwrap_err().to_string();
    assert!(text.ends_with("says: no node; did you mean `n1`?; there is no `/api/drain/tasks/nn` \\u{1b}"), "{text}");
    assert_eq!(asked.len(), 2);
    let pages = vec![("POST /api/drain/nodes/nn", Page::problem("503 Service Unavailable", "later"))];
    let (_, asked, verdict) = said("drain nn", pages).await;
    assert!(verdict.unwrap_err().to_string().ends_with("says: later"));
    assert_eq!(asked.len(), 1, "another failure is no answer to what it may be");
}

#[tokio::test]
async fn what_is_ordered_and_declared_is_listed() {
    let orders = json!({"index": 7, "orders": [order("node", "n1.prod", "drain", "new kernel"), order("task", TASK, "evict", "")]});
    let (out, ..) = said("drain", vec![("/api/drain", Page::json(&orders))]).await;
    let expected = "\
ORDER  KIND  OF            FOR    ENDPOINTS  REASON
drain  node  n1.prod       1m30s  2          new kernel
evict  task  0123456789ab  1m30s  2          -
";
    assert_eq!(out, expected);
    let (out, ..) = said("external list", vec![("/api/external", Page::json(&externals()))]).await;
    let expected = "\
SERVICE  CLUSTER  ENDPOINTS  ADDRESSES  FAILING  UNRESOLVED
db       prod     2          2          1        db.test
db       test     2          2          1        db.test
mail     test     2          2          1        db.test
";
    assert_eq!(out, expected);
    let (out, ..) = said("external list db.prod", vec![("/api/external/prod/db", Page::json(&external()))]).await;
    let expected = "\
db.prod declared for 1m30s, checked every 10s
HOST      PORT          ADDRESSES
db.test   5432/tcp sql  192.0.2.1:5432 failing, (not resolved)
10.0.0.7  53/udp        10.0.0.7:53
new.test  1/tcp         (not resolved yet)
";
    assert_eq!(out, expected);
}

#[tokio::test]
async fn services_are_declared_and_declared_no_more() {
    let page = || Page::json(&external());
    let (out, asked, _) =
        said("external set db.prod db.test:5432 --check", vec![("PUT /api/external/prod/db", page())]).await;
    let body =
        r#"{"endpoints":[{"host":"db.test","port":5432}],"check":{"tcp":true,"interval":"10s"},"tags":[],"meta":{}}"#;
    assert_eq!(asked, [format!("PUT /api/external/prod/db {body}")]);
    assert!(out.starts_with("db.prod declared for 1m30s"), "{out}");
    let list = || ("/api/external", Page::json(&externals()));
    let (out, asked, _) = said("external delete mail", vec![list(), ("DELETE /api/external/test/mail", page())]).await;
    assert_eq!(asked, ["GET /api/external", "DELETE /api/external/test/mail"]);
    assert_eq!(out, "mail.test is declared no more\n");
    let (_, _, verdict) = said("external delete db", vec![list()]).await;
    assert!(matches!(&verdict, Err(Failure::Usage { text }) if text.ends_with("db.prod, db.test")), "{verdict:?}");
    let refused = Page::problem("400 Bad Request", "`127.0.0.1` is not announced");
    let (_, _, verdict) = said("external set db.prod 127.0.0.1:1", vec![("PUT /api/external/prod/db", refused)]).await;
    assert!(verdict.unwrap_err().to_string().ends_with("says: `127.0.0.1` is not announced"));
}

/// What the registry says of `web.prod`, with as many usable tasks.
fn web(usable: usize, more: Value) -> Value {
    let task = |number: usize| {
        let mut task = candidate();
        (task["task_id"], task["ended"]) = (json!(format!("t{number}")), Value::Null);
        task
    };
    let mut all = json!({"name": "web.prod.ecs.internal.", "cluster": "prod", "service": "web", "index": 7,
        "readiness": "current", "link": null, "candidates": (0..usable).map(task).collect::<Vec<_>>(), "refused": [],
        "stopped": [], "has_ecs": true});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

fn ecs(rollout_state: &str) -> Value {
    json!({"name": "web", "desired": 2, "running": 1, "pending": 1, "deployments": [{"id": "d1", "status": "PRIMARY",
        "rollout_state": rollout_state, "reason": "tasks failed to start", "task_definition": "web:7", "desired": 2,
        "running": 1, "failed": 3}]})
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_as_many_are_usable() {
    let pages = vec![
        ("/api/explain/web.prod", Page::problem("404 Not Found", "no service").at(5)),
        ("/api/explain/web.prod?index=5&wait=30000ms", Page::json(&web(1, json!({ "ecs": ecs("IN_PROGRESS") }))).at(6)),
        ("/api/explain/web.prod?index=6&wait=30000ms", Page::json(&web(2, json!({ "ecs": ecs("IN_PROGRESS") }))).at(7)),
    ];
    let (out, asked, verdict) = said("wait web.prod", pages).await;
    assert!(matches!(verdict, Ok(Verdict::Done)), "{verdict:?}");
    assert_eq!((out.as_str(), asked.len()), ("web.prod: 2 of 2 usable after 0s\n", 3));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_fails_says_why() {
    let stopped = json!([{"task_id": TASK, "family": "web", "at": "2026-01-02T03:05:30.000Z",
        "code": "EssentialContainerExited", "reason": "Essential container in task exited", "containers": [
            {"name": "app", "exit_code": 137, "reason": "OutOfMemoryError: killed\u{1b}[2J"},
            {"name": "log", "exit_code": null, "reason": null}]}]);
    let begins = web(1, json!({ "ecs": ecs("IN_PROGRESS") }));
    let pages = || {
        vec![
            ("/api/explain/web.prod", Page::json(&begins).at(6)),
            (
                "/api/explain/web.prod?index=6&wait=30000ms",
                Page::json(&web(1, json!({ "ecs": ecs("FAILED"), "stopped": stopped }))).at(7),
            ),
        ]
    };
    let (out, _, verdict) = said("wait web.prod", pages()).await;
    assert!(matches!(verdict, Ok(Verdict::NotSo)), "{verdict:?}");
    let expected = "\
web.prod: 1 of 2 usable after 0s
the deployment of web:7 FAILED: tasks failed to start
task 0123456789ab stopped 5s ago: EssentialContainerExited: Essential container in task exited
    app: exit code 137 OutOfMemoryError: killed\\u{1b}[2J
";
    assert_eq!(out, expected);
    let (out, ..) = said("-o json wait web.prod", pages()).await;
    let outcome: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&outcome["outcome"], &outcome["wanted"], &outcome["tasks"]),
        (&json!("failed"), &json!(2), &json!({"usable": 1}))
    );
    assert_eq!(outcome["stopped"], stopped);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_over_in_its_time() {
    let mut died = candidate();
    (died["state"], died["container_id"]) = (json!("gone"), json!("dead"));
    died["ended"] = json!({"at": "2026-01-02T03:05:30.000Z", "exit_code": 1, "is_out_of_memory": false});
    died["task_id"] = Value::Null;
    let mut one = web(1, json!({}));
    let before = Page::json(&one).at(6);
    one["candidates"].as_array_mut().unwrap().push(died);
    // Without an index there is a pause between two questions: the clock is virtual.
    let pages = vec![
        ("/api/explain/web.prod", before),
        ("/api/explain/web.prod?index=6&wait=3000ms", Page::json(&one)),
        ("/api/explain/web.prod", Page::json(&one)),
    ];
    let (out, asked, verdict) = said("wait web.prod --usable 3 --timeout 3s", pages).await;
    assert!(matches!(verdict, Ok(Verdict::NotSo)), "{verdict:?}");
    let expected = "\
web.prod: 1 of 3 usable after 3s
the time is over
container es (dead) on n1 ended 5s ago: exit code 1
";
    assert_eq!(out, expected);
    assert!(asked.len() <= 5, "{asked:?}");
    let (out, asked, _) = said("wait web.prod --timeout 0s", vec![("/api/explain/web.prod", Page::json(&one))]).await;
    assert!(out.contains("`--usable N` waits for one that ECS does not know"), "{out}");
    assert_eq!(asked.len(), 1, "it looks once at the least");
}

#[tokio::test(start_paused = true)]
async fn a_wait_outlives_a_restart_of_the_registry_but_not_a_wrong_address() {
    let pages = vec![
        ("/api/explain/web.prod", Page::json(&web(0, json!({}))).at(6)),
        ("/api/explain/web.prod?index=6&wait=30000ms", Page::problem("503 Service Unavailable", "loading").at(6)),
        ("/api/explain/web.prod", Page::json(&web(1, json!({}))).at(9)),
    ];
    let (out, _, verdict) = said("wait web.prod --usable 1", pages).await;
    assert!(matches!(verdict, Ok(Verdict::Done)), "{verdict:?}");
    assert_eq!(out, "web.prod: 1 of 1 usable after 1s\n");
    let (_, verdict) = printed("portolan --registry http://127.0.0.1:1 wait web.prod", &[]).await;
    assert!(matches!(verdict, Err(Failure::Registry { .. })), "{verdict:?}");
    let (_, verdict) = printed("portolan --registry SERVER wait nope", &super::pages()).await;
    assert!(verdict.unwrap_err().to_string().ends_with("name its cluster"));
}

#[test]
fn usage_is_checked_before_anything_is_asked() {
    for bad in [
        "evict 0123456789ab",
        "evict 0123456789ab --undo --reason x",
        "drain --undo",
        "drain n1 --undo --reason x",
        "wait",
        "wait web --timeout 10",
        "wait web --usable -1",
        "external",
        "external set db.prod",
        "drain EMPTY",
        "evict EMPTY --undo",
        "external delete EMPTY",
        "services EMPTY",
        "explain EMPTY",
        "wait EMPTY",
    ] {
        let line = format!("portolan {bad}");
        let words = line.split_whitespace().map(|word| if word == "EMPTY" { "" } else { word });
        let error = Arguments::try_parse_from(words).expect_err(bad);
        assert_eq!(error.exit_code(), 2, "{bad}");
    }
}

#[tokio::test]
async fn a_grpc_address_is_told_for_what_it_is() {
    use portolan_registry::{app, settings::SETTINGS};
    use portolan_runtime::{logging, metrics::Metrics, settings};
    let folder = tempfile::tempdir().unwrap();
    let all = settings::merged(&[SETTINGS, &logging::SETTINGS]);
    let data_dir = format!("--data-dir={}", folder.path().display());
    let free = ["--dns-listen=127.0.0.1:0", "--http-listen=127.0.0.1:0", "--grpc-listen=127.0.0.1:0"];
    let matches = clap::Command::new("registry").no_binary_name(true).args(settings::flags(&all));
    let matches = matches.get_matches_from([data_dir.as_str()].into_iter().chain(free));
    let loaded = settings::load(&all, &matches, []).unwrap();
    let jobs = Jobs::new();
    let metrics = std::sync::Arc::new(Metrics::new("registry", "0"));
    let bound = app::start(&jobs, loaded.settings, metrics).await.unwrap();
    let (_, verdict) = printed(&format!("portolan --registry http://{} nodes", bound.grpc), &[]).await;
    let failure = verdict.unwrap_err();
    assert!(show::chain(&failure).contains("does not speak HTTP/1"), "{}", show::chain(&failure));
    let hint = failure.hint().unwrap();
    assert!(hint.contains("gRPC") && hint.contains("--registry http://127.0.0.1:8500"), "{hint}");
    let (out, verdict) = printed(&format!("portolan --registry {} nodes", bound.http), &[]).await;
    assert!(matches!(verdict, Ok(Verdict::Done)) && out == "no nodes\n", "{out}");
    jobs.shut_down();
    jobs.finished().await.unwrap();
}
