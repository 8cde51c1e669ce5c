//! Every row of the table of names, and what no name may do.

use proptest::prelude::*;

use super::*;

fn zone() -> Zone {
    Zone::parse("ecs.internal.").unwrap()
}

fn meaning(name: &str) -> Meaning {
    let labels: Vec<&[u8]> =
        name.trim_end_matches('.').split('.').filter(|l| !l.is_empty()).map(str::as_bytes).collect();
    lookup(&labels, &zone())
}

fn es(part: Part) -> Meaning {
    Meaning::Service(ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed("elasticsearch") }, part)
}

#[test]
fn knows_every_row_of_the_table() {
    let check = |name: &str, expected: Meaning| assert_eq!(meaning(name), expected, "{name}");
    check("elasticsearch.prod.ecs.internal", es(Part::Whole));
    check("ElasticSearch.PROD.ecs.INTERNAL", es(Part::Whole));
    check("_http._tcp.elasticsearch.prod.ecs.internal", es(Part::Port(Label::fixed("http"), Protocol::Tcp)));
    check("_9200._UDP.elasticsearch.prod.ecs.internal", es(Part::Port(Label::fixed("9200"), Protocol::Udp)));
    check("_tcp.elasticsearch.prod.ecs.internal", es(Part::ProtocolBranch(Protocol::Tcp)));
    check("app.elasticsearch.prod.ecs.internal", es(Part::Named(Label::fixed("app"))));
    check("0123456789ab.elasticsearch.prod.ecs.internal", es(Part::Named(Label::fixed("0123456789ab"))));
    check("Direct.elasticsearch.prod.ecs.internal", es(Part::Direct));
    let node = NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("i-0abc") };
    check("i-0abc.node.prod.ecs.internal", Meaning::Node(node));
    check("node.prod.ecs.internal", Meaning::NodeBranch(Label::fixed("prod")));
    check("prod.ecs.internal", Meaning::Cluster(Label::fixed("prod")));
    check("addr.ecs.internal", Meaning::AddressBranch);
    check("ip-10-0-3-7.addr.ecs.internal", Meaning::Address("10.0.3.7".parse().unwrap()));
    check("ip6-20010DB8000000000000000000000001.addr.ecs.internal", Meaning::Address("2001:db8::1".parse().unwrap()));
    check("elasticsearch", Meaning::Bare(Label::fixed("elasticsearch")));
    check("7.3.0.10.in-addr.arpa", Meaning::Reverse("10.0.3.7".parse().unwrap()));
    check("ecs.internal", Meaning::Apex);
}

#[test]
fn says_unknown_within_the_zone_and_outside_elsewhere() {
    for name in [
        "x._9200._tcp.elasticsearch.prod.ecs.internal",
        "_9200._sctp.elasticsearch.prod.ecs.internal",
        "_http.elasticsearch.prod.ecs.internal",
        "9200._tcp.elasticsearch.prod.ecs.internal",
        "a_b.prod.ecs.internal",
        "node.ecs.internal",
        "x.node.ecs.internal",
        "ip-010-0-3-7.addr.ecs.internal",
        "ip-10-0-3.addr.ecs.internal",
        "ip-10-0-3-256.addr.ecs.internal",
        "ip6-+0010db8000000000000000000000001.addr.ecs.internal",
        "x.ip-10-0-3-7.addr.ecs.internal",
        "a.b.node.prod.ecs.internal",
        "elasticsearch.prod.ecs.internal.prod.ecs.internal",
    ] {
        assert_eq!(meaning(name), Meaning::Unknown, "{name}");
    }
    for name in [
        "",
        "localhost",
        "WPAD",
        "internal.example",
        "example.com",
        "a_b",
        "xecs.internal",
        "in-addr.arpa",
        "10.in-addr.arpa",
        "07.3.0.10.in-addr.arpa",
        "1.7.3.0.10.in-addr.arpa",
        "x.3.0.10.in-addr.arpa",
        "1.ip6.arpa",
    ] {
        assert_eq!(meaning(name), Meaning::Outside, "{name}");
    }
}

#[test]
fn finds_our_name_before_a_search_suffix() {
    let check = |name: &str, expected: Option<&str>| {
        let labels: Vec<&[u8]> = name.split('.').map(str::as_bytes).collect();
        let found = zone().searched(&labels).map(|head| head.join(&b'.'));
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name}");
    };
    check("web.prod.ecs.internal.example.com", Some("web.prod.ecs.internal"));
    check("web.prod.ECS.internal.ecs.internal.com", Some("web.prod.ECS.internal"));
    check("x.ecs.internal.a", Some("x.ecs.internal"));
    check("ecs.internal.example.com", None);
    check("web.prod.ecs.internal", None);
    check("web.prod.ecs.example.internal", None);
    check("a", None);
}

