//! Entries as people write them, and where names go by them.

use super::*;

fn zone() -> Zone {
    Zone::parse("ecs.internal").unwrap()
}

fn routes(entries: &str) -> Result<Routes, String> {
    let entries: Result<Vec<Upstream>, UpstreamError> = entries.split_whitespace().map(str::parse).collect();
    Routes::new(&entries.map_err(|error| error.to_string())?, &zone()).map_err(|error| error.to_string())
}

fn name(text: &str) -> Vec<u8> {
    if text == "." { vec![0] } else { Suffix::parse(text).unwrap().0 }
}

#[test]
fn the_longest_suffix_wins() {
    let entries = "10.0.0.2 consul=10.0.0.5:8600 Corp.Example.=10.1.0.2 eu.corp.example=[2001:db8::1]:5353 \
                   eu.corp.example=2001:db8::2 10.in-addr.arpa=10.1.0.3 _tcp.example=10.1.0.4";
    let routes = routes(entries).unwrap();
    let check = |text: &str, expected: &[&str]| {
        let found: Vec<String> = routes.of(&name(text)).iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, expected, "{text}");
    };
    check("example.com", &["10.0.0.2:53"]);
    check(".", &["10.0.0.2:53"]);
    check("web.service.consul", &["10.0.0.5:8600"]);
    check("consul", &["10.0.0.5:8600"]);
    check("notconsul", &["10.0.0.2:53"]);
    check("consul.com", &["10.0.0.2:53"]);
    check("corp.example", &["10.1.0.2:53"]);
    check("a.us.corp.example", &["10.1.0.2:53"]);
    check("a.eu.corp.example", &["[2001:db8::1]:5353", "[2001:db8::2]:53"]);
    check("example", &["10.0.0.2:53"]);
    check("4.3.2.10.in-addr.arpa", &["10.1.0.3:53"]);
    check("_a._tcp.example", &["10.1.0.4:53"]);
}

#[test]
fn a_suffix_never_falls_back_and_our_own_address_is_left_out() {
    let routes = routes("10.0.0.2 consul=169.254.53.53").unwrap().without(&["169.254.53.53".parse().unwrap()]);
    assert_eq!(routes.of(&name("web.consul")).len(), 0);
    assert_eq!(routes.of(&name("example.com")).len(), 1);
    let other = routes.with_default(&["10.0.0.3:53".parse().unwrap()]);
    assert_eq!(other.of(&name("example.com"))[0].to_string(), "10.0.0.3:53");
    assert_eq!(other.of(&name("web.consul")).len(), 0);
    assert!(other.has(&"10.0.0.3:53".parse().unwrap()) && !other.has(&"10.0.0.2:53".parse().unwrap()));
}

#[test]
fn says_what_is_wrong_with_an_entry() {
    let check = |entries: &str, expected: &str| assert_eq!(routes(entries).unwrap_err(), expected, "{entries}");
    check("10.0.0", "`10.0.0` is no resolver's address, such as 10.0.0.2 or 10.0.0.2:53");
    check("consul=", "`` is no resolver's address, such as 10.0.0.2 or 10.0.0.2:53");
    check("consul=10.0.0.2:dns", "`10.0.0.2:dns` is no resolver's address, such as 10.0.0.2 or 10.0.0.2:53");
    check("=10.0.0.2", "`` is no DNS suffix, such as consul or corp.example");
    check(".=10.0.0.2", "`.` is no DNS suffix, such as consul or corp.example");
    check("a..b=10.0.0.2", "`a..b` is no DNS suffix, such as consul or corp.example");
    check("*.consul=10.0.0.2", "`*.consul` is no DNS suffix, such as consul or corp.example");
    let inside = "is inside the zone `ecs.internal.`, whose names are answered here";
    check("ecs.internal=10.0.0.2", &format!("suffix `ecs.internal` {inside}"));
    check("prod.ECS.internal.=10.0.0.2", &format!("suffix `prod.ecs.internal` {inside}"));
    check("10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4", "4 resolvers for all other names: at most 3 are asked");
    check("a=10.0.0.1 a=10.0.0.2 a=10.0.0.3 a=10.0.0.4", "4 resolvers for suffix `a`: at most 3 are asked");
    let many: Vec<String> = (0..65).map(|number| format!("s{number}=10.0.0.2")).collect();
    check(&many.join(" "), "65 suffixes: at most 64 can be told apart");
}

#[test]
fn what_is_above_the_zone_or_written_twice_is_fine() {
    let routes = routes("internal=10.0.0.2 notecs.internal=10.0.0.3 10.0.0.4 10.0.0.4:53").unwrap();
    assert_eq!(routes.of(&name("ip-10-0-0-1.eu-west-1.compute.internal"))[0].to_string(), "10.0.0.2:53");
    assert_eq!(routes.of(&name("example.com")).len(), 1);
    assert!(!Routes::default().has_default());
}
