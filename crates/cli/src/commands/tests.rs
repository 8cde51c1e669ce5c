//! Commands against a server on port 0 that says what it is told to: what they print, and that nothing hostile gets out.

mod operators;
mod server;

use clap::Parser;
use portolan_runtime::jobs::Jobs;
use serde_json::{Value, json};

use super::*;
use crate::show::Colour;
use server::{Page, serve};

const NOW: &str = "2026-01-02T03:05:35Z";

/// What a command printed, and how it ended.
async fn printed(line: &str, pages: &[(&str, Value)]) -> (String, Result<Verdict, Failure>) {
    let jobs = Jobs::new();
    let pages = pages.iter().map(|(path, body)| (path.to_string(), Page::json(body))).collect();
    let addr = serve(&jobs, pages).await;
    let line = line.replace("SERVER", &format!("http://{addr}"));
    let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
    let mut out = Vec::new();
    let mut screen = Screen::new(&mut out, Colour::Never, NOW.parse().unwrap());
    let verdict = Box::pin(run(&arguments, &mut screen)).await;
    (String::from_utf8(out).unwrap().replace(&addr.to_string(), "SERVER"), verdict)
}

fn endpoint() -> Value {
    json!({
        "node": "n1", "node_cluster": "prod", "container": "es", "container_id": "ab".repeat(32),
        "started_at": "2026-01-02T03:00:00Z", "task_id": "0123456789abcdef0123456789abcdef", "container_port": 9200,
        "protocol": "tcp", "state": "usable", "since": "2026-01-02T03:04:05.000Z", "address": "10.0.0.5",
        "addresses": ["10.0.0.5"], "port": 32768, "port_name": "http", "weight": 1, "az": "eu-west-1a",
        "is_service_port": true, "tags": ["a"], "meta": {"k": "v"}
    })
}

fn link() -> Value {
    json!({"address": "198.18.7.9", "mode": "vip", "ports": [{"port": 9200, "container_port": 9200, "protocol": "tcp"}]})
}

fn candidate() -> Value {
    let mut candidate = endpoint();
    let more = json!({
        "is_answered": true, "rule": "passing", "rule_text": "it passes: usable", "named_by": "the Compose service",
        "witnesses": [
            {"witness": "sidecar", "word": "passing", "since": "2026-01-02T03:04:05.000Z", "age_seconds": 90},
            {"witness": "ecs", "word": "not used", "since": null, "age_seconds": null},
        ],
        "ended": {"at": "2026-01-02T03:04:05.000Z", "exit_code": 137, "is_out_of_memory": true},
        "is_refused": false, "refused": [{"field": "label `portolan.weight`", "reason": "is no number"}]
    });
    candidate.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    candidate
}

