use super::*;
use crate::evidence::LinkPlane;
use crate::view::LinkMode;
use proptest::prelude::*;

fn read(labels: &[(&str, &str)]) -> Declaration {
    parse(labels.iter().copied(), [])
}

fn label(text: &'static str) -> Option<Label> {
    Some(Label::fixed(text))
}

#[test]
fn reads_every_label_of_the_contract() {
    let read = read(&[
        ("portolan.service", "Elastic_Search"),
        ("portolan.ignore", "false"),
        ("portolan.port.9200", "http"),
        ("portolan.port.9300", "ignore"),
        ("portolan.tags", r"a, b\,c,,"),
        ("portolan.meta.team", "search & find"),
        ("portolan.weight", "10"),
        ("portolan.check", "docker"),
        ("portolan.check.9200", "http:/_cluster/health?local=true"),
        ("portolan.check.interval", "1m500ms"),
        ("portolan.link", "vip"),
        ("portolan.link.port.80", "9200"),
        ("portolan.link.plane", "ebpf"),
        ("portolan.primary", "true"),
        ("com.example.other", "\u{0}"),
    ]);
    assert_eq!(read.refusals, []);
    assert_eq!((read.service, read.is_ignored, read.is_primary), (label("elastic-search"), false, true));
    assert_eq!(read.tags, ["a", "b,c"]);
    assert_eq!(read.meta, BTreeMap::from([("team".to_owned(), "search & find".to_owned())]));
    assert_eq!(
        (read.weight, read.check, read.check_interval),
        (10, Some(Check::Docker), Some(Duration::from_millis(60_500)))
    );
    let http = Check::Http { path: "/_cluster/health?local=true".to_owned() };
    assert_eq!(read.ports[&9200], PortDeclaration { name: label("http"), check: Some(http), ..Default::default() });
    assert!(read.ports[&9300].is_ignored);
    assert_eq!((read.link.mode, read.link.plane), (Some(LinkMode::Vip), Some(LinkPlane::Ebpf)));
    assert_eq!(read.link.ports, [(80, 9200)]);
}

#[test]
fn reads_registrator_with_labels_over_variables() {
    let variables = [
        "SERVICE_NAME=fromenv",
        "SERVICE_TAGS=env",
        "SERVICE_8080_NAME=_calc._tcp",
        "SERVICE_8080_CHECK_HTTP=health",
        "SERVICE_8080_CHECK_TCP=true",
        "SERVICE_9090_IGNORE=yes",
        "SERVICE_REGION=eu",
        "SERVICE_DB_PASSWORD=hunter2",
        "SERVICE_CHECK_INTERVAL=15s",
        "SERVICE_CHECK_CMD=/bin/true",
        "SERVICES=unrelated",
        "PATH=/bin",
    ];
    let read = parse([("SERVICE_NAME", "fromlabel"), ("SERVICE_8080_TAGS", "x")], variables);
    assert_eq!(read.registrator, label("fromlabel"));
    assert_eq!(read.tags, ["env"]);
    let calc = &read.ports[&8080];
    assert_eq!((calc.registrator_name.clone(), calc.registrator_protocol), (label("calc"), Some(Protocol::Tcp)));
    assert_eq!(calc.check, Some(Check::Http { path: "/health".to_owned() }));
    assert_eq!(calc.tags, ["x"]);
    assert!(read.ports[&9090].is_ignored);
    assert_eq!(read.meta, BTreeMap::from([("region".to_owned(), "eu".to_owned())]));
    assert_eq!(read.check_interval, Some(Duration::from_secs(15)));
    let refused: Vec<&str> = read.refusals.iter().map(|refusal| refusal.field.as_str()).collect();
    assert_eq!(refused, ["variable `SERVICE_CHECK_CMD`", "variable `SERVICE_DB_PASSWORD`"]);
    assert!(!format!("{:?}", read.refusals).contains("hunter2"));
}

#[test]
fn our_labels_win_over_registrators() {
    let read = read(&[("SERVICE_TAGS", "a"), ("portolan.tags", "b"), ("SERVICE_X", "1"), ("portolan.meta.x", "2")]);
    assert_eq!(read.tags, ["b"]);
    assert_eq!(read.meta["x"], "2");
}

