//! Declarations as rows: what is taken, and which field an error names.

use serde_json::json;

use super::*;

fn read_all(body: &Value) -> Result<ExternalRecord, Problem> {
    let zone = Zone::parse("ecs.internal").unwrap();
    read(body, &Bounds { zone: &zone, link_range: "198.18.0.0/16".parse().unwrap() })
}

fn with_host(host: &str) -> Value {
    json!({ "endpoints": [{ "host": host, "port": 5432 }] })
}

#[test]
fn takes_addresses_and_names_in_their_usual_form() {
    for (host, expected) in [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("DB.Example.com.", "db.example.com"),
        ("db", "db"),
        ("db.0xfg", "db.0xfg"),
        ("_x.a-b.c0", "_x.a-b.c0"),
        ("ecs.internal.example.com", "ecs.internal.example.com"),
    ] {
        assert_eq!(read_all(&with_host(host)).unwrap().endpoints[0].host, expected, "{host}");
    }
}

#[test]
fn refuses_hosts_that_nothing_may_lead_to() {
    let special = ["127.0.0.1", "169.254.169.254", "fd00:ec2::254", "224.0.0.1", "198.18.3.4", "0.0.0.0", "fe80::1"]
        .into_iter()
        .chain(["::127.0.0.1", "64:ff9b::169.254.169.254"]);
    let no_names =
        ["", ".", "a..b", "a b", "-a", "a-.b", "10.0.0.256", "1.2", "ü.de", "http://x", "[::1]", "fe80::1%2"]
            .into_iter()
            .chain(["0x7f000001", "127.0.0.0X1", "2130706433"]);
    let own = ["localhost", "x.LOCALHOST.", "ecs.internal", "web.prod.Ecs.Internal."];
    let long = "a".repeat(64);
    let longer = "a.".repeat(128);
    for host in special.chain(no_names).chain(own).chain([long.as_str(), longer.as_str()]) {
        let problem = read_all(&with_host(host)).expect_err(host);
        assert_eq!(problem.field.as_deref(), Some("endpoints[0].host"), "{host}: {problem:?}");
    }
}

#[test]
fn keeps_everything_that_was_said() {
    let record = read_all(&json!({
        "endpoints": [
            {"host": "db.example.com", "port": 5432, "port_name": "SQL", "weight": 0, "az": "eu-west-1a"},
            {"host": "db.example.com", "port": 5432, "protocol": "udp"},
        ],
        "check": {"tcp": true, "interval": "90s"},
        "tags": ["primary"],
        "meta": {"owner": "data", "a": ""},
    }))
    .unwrap();
    let first = &record.endpoints[0];
    assert_eq!((first.port_name.as_ref().map(Label::as_str), first.weight), (Some("sql"), 0));
    assert_eq!(first.az.as_deref(), Some("eu-west-1a"));
    assert_eq!((record.endpoints[1].protocol, record.endpoints[1].weight), (Protocol::Udp, 1));
    assert_eq!(record.check_every_ms, Some(90_000));
    assert_eq!(record.tags, ["primary"]);
    assert_eq!(record.meta, [("a".to_owned(), String::new()), ("owner".to_owned(), "data".to_owned())]);
    let plain = read_all(&json!({ "endpoints": [{ "host": "db", "port": 1 }], "check": {"tcp": true} })).unwrap();
    assert_eq!(plain.check_every_ms, Some(10_000));
}

#[test]
fn errors_name_the_field() {
    let one = json!({ "host": "db", "port": 1 });
    let many: Vec<Value> = (0..101).map(|port| json!({ "host": "db", "port": port + 1 })).collect();
    let rows = [
        (json!({}), "endpoints"),
        (json!({ "endpoints": [] }), "endpoints"),
        (json!({ "endpoints": many }), "endpoints"),
        (json!({ "endpoints": "db:1" }), "endpoints"),
        (json!({ "endpoints": [one, one] }), "endpoints[1]"),
        (json!({ "endpoints": [{ "port": 1 }] }), "endpoints[0].host"),
        (json!({ "endpoints": [{ "host": "db" }] }), "endpoints[0].port"),
        (json!({ "endpoints": [{ "host": "db", "port": 0 }] }), "endpoints[0].port"),
        (json!({ "endpoints": [{ "host": "db", "port": 1, "protocol": "sctp" }] }), "endpoints[0].protocol"),
        (json!({ "endpoints": [{ "host": "db", "port": 1, "port_name": "5432" }] }), "endpoints[0].port_name"),
        (json!({ "endpoints": [{ "host": "db", "port": 1, "port_name": "a_b" }] }), "endpoints[0].port_name"),
        (json!({ "endpoints": [{ "host": "db", "port": 1, "weight": 65_536 }] }), "endpoints[0].weight"),
        (json!({ "endpoints": [{ "host": "db", "port": 1, "az": "" }] }), "endpoints[0].az"),
        (json!({ "endpoints": [{ "host": "db", "port": 1, "portname": "x" }] }), "endpoints[0].portname"),
        (json!({ "endpoints": [one], "check": {"tcp": false} }), "check.tcp"),
        (json!({ "endpoints": [one], "check": {"tcp": true, "interval": "1"} }), "check.interval"),
        (json!({ "endpoints": [one], "check": {"tcp": true, "interval": "999ms"} }), "check.interval"),
        (json!({ "endpoints": [one], "check": {"http": "/"} }), "check.tcp"),
        (json!({ "endpoints": [{ "host": "db", "port": 1, "protocol": "udp" }], "check": {"tcp": true} }), "check"),
        (json!({ "endpoints": [one], "tags": ["ok", "\u{1b}"] }), "tags[1]"),
        (json!({ "endpoints": [one], "meta": {"a b": ""} }), "meta.a b"),
        (json!({ "endpoints": [one], "meta": {"a": 1} }), "meta.a"),
        (json!({ "endpoints": [one], "ttl": 5 }), "ttl"),
        (json!(["db:1"]), "body"),
    ];
    for (body, field) in rows {
        let problem = read_all(&body).expect_err(field);
        assert_eq!(problem.field.as_deref(), Some(field), "{body}: {problem:?}");
    }
}
