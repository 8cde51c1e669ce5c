use super::*;
use crate::registration::{DockerStatus, LeftOut};
use portolan_core::endpoint::{Protocol, Run};
use portolan_core::evidence::{LinkWish, NameCandidates};
use portolan_core::name::Label;
use portolan_core::refusal::Refusal;

fn report(id: &str) -> ContainerReport {
    ContainerReport {
        id: id.repeat(64),
        run: Run(1),
        cluster: Label::fixed("prod"),
        candidates: NameCandidates { family: Some(Label::fixed("search")), ..NameCandidates::default() },
        name: Label::fixed("app"),
        task_arn: None,
        task_id: Some("0123456789abcdef0123456789abcdef".into()),
        phase: Phase::Running,
        ports: vec![PortReport {
            container_port: 9200,
            protocol: Protocol::Tcp,
            host_port: 32768,
            addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            name: Some(Label::fixed("http")),
            registrator_name: None,
            health: Health::Passing,
            is_dynamic: true,
        }],
        link: LinkWish::default(),
        is_primary: false,
        tags: vec!["a".into(), "b".into()],
        meta: vec![("team".into(), "search".into())],
        weight: 1,
        refusals: vec![Refusal::new("label `portolan.wieght`", "is not a label of Portolan")],
        is_refused: false,
    }
}

#[test]
fn tells_a_person_what_is_registered_refused_and_left_out() {
    let refused = ContainerReport { is_refused: true, ports: Vec::new(), ..report("b") };
    let state = LocalState {
        is_complete: true,
        reports: vec![report("a"), refused],
        left_out: vec![LeftOut { id: "c".repeat(64), name: "tool".into(), reason: "its label says so".into() }],
        docker: DockerStatus {
            connection: Connection::Up { api_version: "1.41".into() },
            since_ms: 1,
            notices: vec!["something is lost".into()],
        },
        ..LocalState::default()
    };
    let expected = "\
Docker: up, API 1.41
note: something is lost

search.prod  running
  container aaaaaaaaaaaa app
  task 0123456789abcdef0123456789abcdef; the ECS service's name, once known, comes before the family's
  port 9200/tcp http at 10.0.0.7:32768 [fd00::7]:32768, chosen by Docker, passing
  tags a, b
  meta team=search
  refused label `portolan.wieght`: is not a label of Portolan

search.prod  REFUSED
  container bbbbbbbbbbbb app
  task 0123456789abcdef0123456789abcdef; the ECS service's name, once known, comes before the family's
  no port to register
  tags a, b
  meta team=search
  refused label `portolan.wieght`: is not a label of Portolan

left out
  cccccccccccc tool: its label says so
";
    assert_eq!(render(&state, Format::Text), expected);
}

#[test]
fn says_that_docker_is_out_of_reach() {
    let connection = Connection::Down { reason: "no such file".into() };
    let state = LocalState { docker: DockerStatus { connection, ..DockerStatus::default() }, ..LocalState::default() };
    let text = render(&state, Format::Text);
    assert!(text.starts_with("Docker: out of reach: no such file\nnote: not everything was seen yet"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&render(&state, Format::Json)).unwrap();
    assert_eq!(json["docker"]["connection"]["down"]["reason"], "no such file");
}
