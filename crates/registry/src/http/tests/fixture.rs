//! A catalog made by hand: `es` in clusters `prod` and `test`, `web` in `prod`, one node that speaks, one silent.

use std::sync::Arc;

use portolan_core::ecs::Stop;
use portolan_core::endpoint::{Endpoint, EndpointKey, Protocol, Run, State};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::refusal::Refusal;
use portolan_core::rules::{Deadline, Ecs, LastCheck, Neighbours, Operator, Rule, Sidecar, Witnesses, Word, decide};
use portolan_core::view::{EndpointSet, Link, LinkMode, LinkPort, Node, Readiness, Service};

use crate::catalog::{
    Candidate, Catalog, Deployment, Doubted, Ending, Event, Explained, NameSource, NodeStatus, ServiceRecord, Silence,
    Since, StoppedTask,
};

/// 2026-01-02T03:04:05Z.
pub(super) const THEN_MS: u64 = 1_767_323_045_000;
/// The index at which the catalog was complete.
pub(super) const FIRST: u64 = 1_000;

pub(super) fn key(service: &'static str, cluster: &'static str) -> ServiceKey {
    ServiceKey { cluster: Label::fixed(cluster), service: Label::fixed(service) }
}

pub(super) fn node(name: &'static str) -> NodeKey {
    NodeKey { cluster: Label::fixed("prod"), node: Label::fixed(name) }
}

/// The endpoint of container `number`, listening at host port 30000 + `number`.
pub(super) fn endpoint(number: u16, word: Word) -> Endpoint {
    let key = EndpointKey {
        node: node("n1"),
        container_id: format!("{number:064x}"),
        run: Run(THEN_MS * 1_000_000),
        container_port: 9200,
        protocol: Protocol::Tcp,
    };
    Endpoint {
        key,
        state: decide(&witnesses(word)).state,
        addresses: vec!["10.0.0.5".parse().unwrap()],
        port: 30_000 + number,
        port_name: Some(Label::fixed("http")),
        container: Label::fixed("es"),
        task_id: Some(format!("{number:032x}")),
        az: None,
        weight: 1,
        is_service_port: true,
        tags: vec!["<script>\u{1b}[2J".into()],
        meta: vec![("k\"".into(), "v\u{202e}".into())],
    }
}

fn witnesses(word: Word) -> Witnesses {
    Witnesses {
        sidecar: Sidecar::Speaks(word),
        ecs: Ecs::NotUsed,
        neighbours: Neighbours::NotKnown,
        deadline: Deadline::Running,
        operator: Operator::Nothing,
    }
}

fn candidate(endpoint: &Endpoint, word: Word) -> Candidate {
    let witnesses = witnesses(word);
    Candidate {
        key: endpoint.key.clone(),
        container: endpoint.container.clone(),
        source: NameSource::Compose,
        task_id: endpoint.task_id.clone(),
        addresses: endpoint.addresses.clone(),
        port: endpoint.port,
        witnesses,
        since: Since { sidecar_ms: THEN_MS, ..Since::default() },
        since_ms: THEN_MS,
        decision: decide(&witnesses),
        is_held: false,
        ending: (word == Word::Died).then_some(Ending { exit_code: Some(137), is_out_of_memory: true, at_ms: THEN_MS }),
        refusals: Vec::new(),
        is_refused: false,
    }
}

/// Puts a service with these endpoints in, at `index`, and says what happened to each.
pub(super) fn put(catalog: &mut Catalog, key: &ServiceKey, words: &[(u16, Word)], index: u64) {
    let all: Vec<(Endpoint, Word)> = words.iter().map(|(number, word)| (endpoint(*number, *word), *word)).collect();
    let answered = all.iter().map(|(endpoint, _)| endpoint).filter(|endpoint| endpoint.state != State::Gone);
    let link = Link {
        address: "198.18.7.9".parse().unwrap(),
        mode: LinkMode::Vip,
        ports: vec![LinkPort { port: 9200, container_port: 9200, protocol: Protocol::Tcp }],
        plane: None,
    };
    catalog.view.insert_service(Arc::new(Service {
        key: key.clone(),
        index,
        link: (key.service.as_str() == "es").then_some(link),
        endpoints: EndpointSet::Known(answered.cloned().collect()),
    }));
    let candidates: Vec<Candidate> = all.iter().map(|(endpoint, word)| candidate(endpoint, *word)).collect();
    let before = catalog.explained.get(key).cloned();
    for candidate in &candidates {
        let earlier = before.iter().flat_map(|b| &b.candidates).find(|earlier| earlier.key == candidate.key);
        let from = earlier.map(|earlier| earlier.decision.state);
        if from != Some(candidate.decision.state) {
            let event = Event {
                index,
                at_ms: THEN_MS,
                service: key.clone(),
                endpoint: candidate.key.clone(),
                container: candidate.container.clone(),
                from,
                to: candidate.decision.state,
                rule: Some(candidate.decision.rule),
                order_reason: None,
                exit_code: candidate.ending.as_ref().and_then(|ending| ending.exit_code),
                is_out_of_memory: candidate.ending.is_some(),
            };
            catalog.events.push_back(Arc::new(event));
        }
    }
    let explained =
        Explained { key: key.clone(), owner: None, link: None, candidates, refusals: Vec::new(), stopped: Vec::new() };
    catalog.explained.insert(key.clone(), Arc::new(explained));
    catalog.view.index = index;
    catalog.revision += 1;
}

