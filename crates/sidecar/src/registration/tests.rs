use super::*;
use crate::docker::facts::tests::facts;
use crate::docker::state::Now;
use crate::health::Method;
use portolan_core::evidence::Health;
use portolan_runtime::jobs::Jobs;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

const ARN: &str = "arn:aws:ecs:eu-west-1:1:task/prod/0123456789abcdef0123456789abcdef";

fn node() -> Node {
    let key = NodeKey { cluster: Label::fixed("local"), node: Label::fixed("n1") };
    Node { key, addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()] }
}

fn state(containers: impl IntoIterator<Item = Facts>) -> State {
    let mut state = State::default();
    for facts in containers {
        state.apply_facts(facts, Now { instant: Instant::now(), unix_ms: 0 });
    }
    state
}

fn report_all(state: &State) -> LocalState {
    let resolved = resolve(state, &node());
    let (inputs, _) = mpsc::channel(1);
    let checks = Checks::new(Jobs::new(), inputs);
    let previous = LocalState::default();
    let reporter = Reporter { node: &node(), checks: &checks, previous: &previous };
    reporter.local_state(state, &resolved, (DockerStatus::default(), true))
}

/// The report of the one container that `change` makes.
fn report(change: impl Fn(&mut Value)) -> ContainerReport {
    report_all(&state([facts("c", 1, change)])).reports.remove(0)
}

/// `PORT at ADDRESS:PORT ...` for each port, then what was refused.
fn shown(report: &ContainerReport) -> String {
    let ports = report.ports.iter().map(|port| {
        let addresses = port.addresses.iter().map(|a| std::net::SocketAddr::new(*a, port.host_port).to_string());
        format!("{} at {}", port.container_port, addresses.collect::<Vec<_>>().join(" "))
    });
    let refused = report.refusals.iter().map(|refusal| format!("refused {}", refusal.field));
    ports.chain(refused).collect::<Vec<_>>().join("; ")
}

#[test]
fn both_families_of_a_port_are_one_endpoint() {
    let check = |bindings: Value, expected: &str| {
        let report = report(|inspected| inspected["NetworkSettings"]["Ports"] = json!({ "9200/tcp": bindings }));
        assert_eq!(shown(&report), expected, "{bindings}");
    };
    let bound = |address: &str, port: &str| json!({"HostIp": address, "HostPort": port});
    check(json!([bound("0.0.0.0", "1"), bound("::", "1")]), "9200 at 10.0.0.7:1 [fd00::7]:1");
    check(json!([bound("::", "1"), bound("0.0.0.0", "2")]), "9200 at 10.0.0.7:2");
    check(json!([bound("::", "3")]), "9200 at [fd00::7]:3");
    check(json!([bound("10.9.9.9", "4")]), "9200 at 10.9.9.9:4");
    check(json!([bound("0.0.0.0", "6"), bound("0.0.0.0", "5")]), "9200 at 10.0.0.7:5");
    check(json!([bound("127.0.0.1", "7")]), "refused port 9200/tcp");
    check(json!([bound("169.254.169.254", "7")]), "refused port 9200/tcp");
    check(json!([bound("127.0.0.1", "7"), bound("0.0.0.0", "8")]), "9200 at 10.0.0.7:8");
    check(json!([]), "");
}

#[test]
fn labels_name_leave_out_and_split_ports() {
    let report = report(|inspected| {
        let labels = json!({
            "portolan.port.80": "http", "portolan.port.81": "ignore", "portolan.port.82": "http",
            "SERVICE_83_NAME": "other", "portolan.tags": "a"
        });
        inspected["Config"]["Labels"] = labels;
        let bound = |port: u16| json!([{"HostIp": "0.0.0.0", "HostPort": (port + 1000).to_string()}]);
        inspected["NetworkSettings"]["Ports"] =
            json!({"80/tcp": bound(80), "81/tcp": bound(81), "82/tcp": bound(82), "83/tcp": bound(83)});
    });
    assert_eq!(shown(&report), "80 at 10.0.0.7:1080; 82 at 10.0.0.7:1082; 83 at 10.0.0.7:1083; refused port 82/tcp");
    assert_eq!(report.ports[0].name, Some(Label::fixed("http")));
    assert_eq!(
        (report.ports[1].name.clone(), report.ports[2].registrator_name.clone()),
        (None, Some(Label::fixed("other")))
    );
}