/// Every page that any command asks for.
fn pages() -> Vec<(&'static str, Value)> {
    let counts = json!({"usable": 2, "unverified": 0, "draining": 1, "unusable": 0, "starting": 0});
    let summary = json!({"cluster": "prod", "service": "es", "dns_name": "es.prod.ecs.internal.", "index": 7,
        "virtual_address": "198.18.7.9", "ports": ["9200/tcp"], "endpoints": counts});
    let node = json!({"cluster": "prod", "node": "n1", "dns_name": "n1.node.prod.ecs.internal.", "host_name": "host-a",
        "addresses": ["10.0.0.5"], "az": "eu-west-1a", "sidecar": "silent", "since": "2026-01-02T03:05:30.000Z",
        "version": "0.1.0", "reported": "2026-01-02T03:05:30.000Z", "containers": 4, "refused": 1});
    let resolution = json!({"name": "es.prod.ecs.internal.", "answered_by": "sidecar", "status": "NOERROR",
        "note": "no registry confirms it at present", "readiness": "stale", "index": 7, "ttl_seconds": 1,
        "virtual_address": "198.18.7.9", "addresses": ["198.18.7.9"],
        "srv": [{"priority": 0, "weight": 1, "port": 32768, "target": "ip-10-0-0-5.addr.ecs.internal.",
            "address": "10.0.0.5", "state": "usable", "node": "n1", "container": "es"}],
        "pointers": ["n1.node.prod.ecs.internal."]});
    let links = json!([{"service": "es", "cluster": "prod", "address": "198.18.7.9", "mode": "vip",
        "ports": [{"port": 9200, "container_port": 9200, "protocol": "tcp", "endpoints": null}],
        "endpoints": 2, "open": 1, "total": 10, "failures": 0, "bytes": 1, "limited": 0,
        "plane": "proxy", "plane_reason": "no cgroup hierarchy", "led_endpoints": 0, "led_total": 3, "led_failures": 1,
        "met": [{"address": "10.0.0.5:32768", "nearness": "az", "weight": 1, "open": 1, "total": 10, "bytes": 1,
            "failures": 3, "ejections": 2, "ejected_ms": 4200, "connect_us": 210}],
        "clients": [{"cluster": "prod", "service": "kibana", "total": 9}, {"cluster": null, "service": null, "total": 1}]}]);
    // Both programs are this server: it says what either would.
    let status = json!({"program": "registry", "version": "0.1.0", "epoch": "e1", "zone": "ecs.internal.",
        "started": "2026-01-02T03:04:05.000Z", "readiness": "current", "index": 7, "clusters": 1, "services": 1,
        "nodes": 1, "silent_nodes": 1, "endpoints": counts, "aws": {"clusters": [{"cluster": "prod", "arn": null,
            "listed": "2026-01-02T03:05:30.000Z", "calls": 8, "tasks": 12, "missing": 1, "instances": 2,
            "error": {"at": "2026-01-02T03:05:31.000Z", "message": "ecs:ListTasks is throttled"}}],
            "denied": [{"action": "ec2:DescribeInstances", "since": "2026-01-02T03:05:31.000Z",
            "without": "addresses are not known", "message": "no\u{1b}[2J"}, {"action": "sqs:ReceiveMessage",
            "since": "2026-01-02T03:05:31.000Z", "without": "no events", "message": "no"}], "calls_last_minute": 30,
            "calls_per_minute_max": 120, "queue": {"answered": null, "applied": 5, "error":
            {"at": "2026-01-02T03:05:31.000Z", "message": "sqs:ReceiveMessage is denied: no"}, "parked_total": 2,
            "parked": []}},
        "node": "n1.prod", "is_registry_connected": true, "refused": null, "dns": null, "has_links": true});
    vec![
        ("/api/status", status),
        ("/api/services", json!({"index": 7, "services": [summary]})),
        (
            "/api/services/prod/es",
            json!({"cluster": "prod", "service": "es", "dns_name": "es.prod.ecs.internal.",
            "index": 7, "link": link(), "endpoints": [endpoint()]}),
        ),
        ("/api/nodes", json!({"index": 7, "nodes": [node]})),
        ("/api/links", links),
        ("/api/resolve/es", resolution),
        (
            "/api/explain/es",
            json!({"name": "es.prod.ecs.internal.", "cluster": "prod", "service": "es", "index": 7,
            "readiness": "current", "link": link(), "candidates": [candidate()],
            "refused": [{"field": "service", "reason": "is refused as a whole"}]}),
        ),
    ]
}

