//! A report survives the wire, and a bad container costs only itself.

use super::*;

fn report() -> NodeReport {
    let port = PortReport {
        container_port: 9200,
        protocol: Protocol::Tcp,
        host_port: 32768,
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        name: Some(Label::fixed("http")),
        registrator_name: None,
        health: Health::Passing,
        is_dynamic: true,
    };
    let container = ContainerReport {
        id: "ab".repeat(32),
        run: Run(7),
        cluster: Label::fixed("prod"),
        candidates: NameCandidates { family: Some(Label::fixed("elasticsearch")), ..NameCandidates::default() },
        name: Label::fixed("es"),
        task_arn: Some("arn:aws:ecs:eu-west-1:1:task/prod/0123".into()),
        task_id: Some("0123".into()),
        phase: Phase::Died(Ending { exit_code: Some(137), is_out_of_memory: true, at_ms: 5 }),
        ports: vec![port],
        link: LinkWish { mode: Some(LinkMode::Vip), ports: vec![(80, 9200)], plane: Some(LinkPlane::Proxy) },
        is_primary: true,
        tags: vec!["a".into()],
        meta: vec![("k".into(), "v".into())],
        weight: 10,
        refusals: vec![Refusal::new("label `portolan.weight`", "is not a number")],
        is_refused: false,
    };
    NodeReport {
        node: NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("i-1") },
        boot_id: "boot".into(),
        session: 3,
        generation: 4,
        host_name: Some(Label::fixed("host")),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        az: Some("eu-west-1a".into()),
        version: "0.1.0".into(),
        containers: vec![container],
    }
}

#[test]
fn survives_the_wire() {
    let decoded = decode(&encode(&report())).unwrap();
    assert_eq!(decoded, Decoded { report: report(), left_out: Vec::new() });
}

#[test]
fn a_bad_container_costs_only_itself() {
    let mut message = wire::NodeReport::decode(encode(&report()).as_slice()).unwrap();
    let mut bad = message.containers[0].clone();
    bad.ports[0].host_port = 70_000;
    bad.name = "bad".into();
    message.containers.push(bad);
    let decoded = decode(&message.encode_to_vec()).unwrap();
    assert_eq!(decoded.report, report());
    assert_eq!(decoded.left_out.len(), 1);
    assert!(decoded.left_out[0].reason.contains("70000 is over 65535"), "{:?}", decoded.left_out);
}

#[test]
fn refuses_bytes_that_say_no_node() {
    assert!(matches!(decode(&[]), Err(DecodeError::Node(_))));
    assert!(matches!(decode(&[0xff; 40]), Err(DecodeError::Message(_))));
}