/// Everything of the first line of this file.
pub(super) fn catalog() -> Catalog {
    let mut catalog = Catalog { epoch: "e1".into(), first_index: FIRST, ..Catalog::default() };
    catalog.view.readiness = Readiness::Current;
    let stopping = Word::Stopping(LastCheck::Passed);
    put(&mut catalog, &key("es", "prod"), &[(1, Word::Passing), (2, stopping), (3, Word::Died)], FIRST);
    put(&mut catalog, &key("es", "test"), &[(4, Word::Passing)], FIRST);
    put(&mut catalog, &key("web", "prod"), &[], FIRST);
    let mut bad = candidate(&endpoint(9, Word::Passing), Word::Passing);
    bad.is_refused = true;
    bad.refusals.push(Refusal::new("label `portolan.service`", "holds \u{1b}]0;x"));
    let hidden = Explained {
        key: key("hidden", "prod"),
        owner: None,
        link: None,
        candidates: vec![bad],
        refusals: vec![Refusal::new("service", "refused as a whole")],
        stopped: Vec::new(),
    };
    catalog.explained.insert(hidden.key.clone(), Arc::new(hidden));
    catalog.events.clear();
    for (name, silence) in [("n1", None), ("n2", Some(Silence { since_ms: THEN_MS + 5_000, passage: None }))] {
        put_node(&mut catalog, node(name), silence);
    }
    catalog
}

pub(super) fn put_node(catalog: &mut Catalog, key: NodeKey, silence: Option<Silence>) {
    catalog.view.insert_node(Arc::new(Node {
        key: key.clone(),
        host_name: Some(Label::fixed("host-a")),
        addresses: vec!["10.0.0.5".parse().unwrap()],
        az: None,
    }));
    let status = NodeStatus {
        key: key.clone(),
        host_name: Some(Label::fixed("host-a")),
        addresses: vec!["10.0.0.5".parse().unwrap()],
        az: Some("eu-west-1a".into()),
        has_sidecar: true,
        version: "0.1.0".into(),
        boot_id: "b".into(),
        session: 1,
        generation: 1,
        speaking_since_ms: THEN_MS,
        silence,
        presence_revision: None,
        reported_at_ms: THEN_MS,
        containers: 4,
        unnamed: 0,
        refusals: Vec::new(),
    };
    catalog.nodes.insert(key, Arc::new(status));
    catalog.revision += 1;
}

/// The rule that a passing endpoint is usable by; its text is shown.
pub(super) const PASSING: Rule = Rule::Passing;

/// Has a limit hold the first candidate of `es` back, and tells of a task of it that stopped, with what ECS says of the
/// service.
pub(super) fn hold(catalog: &mut Catalog) {
    let key = key("es", "prod");
    let mut explained = Explained::clone(catalog.explained.get(&key).unwrap());
    let first = &mut explained.candidates[0];
    (first.is_held, first.witnesses.ecs) = (true, Ecs::Missing);
    first.witnesses.operator = Operator::Drained;
    first.since = Since { ecs_ms: THEN_MS + 60_000, operator_ms: THEN_MS + 80_000, ..first.since };
    let doubted = Doubted { held: 1, held_on: [first.key.node.clone()].into() };
    explained.stopped.push(StoppedTask {
        task_id: format!("{:032x}", 8),
        family: Some(Label::fixed("es")),
        stop: Stop { code: "TaskFailedToStart".into(), reason: "no image".into(), at_ms: THEN_MS },
        containers: vec![(Label::fixed("es"), Some(1), Some("CannotPullContainerError".into()))],
    });
    catalog.doubted.insert(key.clone(), Arc::new(doubted));
    catalog.explained.insert(key.clone(), Arc::new(explained));
    let deployment = Deployment {
        id: "ecs-svc/1".into(),
        status: "PRIMARY".into(),
        rollout_state: "FAILED".into(),
        reason: String::new(),
        task_definition: "es:7".into(),
        desired: 3,
        running: 1,
        failed: 2,
    };
    let (name, arn, deployments) = ("es".into(), "arn".into(), vec![deployment]);
    let record = ServiceRecord { name, arn, desired: 3, running: 1, pending: 1, deployments };
    catalog.stated.services.insert(key, Arc::new(record));
}