/// Commands, and what they print.
const TABLES: [(&str, &str); 7] = [
    (
        "status",
        "\
registry   http://SERVER (named by --registry or PORTOLAN_REGISTRY)
version    0.1.0, running for 1m30s
zone       ecs.internal.
readiness  current
index      7, epoch e1
services   1 in 1 clusters
nodes      1, 1 silent
endpoints  2 usable, 1 draining
aws        cluster prod: 12 tasks, 1 missing, listed in full 5s ago; ecs:ListTasks is throttled
aws        queue: 5 messages applied, 2 given up
aws        30 of 120 calls in the last minute
aws        ec2:DescribeInstances is denied: addresses are not known
aws        sqs:ReceiveMessage is denied: no events
sidecar    version 0.1.0, node n1.prod, view current, connected to a registry
",
    ),
    (
        "services",
        "\
SERVICE  CLUSTER  ENDPOINTS             PORTS     VIRTUAL ADDRESS
es       prod     2 usable, 1 draining  9200/tcp  198.18.7.9
",
    ),
    (
        "services es",
        "\
es.prod.ecs.internal. index 7
virtual address 198.18.7.9 (vip), ports 9200/tcp to 9200
STATE   FOR    ADDRESS         CONTAINER PORT  CONTAINER  NODE  TASK          TAGS
usable  1m30s  10.0.0.5:32768  9200/tcp http   es         n1    0123456789ab  a
",
    ),
    (
        "nodes",
        "\
NODE  CLUSTER  SIDECAR  FOR  CONTAINERS  REFUSED  ADDRESSES  AZ          VERSION
n1    prod     silent   5s   4           1        10.0.0.5   eu-west-1a  0.1.0
",
    ),
    (
        "links es.prod",
        "\
SERVICE  CLUSTER  VIRTUAL ADDRESS  MODE  PLANE  PORTS          ENDPOINTS  OPEN  TOTAL  LED  FAILURES
es       prod     198.18.7.9       vip   proxy  9200/tcp:9200  2          1     10     3    1
plane ebpf cannot be had: no cgroup hierarchy

ENDPOINT        NEAR  WEIGHT  OPEN  TOTAL  BYTES  CONNECT  FAILURES  EJECTED
10.0.0.5:32768  az    1       1     10     1      210 us   3         2 times, 5 s more

CLIENT  CLUSTER  CONNECTIONS
kibana  prod     9
-       -        1
",
    ),
    (
        "resolve es",
        "\
es.prod.ecs.internal. NOERROR
answered by the registry at http://SERVER (index 7, stale, TTL 1 s)
note: no registry confirms it at present
A     198.18.7.9  virtual address: links lead from it to the endpoints
SRV   10.0.0.5:32768  usable  weight 1  es on n1
PTR   n1.node.prod.ecs.internal.
",
    ),
    (
        "explain es",
        "\
es.prod.ecs.internal. service es of cluster prod, index 7, current
virtual address 198.18.7.9 (vip)

usable es on n1, 10.0.0.5:32768 to 9200/tcp, answered
  sidecar  passing, for 1m30s
  ecs      not used
  rule     it passes: usable
  name     by the Compose service
  ended    2026-01-02T03:04:05.000Z, exit code 137, out of memory
  refused and the rest registered:
    label `portolan.weight`: is no number

refused of the service:
    service: is refused as a whole
",
    ),
];

#[tokio::test]
async fn prints_tables_that_a_person_can_read() {
    for (command, expected) in TABLES {
        let (out, verdict) = printed(&format!("portolan --registry SERVER --sidecar SERVER {command}"), &pages()).await;
        assert!(matches!(verdict, Ok(Verdict::Done)), "{command}: {verdict:?}");
        assert_eq!(out, expected, "{command}");
    }
}

#[tokio::test]
async fn asks_the_sidecar_first_and_says_so() {
    let (out, _) = printed("portolan --sidecar SERVER resolve es", &pages()).await;
    assert!(out.contains("answered by the sidecar at http://SERVER"), "{out}");
}

#[tokio::test]
async fn finds_the_registry_by_the_sidecar() {
    let mut all = pages();
    // Its own address is not known before it listens; any will do that nobody can use.
    all[0].1["registry_http"] = json!("http://user@nowhere");
    let (_, verdict) = printed("portolan --sidecar SERVER nodes", &all).await;
    assert!(matches!(&verdict, Err(Failure::Usage { text }) if text.contains("user@nowhere")), "{verdict:?}");
}

#[tokio::test]
async fn json_is_printed_as_it_came() {
    for command in ["status", "services", "services es", "nodes", "links", "resolve es", "explain es"] {
        let line = format!("portolan --registry SERVER --sidecar SERVER -o json {command}");
        let (out, _) = printed(&line, &pages()).await;
        let value: Value = serde_json::from_str(&out).unwrap();
        assert!(pages().iter().any(|(_, page)| *page == value), "{command}: {out}");
    }
}

#[tokio::test]
async fn hostile_text_in_any_field_reaches_no_terminal() {
    let hostile: Vec<_> = pages().into_iter().map(|(path, page)| (path, poisoned(page))).collect();
    for command in ["status", "services", "services es.prod", "nodes", "links", "resolve es", "explain es"] {
        for format in ["text", "json"] {
            let line = format!("portolan --registry SERVER --sidecar SERVER -o {format} {command}");
            let (out, verdict) = printed(&line, &hostile).await;
            assert!(verdict.is_ok() && out.contains("evil"), "{command}: {verdict:?}");
            let bad = out.chars().find(|c| (c.is_control() && *c != '\n') || matches!(c, '\u{202e}' | '\u{9b}'));
            assert_eq!(bad, None, "{command} {format}: {out}");
        }
    }
}