#[test]
fn refuses_each_hostile_value_with_its_field_and_what_is_accepted() {
    let long = "x".repeat(65_536);
    let many_tags = vec!["t"; 65].join(",");
    let cases: &[(&str, &str, &str)] = &[
        ("portolan.service", "..", "no letter or digit"),
        ("portolan.service", "<script>alert(1)</script>", "letters, digits and hyphens"),
        ("portolan.service", &long, "at most 4096"),
        ("portolan.service", "node", "reserved"),
        ("portolan.ignore", "perhaps", "`true`"),
        ("portolan.port.70000", "http", "1 to 65535"),
        ("portolan.port.0", "http", "1 to 65535"),
        ("portolan.port.+80", "http", "1 to 65535"),
        ("portolan.port.80", "a\u{1b}[31m", "letters, digits"),
        ("portolan.tags", &many_tags, "at most 64"),
        ("portolan.tags", "a\u{202e}b", "printable"),
        ("portolan.meta.a b", "x", "key"),
        ("portolan.meta.x", "\u{fffd}", "printable"),
        ("portolan.weight", "-1", "0 to 65535"),
        ("portolan.check", "exec:/bin/sh", "`tcp`"),
        ("portolan.check", "http://169.254.169.254/", "a slash"),
        ("portolan.check.80", "http:/a b", "a slash"),
        ("portolan.check.interval", "1ms", "250ms"),
        ("portolan.check.interval", "99999999999h", "250ms"),
        ("portolan.link", "virtual", "`vip`"),
        ("portolan.link.port.80", "65536", "1 to 65535"),
        ("portolan.link.plane", "xdp", "`ebpf`"),
        ("portolan.servcie", "x", "`portolan.service`"),
        ("portolan.prot.80", "x", "`portolan.port....`"),
        ("SERVICE_99999_NAME", "x", "1 to 65535"),
    ];
    for (key, value, accepted) in cases {
        let read = read(&[(key, value), ("portolan.meta.kept", "yes")]);
        assert_eq!(read.refusals.len(), 1, "{key}={}", &value[..value.len().min(30)]);
        let refusal = &read.refusals[0];
        assert!(refusal.field.contains(key), "{refusal:?}");
        assert!(refusal.reason.contains(accepted), "{refusal:?}");
        assert_eq!(read.is_refused, *key == "portolan.service", "{key}");
        assert_eq!(read.meta.get("kept").map(String::as_str), Some("yes"), "{key}");
    }
}

#[test]
fn the_strongest_name_that_was_written_decides_whether_a_container_is_refused() {
    assert!(read(&[("SERVICE_NAME", "..")]).is_refused);
    assert!(read(&[("SERVICE_NAME", "good"), ("portolan.service", "..")]).is_refused);
    assert!(!read(&[("SERVICE_NAME", ".."), ("portolan.service", "good")]).is_refused);
}

#[test]
fn a_port_whose_own_service_name_is_refused_is_left_out() {
    let read = read(&[("SERVICE_80_NAME", "<b>"), ("SERVICE_81_NAME", &"x".repeat(5000))]);
    assert!(read.ports[&80].is_ignored && read.ports[&81].is_ignored && !read.is_refused);
}

#[test]
fn sums_up_what_exceeds_the_limits() {
    let keys: Vec<String> = (0..1000).map(|n| format!("portolan.unknown{n}")).collect();
    let read = parse(keys.iter().map(|key| (key.as_str(), "")), []);
    assert_eq!(read.refusals.len(), REFUSALS_MAX + 1);
    assert_eq!(read.refusals.last().unwrap().reason, "968 more were refused");
    let keys: Vec<String> = (0..100).map(|n| format!("portolan.meta.k{n}")).collect();
    let read = parse(keys.iter().map(|key| (key.as_str(), "v")), []);
    assert_eq!((read.meta.len(), read.refusals.len()), (META_MAX, 33));
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        "(portolan\\.|SERVICE_)(service|ignore|port|check|link|meta|tags|[0-9]{0,6})[._]?(port|[0-9]{0,6}|NAME|TAGS|CHECK_HTTP)\\PC{0,3}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn never_panics_and_keeps_its_bounds(
        labels in proptest::collection::vec((key(), any::<String>()), 0..40),
        variables in proptest::collection::vec(any::<String>(), 0..10),
    ) {
        let read = parse(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())), variables.iter().map(String::as_str));
        prop_assert!(read.refusals.len() <= REFUSALS_MAX + 1);
        prop_assert!(read.tags.len() <= TAGS_MAX && read.meta.len() <= META_MAX && read.ports.len() <= PORTS_MAX);
        for refusal in &read.refusals {
            prop_assert!(!refusal.reason.chars().chain(refusal.field.chars()).any(char::is_control));
        }
    }
}