#[test]
fn a_bare_name_belongs_to_the_askers_cluster() {
    assert_eq!(meaning("elasticsearch").in_cluster(&Label::fixed("prod")), es(Part::Whole));
    assert_eq!(meaning("node").in_cluster(&Label::fixed("prod")), Meaning::Bare(Label::fixed("node")));
}

#[test]
fn reads_what_people_type() {
    let check = |text: &str, expected: Result<Meaning, TextError>| assert_eq!(parse(text, &zone()), expected, "{text}");
    check("elasticsearch", Ok(Meaning::Bare(Label::fixed("elasticsearch"))));
    check("elasticsearch.prod", Ok(es(Part::Whole)));
    check("elasticsearch.prod.ecs.internal", Ok(es(Part::Whole)));
    check("_9200._tcp.elasticsearch.prod", Ok(es(Part::Port(Label::fixed("9200"), Protocol::Tcp))));
    check("10.0.3.7", Ok(Meaning::Reverse("10.0.3.7".parse().unwrap())));
    check("2001:db8::1", Ok(Meaning::Reverse("2001:db8::1".parse().unwrap())));
    check("example.com.", Ok(Meaning::Outside));
    check("<script>.prod", Ok(Meaning::Unknown));
    check("", Err(TextError::Empty));
    check(".", Err(TextError::Empty));
    check("a..b", Err(TextError::NotAName("a..b".into())));
    check(&"x".repeat(64), Err(TextError::NotAName("x".repeat(64))));
    check(&"x.".repeat(200), Err(TextError::TooLong(399)));
}

#[test]
fn refuses_what_cannot_be_a_zone() {
    assert_eq!(zone().to_string(), "ecs.internal.");
    for text in ["", ".", "a..b", "_x.y", &"a.".repeat(11), &"abcdefghij.".repeat(10)] {
        assert!(Zone::parse(text).is_err(), "{text}");
    }
}

fn any_label() -> impl Strategy<Value = Label> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?".prop_map(|text| Label::parse(&text).unwrap())
}

fn any_service() -> impl Strategy<Value = ServiceKey> {
    let free = || any_label().prop_filter("reserved", |l| !["addr", "node"].contains(&l.as_str()));
    (free(), free()).prop_map(|(cluster, service)| ServiceKey { cluster, service })
}

fn any_meaning() -> impl Strategy<Value = Meaning> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let part = prop_oneof![
        Just(Part::Whole),
        Just(Part::Direct),
        (any_label(), protocol.clone()).prop_map(|(port, protocol)| Part::Port(port, protocol)),
        protocol.prop_map(Part::ProtocolBranch),
        any_label().prop_filter("reserved", |l| l.as_str() != "direct").prop_map(Part::Named),
    ];
    prop_oneof![
        Just(Meaning::Apex),
        Just(Meaning::AddressBranch),
        any_service().prop_map(|key| Meaning::Cluster(key.cluster)),
        any_service().prop_map(|key| Meaning::NodeBranch(key.cluster)),
        (any_service(), any_label()).prop_map(|(key, node)| Meaning::Node(NodeKey { cluster: key.cluster, node })),
        (any_service(), part).prop_map(|(key, part)| Meaning::Service(key, part)),
        any::<IpAddr>().prop_map(Meaning::Address),
        any::<IpAddr>().prop_map(Meaning::Reverse),
    ]
}

proptest! {
    #[test]
    fn never_panics(name in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..40), is_below: bool) {
        let mut labels: Vec<&[u8]> = name.iter().map(Vec::as_slice).collect();
        if is_below {
            labels.extend([&b"prod"[..], b"ecs", b"internal"]);
        }
        lookup(&labels, &zone());
    }

    #[test]
    fn never_panics_on_text(text in any::<String>()) {
        parse(&text, &zone()).ok();
    }

    #[test]
    fn comes_back_from_its_full_name(expected in any_meaning(), is_upper: bool) {
        let name = expected.full_name(&zone()).unwrap();
        prop_assert_eq!(meaning(&if is_upper { name.to_ascii_uppercase() } else { name }), expected);
    }
}