/// Every text but addresses with what takes a terminal over.
fn poisoned(value: Value) -> Value {
    match value {
        Value::String(text) if text.parse::<std::net::IpAddr>().is_ok() => Value::String(text),
        Value::String(text) if text.parse::<std::net::SocketAddr>().is_ok() => Value::String(text),
        // An enumeration, not a text: anything else is refused before it is shown.
        Value::String(text) if matches!(text.as_str(), "registry" | "sidecar") => Value::String(text),
        Value::String(_) => Value::String("evil\u{1b}]0;x\u{7}\u{1b}[2J\r\n\u{9b}31m\u{202e}".to_owned()),
        Value::Array(all) => Value::Array(all.into_iter().map(poisoned).collect()),
        Value::Object(all) => Value::Object(all.into_iter().map(|(key, value)| (key, poisoned(value))).collect()),
        other => other,
    }
}

#[tokio::test]
async fn errors_say_what_was_asked_and_what_to_do() {
    let (_, verdict) = printed("portolan --registry http://127.0.0.1:1 nodes", &[]).await;
    let failure = verdict.unwrap_err();
    let text = show::chain(&failure);
    assert!(text.starts_with("no answer from the registry: ask http://127.0.0.1:1/api/nodes: "), "{text}");
    assert!(failure.hint().unwrap().contains("named by --registry"));
    let (_, verdict) = printed("portolan --registry SERVER services nope", &pages()).await;
    let text = verdict.unwrap_err().to_string();
    assert!(text.ends_with("knows no service `nope`; `portolan services` lists them"), "{text}");
    let (_, verdict) = printed("portolan --registry SERVER explain nope", &pages()).await;
    let text = verdict.unwrap_err().to_string();
    assert!(text.ends_with("says: there is no `/api/explain/nope` \\u{1b}"), "{text}");
    let (_, verdict) = printed("portolan --registry SERVER nodes", &[("/api/nodes", json!({"x": 1}))]).await;
    let text = show::chain(&verdict.unwrap_err());
    assert!(text.contains("is that a Portolan server?"), "{text}");
}

#[tokio::test]
async fn what_has_no_answer_is_not_so() {
    let mut all = pages();
    let resolution = json!({"name": "es.", "answered_by": "registry", "status": "NOERROR", "note": null,
        "readiness": "current", "index": 1, "ttl_seconds": 1, "virtual_address": null, "addresses": [], "srv": [],
        "pointers": []});
    all.push(("/api/resolve/empty", resolution));
    let (_, verdict) = printed("portolan --registry SERVER resolve empty", &all).await;
    assert!(matches!(verdict, Ok(Verdict::NotSo)), "{verdict:?}");
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_cut_off() {
    let mut change = endpoint();
    let more = json!({"index": 8, "at": "2026-01-02T03:05:00.000Z", "cluster": "prod", "service": "es",
        "from": "usable", "to": "gone", "reason": "its container ended\u{1b}[2J"});
    change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let first = format!("event: start\nid: 7\ndata: {{}}\n\nevent: change\nid: 8\ndata: {change}\n\n");
    change["from"] = Value::Null;
    change["to"] = json!("starting");
    let second = format!(
        ": alive\n\nevent: reset\nid: 9\ndata: {{\"index\":9,\"reason\":\"r\"}}\n\nevent: change\ndata: {change}\n\n"
    );
    let jobs = Jobs::new();
    let path = "/api/watch?cluster=prod&service=es".to_owned();
    let pages = vec![(path.clone(), Page::stream(first, None)), (path, Page::stream(second, Some("8")))];
    let addr = serve(&jobs, pages).await;
    let line = format!("portolan --registry http://{addr} watch es.prod");
    let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
    let mut out = Vec::new();
    let mut screen = Screen::new(&mut out, Colour::Never, NOW.parse().unwrap());
    // The stream that follows ends in a refusal, because the server has no third page for it.
    let ended = Box::pin(run(&arguments, &mut screen)).await;
    assert!(matches!(ended, Err(Failure::Registry { .. })), "{ended:?}");
    let expected = "\
2026-01-02T03:05:00.000Z es.prod es on n1 10.0.0.5:32768 (9200/tcp) usable -> gone its container ended\\u{1b}[2J
changes are missing here: r
2026-01-02T03:05:00.000Z es.prod es on n1 10.0.0.5:32768 (9200/tcp) new -> starting its container ended\\u{1b}[2J
";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}
