use super::*;
use serde_json::{Value, json};

/// Facts of a running container with `-p 0:9200`, as Docker 20.10 tells them, changed by `change`.
pub(crate) fn facts(id: &str, run: u64, change: impl Fn(&mut Value)) -> Facts {
    let started = jiff::Timestamp::from_nanosecond(i128::from(run)).unwrap().to_string();
    let mut inspected = json!({
        "Id": id,
        "Name": "/web",
        "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false,
                  "Pid": 4711, "ExitCode": 0, "StartedAt": started, "FinishedAt": "0001-01-01T00:00:00Z"},
        "Config": {"Labels": {}, "Env": ["PATH=/bin"], "ExposedPorts": {"9200/tcp": {}}},
        "HostConfig": {"NetworkMode": "default", "PortBindings": {"9200/tcp": [{"HostIp": "", "HostPort": "0"}]}},
        "NetworkSettings": {
            "Ports": {"9200/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32768"}]},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}}
        }
    });
    change(&mut inspected);
    read(serde_json::from_value(inspected).unwrap()).unwrap()
}

#[test]
fn reads_what_docker_says() {
    let facts = facts("abc", 1_700_000_000_123_456_789, |_| {});
    assert_eq!(facts.run, Run(1_700_000_000_123_456_789));
    assert_eq!((facts.name.as_str(), facts.pid, facts.stop_signal), ("web", Some(4711), 15));
    assert_eq!((facts.activity, facts.health, facts.network), (Activity::Running, DockerHealth::Absent, Network::Own));
    assert_eq!(facts.addresses, ["172.17.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(facts.bindings.len(), 2);
    assert_eq!((facts.exposed.len(), facts.fixed.len()), (1, 0));
}

#[test]
fn tells_chosen_host_ports_from_given_ones() {
    let check = |asked: &str, is_fixed: bool| {
        let facts = facts("abc", 1, |inspected| {
            inspected["HostConfig"]["PortBindings"]["9200/tcp"][0]["HostPort"] = asked.into();
        });
        assert_eq!(facts.fixed.contains(&(9200, Protocol::Tcp)), is_fixed, "{asked}");
    };
    check("9200", true);
    check("0", false);
    check("", false);
    check("8000-8010", false);
}

#[test]
fn a_restarting_container_does_not_run() {
    let facts = facts("abc", 1, |inspected| {
        inspected["State"]["Restarting"] = true.into();
        inspected["State"]["ExitCode"] = 3.into();
    });
    assert_eq!(facts.activity, Activity::Ended { exit_code: Some(3), is_out_of_memory: false });
}

#[test]
fn refuses_ports_that_cannot_be_registered_and_keeps_the_others() {
    let facts = facts("abc", 1, |inspected| {
        inspected["NetworkSettings"]["Ports"] = json!({
            "99999/tcp": [{"HostIp": "0.0.0.0", "HostPort": "1"}],
            "36412/sctp": [{"HostIp": "0.0.0.0", "HostPort": "2"}],
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "99999"}],
            "81/tcp": null,
            "82/tcp": [{"HostIp": "", "HostPort": "8082"}]
        });
    });
    let refused: Vec<&str> = facts.port_refusals.iter().map(|refusal| refusal.field.as_str()).collect();
    assert_eq!(refused, ["port 36412/sctp", "port 80/tcp", "port 99999/tcp"]);
    let ports: Vec<(u16, u16)> = facts.bindings.iter().map(|b| (b.container_port, b.host_port)).collect();
    assert_eq!(ports, [(82, 8082)]);
}

#[test]
fn survives_an_almost_empty_answer() {
    let almost: ContainerInspectResponse = serde_json::from_value(json!({"Id": "abc", "State": {}})).unwrap();
    let facts = read(almost).unwrap();
    assert!(matches!(facts.activity, Activity::Ended { .. }));
    assert_eq!(facts.run, Run(0));
    assert!(read(serde_json::from_value(json!({"Id": "abc"})).unwrap()).is_none());
}