#[test]
fn offers_every_name_and_refuses_a_container_whose_chosen_name_is_none() {
    let check = |name: &str, labels: Value, expected: &[&str], is_refused: bool| {
        let report = report(|inspected| {
            inspected["Name"] = name.into();
            inspected["Config"]["Labels"] = labels.clone();
        });
        let names = &report.candidates;
        let names = [&names.label, &names.registrator, &names.compose, &names.family, &names.container];
        let names: Vec<&str> = names.into_iter().flatten().map(Label::as_str).collect();
        assert_eq!((names.as_slice(), report.is_refused), (expected, is_refused), "{labels}");
    };
    check("/web", json!({}), &["web"], false);
    check("/web", json!({"portolan.service": "A", "SERVICE_NAME": "b"}), &["a", "b", "web"], false);
    check("/p-web-1", json!({"com.docker.compose.service": "web"}), &["web", "p-web-1"], false);
    check("/p-node-1", json!({"com.docker.compose.service": "node"}), &["p-node-1"], true);
    check("/node", json!({}), &[], true);
    check("/node", json!({"portolan.service": "web"}), &["web"], false);
    check("/web", json!({"portolan.service": "<b>"}), &["web"], true);
    let ecs = json!({"com.amazonaws.ecs.task-arn": ARN, "com.amazonaws.ecs.task-definition-family": "search",
                     "com.amazonaws.ecs.cluster": "arn:aws:ecs:eu-west-1:1:cluster/Prod",
                     "com.amazonaws.ecs.container-name": "app"});
    check("/ecs-search-1-app-00", ecs.clone(), &["search", "ecs-search-1-app-00"], false);
    let ecs = report(|inspected| inspected["Config"]["Labels"] = ecs.clone());
    assert_eq!((ecs.cluster.as_str(), ecs.name.as_str()), ("prod", "app"));
    assert_eq!(ecs.task_id.as_deref(), Some("0123456789abcdef0123456789abcdef"));
    let foreign = report(|inspected| inspected["Config"]["Labels"] = json!({"com.amazonaws.ecs.cluster": "addr"}));
    assert!(foreign.is_refused, "the node's own cluster was not meant");
}

#[test]
fn a_shared_network_s_port_goes_to_the_one_that_speaks_of_it() {
    let owner = facts("owner", 1, |inspected| inspected["Name"] = "/vpn".into());
    let member = |id: &str, config: Value| {
        facts(id, 1, |inspected| {
            inspected["HostConfig"] = json!({"NetworkMode": "container:owner"});
            inspected["NetworkSettings"] = json!({});
            inspected["Config"] = config.clone();
        })
    };
    let check = |owner: &Facts, members: Vec<Facts>, expected: &[(&str, &str)]| {
        let reports = report_all(&state(members.into_iter().chain([owner.clone()]))).reports;
        let shown: Vec<(&str, String)> = reports.iter().map(|report| (report.id.as_str(), shown(report))).collect();
        let shown: Vec<(&str, &str)> = shown.iter().map(|(id, text)| (*id, text.as_str())).collect();
        assert_eq!(shown, expected);
    };
    let (port, refused) = ("9200 at 10.0.0.7:32768 [fd00::7]:32768", "refused port 9200/tcp");
    let exposing = || member("app", json!({"ExposedPorts": {"9200/tcp": {}}}));
    let silent = || member("debug", json!({}));
    check(&owner, vec![exposing(), silent()], &[("app", port), ("debug", refused), ("owner", "")]);
    check(&owner, vec![silent()], &[("debug", refused), ("owner", port)]);
    let named = member("named", json!({"Labels": {"portolan.service": "x"}}));
    check(&owner, vec![named, silent()], &[("debug", refused), ("named", port), ("owner", "")]);
    let twice = vec![exposing(), member("b", json!({"ExposedPorts": {"9200/tcp": {}}}))];
    check(&owner, twice, &[("app", refused), ("b", refused), ("owner", "")]);
    let pause = facts("owner", 1, |inspected| {
        inspected["Config"]["Labels"] = json!({"com.amazonaws.ecs.container-name": "~internal~ecs~pause-app"});
    });
    check(&pause, vec![silent()], &[("debug", port)]);
    check(&pause, vec![silent(), member("other", json!({}))], &[("debug", refused), ("other", refused)]);
    let orphan = report_all(&state([silent()])).reports.remove(0);
    assert_eq!(shown(&orphan), "refused ports");
}

#[test]
fn host_mode_has_the_container_s_own_numbers() {
    let report = report(|inspected| {
        inspected["HostConfig"]["NetworkMode"] = "host".into();
        inspected["NetworkSettings"] = json!({});
        inspected["Config"]["ExposedPorts"] = json!({"53/udp": {}});
        inspected["Config"]["Labels"] = json!({"portolan.port.53": "dns", "portolan.port.8080": "http"});
    });
    assert_eq!(shown(&report), "53 at 10.0.0.7:53 [fd00::7]:53; 8080 at 10.0.0.7:8080 [fd00::7]:8080");
    assert!(report.ports.iter().all(|port| !port.is_dynamic));
}

#[test]
fn chooses_how_health_is_found() {
    let address = "172.17.0.2:9200".parse().unwrap();
    let http = Method::Http { address, path: "/x".into() };
    let healthcheck = json!({"Status": "unhealthy"});
    let cases: [(Value, Option<&Value>, bool, Method, &str); 9] = [
        (json!({}), None, true, Method::Listening { pid: 4711 }, ""),
        (json!({}), None, false, Method::Always, ""),
        (json!({}), Some(&healthcheck), true, Method::Docker(crate::docker::facts::DockerHealth::Unhealthy), ""),
        (json!({"portolan.check": "tcp"}), Some(&healthcheck), true, Method::Tcp(address), ""),
        (json!({"portolan.check": "tcp", "portolan.check.9200": "http:/x"}), None, true, http, ""),
        (json!({"portolan.check": "none"}), None, true, Method::Always, ""),
        (json!({"portolan.check": "docker"}), None, true, Method::Listening { pid: 4711 }, "check of port 9200/tcp"),
        (json!({"portolan.check": "grpc"}), None, true, Method::Grpc(address), ""),
        (json!({"portolan.check.9300": "tcp"}), None, true, Method::Listening { pid: 4711 }, ""),
    ];
    for (labels, health, is_visible, expected, refused) in cases {
        let mut facts = facts("c", 1, |inspected| {
            inspected["Config"]["Labels"] = labels.clone();
            inspected["State"]["Health"] = health.cloned().unwrap_or(Value::Null);
        });
        facts.sight = if is_visible { Sight::Seen } else { Sight::Hidden };
        let state = state([facts]);
        let resolved = resolve(&state, &node());
        assert_eq!(plans(&resolved)[0].method, expected, "{labels}");
        assert_eq!(resolved[0].refusals.first().map_or("", |refusal| refusal.field.as_str()), refused, "{labels}");
        assert_eq!(notices(&resolved).len(), usize::from(!is_visible));
    }
}

#[test]
fn what_dies_before_it_is_seen_is_never_ready() {
    let unseen = |id: &str, sight| Facts { sight, ..facts(id, 1, |_| {}) };
    let check = |first: Sight, expected: &Method| {
        let resolved = state([unseen("first", first), unseen("second", Sight::Gone)]);
        assert_eq!(&plans(&resolve(&resolved, &node()))[1].method, expected, "{first:?}");
    };
    check(Sight::Seen, &Method::Listening { pid: 4711 });
    // Where no process of any container can be seen, nothing tells that it died.
    check(Sight::Gone, &Method::Always);
    check(Sight::Hidden, &Method::Always);
}

#[test]
fn an_ended_run_keeps_its_last_report() {
    let mut state = state([facts("c", 10, |_| {})]);
    let mut previous = report_all(&state);
    previous.reports[0].ports[0].health = Health::Passing;
    let ended = facts("c", 10, |inspected| inspected["State"]["Running"] = false.into());
    state.apply_facts(ended, Now { instant: Instant::now(), unix_ms: 77 });
    let (inputs, _) = mpsc::channel(1);
    let checks = Checks::new(Jobs::new(), inputs);
    let reporter = Reporter { node: &node(), checks: &checks, previous: &previous };
    let resolved = resolve(&state, &node());
    let next = reporter.local_state(&state, &resolved, (DockerStatus::default(), true));
    assert_eq!(next.reports[0].ports, previous.reports[0].ports);
    assert!(matches!(&next.reports[0].phase, Phase::Died(ending) if ending.at_ms == 77 && ending.exit_code == Some(0)));
    assert!(next.clients.is_empty());
}

#[test]
fn a_run_that_ended_before_it_was_seen_is_told_with_its_ports() {
    let of = |labels: Value| {
        let mut state = State::default();
        let now = Now { instant: Instant::now(), unix_ms: 77 };
        let died = crate::docker::state::EventKind::Die(Some(78));
        let event = crate::docker::state::Event { id: "c".into(), kind: died, at_ns: 20_000_000 };
        assert_eq!(state.apply_event(&event, now), crate::docker::state::Inspect::Due);
        let over = facts("c", 10, |inspected| {
            inspected["State"] =
                json!({"Running": false, "ExitCode": 78, "StartedAt": inspected["State"]["StartedAt"]});
            inspected["NetworkSettings"] = json!({});
            inspected["Config"]["Labels"] = labels.clone();
        });
        state.apply_facts(over, now);
        report_all(&state)
    };
    let local = of(json!({"portolan.service": "x"}));
    let [report] = local.reports.as_slice() else { panic!("{local:?}") };
    assert_eq!(shown(report), "9200 at 10.0.0.7:9200 [fd00::7]:9200");
    assert_eq!(report.candidates.label, Some(Label::fixed("x")));
    assert!(matches!(&report.phase, Phase::Died(ending) if ending.exit_code == Some(78) && ending.at_ms == 20));
    assert!(of(json!({"portolan.ignore": "true"})).reports.is_empty());
}

#[test]
fn left_out_containers_are_said_and_not_reported() {
    let state = state([facts("c", 1, |inspected| inspected["Config"]["Labels"] = json!({"portolan.ignore": "true"}))]);
    let local = report_all(&state);
    assert_eq!((local.reports.len(), local.left_out.len(), local.clients.len()), (0, 1, 1));
}
