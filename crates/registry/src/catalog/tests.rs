mod declared;
mod ecs;
mod names;
mod rebuild;

use portolan_core::endpoint::Run;
use portolan_core::evidence::{ContainerReport, Health, LinkPlane, Phase};
use portolan_core::view::{LinkMode, LinkPort, ReverseName};
use proptest::prelude::*;

use super::*;
use crate::store::record::{LinkDecision, Passage};
use crate::store::{Key, Transaction};
use crate::testing::{World, container, died, label, node, port, report, service};

async fn world_of(containers: Vec<ContainerReport>) -> World {
    let mut world = World::new().await;
    world.report(&report("i-1", containers)).await;
    world
}

fn labelled(mut container: ContainerReport, name: &str) -> ContainerReport {
    container.candidates.label = Some(label(name));
    container
}

#[tokio::test]
async fn follows_a_container_from_its_start_to_its_end() {
    let mut web = container("a", "web");
    web.ports[0].health = Health::Starting;
    let mut world = world_of(vec![web.clone()]).await;
    assert_eq!(world.states("web").unwrap(), ["starting"]);
    web.ports[0].health = Health::Passing;
    for (phase, health, expected) in [
        (Phase::Running, Health::Passing, "usable"),
        (Phase::Running, Health::Failing, "unusable"),
        (Phase::Running, Health::Passing, "usable"),
        (Phase::Paused, Health::Passing, "unusable"),
        (Phase::Stopping, Health::Passing, "draining"),
    ] {
        (web.phase, web.ports[0].health) = (phase, health);
        world.report(&report("i-1", vec![web.clone()])).await;
        assert_eq!(world.states("web").unwrap(), [expected]);
    }
    world.report(&report("i-1", vec![died(web.clone(), None)])).await;
    assert_eq!(world.states("web").unwrap(), [""; 0], "known, with no endpoint");
    world.report(&report("i-1", vec![died(web, Some(137))])).await;
    world.report(&report("i-1", vec![])).await;
    let catalog = world.catalog();
    let told: Vec<_> =
        catalog.events.iter().map(|e| (e.from.map(|s| s.as_str()), e.to.as_str(), e.exit_code)).collect();
    let expected = [
        (None, "starting", None),
        (Some("starting"), "usable", None),
        (Some("usable"), "unusable", None),
        (Some("unusable"), "usable", None),
        (Some("usable"), "unusable", None),
        (Some("unusable"), "draining", None),
        (Some("draining"), "gone", None),
        (Some("gone"), "gone", Some(137)),
    ];
    assert_eq!(told, expected);
    assert!(catalog.events.iter().all(|e| e.rule.is_some() && e.at_ms == crate::testing::NOW_MS));
}

#[tokio::test]
async fn chooses_the_strongest_name() {
    let mut c = container("a", "family");
    c.ports.push(port(9300, 9300));
    let mut expected = vec![];
    let mut check = async |c: &ContainerReport, names: &[&str]| {
        let world = world_of(vec![c.clone()]).await;
        let known: Vec<_> = world.catalog().view.services.keys().map(|key| key.service.to_string()).collect();
        assert_eq!(known, names);
        expected.push(names.len());
    };
    c.candidates.container = Some(label("container"));
    check(&c, &["family"]).await;
    c.candidates.compose = Some(label("compose"));
    check(&c, &["compose"]).await;
    c.candidates.registrator = Some(label("registrator"));
    check(&c, &["registrator"]).await;
    c.ports[1].registrator_name = Some(label("transport"));
    check(&c, &["registrator", "transport"]).await;
    c.candidates.label = Some(label("label"));
    check(&c, &["label"]).await;
}

#[tokio::test]
async fn decides_a_link_once_and_keeps_its_address() {
    // Fixed ports need none.
    let mut fixed = container("a", "web");
    fixed.ports = vec![port(80, 80)];
    let mut world = world_of(vec![fixed.clone()]).await;
    assert_eq!(world.catalog().service(&service("web")).unwrap().link, None);
    // The first dynamic one does, for ever.
    let dynamic = container("b", "web");
    world.report(&report("i-1", vec![fixed.clone(), dynamic])).await;
    let link = world.catalog().service(&service("web")).unwrap().link.clone().unwrap();
    assert_eq!(link.mode, LinkMode::Vip);
    assert!(crate::testing::range().contains(&link.address));
    let ports: Vec<_> = link.ports.iter().map(|p| (p.port, p.container_port)).collect();
    assert_eq!(ports, [(80, 80), (9200, 9200)]);
    let reverse = world.catalog().view.reverse.get(&IpAddr::V4(link.address)).cloned();
    assert_eq!(reverse, Some(ReverseName::Service(service("web"))));
    world.report(&report("i-1", vec![fixed.clone()])).await;
    assert_eq!(world.catalog().service(&service("web")).unwrap().virtual_address(), Some(link.address));
    // Only a label takes it back, and again.
    fixed.link.mode = Some(LinkMode::Direct);
    world.report(&report("i-1", vec![fixed.clone()])).await;
    assert_eq!(world.catalog().service(&service("web")).unwrap().virtual_address(), None);
    fixed.link.mode = Some(LinkMode::Vip);
    world.report(&report("i-1", vec![fixed])).await;
    assert_eq!(world.catalog().service(&service("web")).unwrap().virtual_address(), Some(link.address));
    world.report(&report("i-1", vec![])).await;
    assert_eq!(world.catalog().service(&service("web")).unwrap().virtual_address(), Some(link.address));
    let decided = world.catalog().explained.get(&service("web")).unwrap().link.clone().unwrap().decided_by;
    assert_eq!(decided, LinkDecision::Label);
}

#[tokio::test]
async fn a_link_has_the_plane_that_the_youngest_run_asks_for() {
    let wishing = |id, run, plane| {
        let mut c = container(id, "web");
        (c.run, c.link.plane) = (Run(run), plane);
        c
    };
    let (older, younger) = (wishing("a", 1, Some(LinkPlane::Proxy)), wishing("b", 2, Some(LinkPlane::Ebpf)));
    let mut world = world_of(vec![wishing("a", 1, None)]).await;
    let plane = |world: &World| world.catalog().service(&service("web")).unwrap().link.as_ref().unwrap().plane;
    assert_eq!(plane(&world), None, "each node's own setting counts");
    world.report(&report("i-1", vec![older.clone(), younger])).await;
    assert_eq!(plane(&world), Some(LinkPlane::Ebpf));
    world.report(&report("i-1", vec![older, wishing("b", 2, None)])).await;
    assert_eq!(plane(&world), Some(LinkPlane::Proxy));
}

#[tokio::test]
async fn gives_a_link_the_port_that_its_label_names() {
    let mut c = container("a", "web");
    c.link.ports = vec![(80, 9200), (81, 1)];
    let world = world_of(vec![c]).await;
    let link = world.catalog().service(&service("web")).unwrap().link.clone().unwrap();
    let tcp = |port| LinkPort { port, container_port: 9200, protocol: portolan_core::endpoint::Protocol::Tcp };
    assert_eq!(link.ports, [tcp(80), tcp(9200)]);
}

#[tokio::test]
async fn keeps_a_name_with_its_owner_and_shows_who_was_refused() {
    let mut world = world_of(vec![container("a", "web")]).await;
    let mut compose = container("b", "web");
    compose.candidates = Default::default();
    compose.candidates.compose = Some(label("web"));
    world.report(&report("i-2", vec![compose.clone()])).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
    let explained = world.catalog().explained.get(&service("web")).cloned().unwrap();
    let refused: Vec<_> = explained.candidates.iter().filter(|c| c.is_refused).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].key.node, node("i-2"));
    assert!(refused[0].refusals[0].reason.contains("another owner"), "{:?}", refused[0].refusals);
    // A task of the same family that says its name by label is no stranger.
    world.report(&report("i-3", vec![labelled(container("c", "web"), "web")])).await;
    assert_eq!(world.states("web").unwrap(), ["usable", "usable"]);
    // An owner that is empty for a moment, as while its one task is replaced, keeps its name.
    world.report(&report("i-3", vec![])).await;
    world.report(&report("i-1", vec![])).await;
    assert_eq!(world.states("web").unwrap(), Vec::<&str>::new());
    world.report(&report("i-1", vec![container("d", "web")])).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
    // When nothing of the owner is left for ten minutes, the next one has it.
    world.report(&report("i-1", vec![])).await;
    world.pass_the_time_that_names_are_held().await;
    let endpoints = world.catalog().service(&service("web")).unwrap().known_endpoints().cloned().unwrap();
    assert_eq!(endpoints.iter().map(|e| e.key.node.clone()).collect::<Vec<_>>(), [node("i-2")]);
}

#[tokio::test]
async fn joins_what_asks_for_a_name_by_label() {
    let blue = labelled(container("a", "web-blue"), "web");
    let green = labelled(container("b", "web-green"), "web");
    let world = world_of(vec![blue, green]).await;
    assert_eq!(world.states("web").unwrap(), ["usable", "usable"]);
}

#[tokio::test]
async fn gives_a_port_that_two_containers_of_a_task_have_to_the_primary_one() {
    let two = |is_primary| {
        let mut app = labelled(container("a", "web"), "web");
        let mut helper = labelled(container("b", "web"), "web");
        (app.task_id, helper.task_id) = (Some("t1".into()), Some("t1".into()));
        helper.name = label("helper");
        app.is_primary = is_primary;
        vec![app, helper]
    };
    for (is_primary, expected) in [(true, [true, false]), (false, [false, false])] {
        let world = world_of(two(is_primary)).await;
        let endpoints = world.catalog().service(&service("web")).unwrap().known_endpoints().cloned().unwrap();
        assert_eq!(endpoints.iter().map(|e| e.is_service_port).collect::<Vec<_>>(), expected);
        let explained = world.catalog().explained.get(&service("web")).cloned().unwrap();
        let told = explained.candidates.iter().filter(|c| !c.refusals.is_empty()).count();
        assert_eq!(told, expected.iter().filter(|is| !**is).count());
    }
    // Containers without a task are tasks of their own.
    let mut plain = two(false);
    plain.iter_mut().for_each(|c| c.task_id = None);
    let world = world_of(plain).await;
    let endpoints = world.catalog().service(&service("web")).unwrap().known_endpoints().cloned().unwrap();
    assert!(endpoints.iter().all(|e| e.is_service_port));
}

#[tokio::test]
async fn moves_no_index_for_equal_evidence_and_only_that_of_what_changed() {
    let mut world = world_of(vec![container("a", "web"), container("b", "db")]).await;
    let before = world.catalog();
    let mut again = report("i-1", vec![container("a", "web"), container("b", "db")]);
    (again.session, again.generation) = (9, 7);
    world.report(&again).await;
    let same = world.catalog();
    assert!(same.revision > before.revision);
    assert_eq!(same.view, before.view);
    assert_eq!(same.events.len(), before.events.len());
    world.report(&report("i-1", vec![container("a", "web"), died(container("b", "db"), None)])).await;
    let after = world.catalog();
    assert_eq!(after.service_index(&service("web")), before.service_index(&service("web")));
    assert!(after.service_index(&service("db")) > before.service_index(&service("db")));
    assert_eq!(after.view.index, after.service_index(&service("db")));
    // A name that nobody has keeps its index as well.
    assert_eq!(after.service_index(&service("ghost")), before.service_index(&service("ghost")));
    assert!(after.service_index(&service("ghost")) >= 1_700_000_000_000_000);
}

#[tokio::test]
async fn doubts_a_silent_node_and_drops_it_only_when_its_deadline_passed() {
    let mut world = world_of(vec![container("a", "web"), container("b", "db")]).await;
    world.silence(&node("i-1"), None).await;
    assert_eq!(world.states("web").unwrap(), ["unverified"]);
    world.silence(&node("i-1"), Some(Passage { at_ms: 1, held: vec![service("db")] })).await;
    assert_eq!(world.states("web").unwrap(), [""; 0]);
    assert_eq!(world.states("db").unwrap(), ["unverified"], "held back");
    world.report(&report("i-1", vec![container("a", "web"), container("b", "db")])).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
}

#[tokio::test]
async fn forgets_a_service_after_thirty_empty_days_and_remembers_its_address() {
    let mut world = world_of(vec![container("a", "web")]).await;
    let address = world.catalog().service(&service("web")).unwrap().virtual_address().unwrap();
    world.report(&report("i-1", vec![])).await;
    world.expire().await;
    assert_eq!(world.states("web"), Some(vec![]), "still known");
    world.pass_the_time_that_services_are_kept();
    let index = world.catalog().service_index(&service("web"));
    world.expire().await;
    assert_eq!(world.states("web"), None);
    assert!(world.catalog().service_index(&service("web")) > index);
    assert_eq!(world.catalog().view.reverse.get(&IpAddr::V4(address)), None);
    world.report(&report("i-1", vec![container("c", "web")])).await;
    assert_eq!(world.catalog().service(&service("web")).unwrap().virtual_address(), Some(address));
}

#[tokio::test]
async fn refuses_bad_addresses_and_names_without_touching_the_rest() {
    let mut bad = container("a", "bad");
    bad.ports[0].addresses =
        ["127.0.0.1", "169.254.169.254", "198.18.0.7", "0.0.0.0", "224.0.0.1", "::1", "fe80::1", "fd00:ec2::254"]
            .map(|a| a.parse().unwrap())
            .into();
    let reserved = labelled(container("b", "x"), "wpad");
    let mut foreign = container("c", "x");
    foreign.cluster = label("addr");
    let mut hidden = container("d", "hidden");
    (hidden.is_refused, hidden.ports) = (true, Vec::new());
    hidden.refusals = vec![Refusal::new("label `portolan.check`", "is no check")];
    let world = world_of(vec![bad, reserved, foreign, hidden, container("e", "web")]).await;
    let catalog = world.catalog();
    assert_eq!(catalog.view.services.keys().collect::<Vec<_>>(), [&service("web")]);
    assert!(catalog.explained.get(&service("bad")).unwrap().candidates[0].is_refused);
    assert_eq!(catalog.explained.get(&service("hidden")).unwrap().refusals.len(), 1);
    let refusals = &catalog.nodes.get(&node("i-1")).unwrap().refusals;
    assert_eq!(refusals.len(), 3, "{refusals:?}");
}

#[tokio::test]
async fn bounds_what_one_node_can_claim() {
    let many = (0..2_100).map(|i| container(&i.to_string(), &format!("s{i}"))).collect();
    let mut world = world_of(many).await;
    assert_eq!(world.catalog().view.services.len(), 1_000);
    assert!(world.catalog().nodes.get(&node("i-1")).unwrap().refusals.len() <= 200);
    world.report(&report("i-2", vec![container("a", "web")])).await;
    assert_eq!(world.states("web").unwrap(), ["usable"]);
}

#[tokio::test]
async fn bounds_the_ports_of_a_service_and_leaves_out_those_that_are_gone_first() {
    let many = |first: u16, is_dead: bool| {
        let one = move |id: u16| {
            let mut c = container(&id.to_string(), "web");
            c.ports = (1..=150).map(|number| port(number, 1_000 + number)).collect();
            if is_dead { died(c, None) } else { c }
        };
        (first..first + 80).map(one).collect::<Vec<_>>()
    };
    let mut world = world_of(many(0, true)).await;
    world.report(&report("i-2", many(80, false))).await;
    let explained = world.catalog().explained.get(&service("web")).cloned().unwrap();
    assert_eq!((explained.candidates.len(), explained.refusals.len()), (20_000, 1));
    assert!(explained.refusals[0].reason.contains("4000 were left out"), "{:?}", explained.refusals);
    assert_eq!(world.states("web").unwrap().len(), 12_000);
}

#[tokio::test]
async fn answers_and_shows_only_a_nodes_ordinary_addresses() {
    let mut world = World::new().await;
    let hostile = ["127.0.0.1", "169.254.169.254", "198.18.0.7", "::1"].map(|a| a.parse().unwrap());
    let many = (1..=20).map(|last| IpAddr::from([10, 0, 1, last]));
    let told = portolan_core::evidence::NodeReport {
        addresses: hostile.into_iter().chain(many).collect(),
        ..report("i-1", vec![])
    };
    world.report(&told).await;
    let catalog = world.catalog();
    assert_eq!(catalog.view.nodes.get(&node("i-1")).unwrap().addresses.len(), 16);
    assert!(hostile.iter().all(|address| catalog.view.reverse.get(address).is_none()));
    let refusals = &catalog.nodes.get(&node("i-1")).unwrap().refusals;
    assert!(refusals[0].reason.starts_with("8 were left out"), "{refusals:?}");
}

#[tokio::test]
async fn shows_a_report_that_cannot_be_read() {
    let mut world = world_of(vec![container("a", "web")]).await;
    world.commit(Transaction::at(1).putting(Key::Node(node("i-1")), "\u{0}garbage")).await;
    assert_eq!(world.states("web").unwrap(), [""; 0]);
    assert!(world.catalog().nodes.get(&node("i-1")).is_none_or(|n| !n.refusals.is_empty()));
}

/// What may happen to a cluster of three nodes with four containers each, of three services.
#[derive(Debug, Clone)]
enum Step {
    Report { node: usize, containers: Vec<(usize, usize, usize)> },
    Silence { node: usize, is_passed: bool },
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let containers = prop::collection::vec((0..4usize, 0..3usize, 0..6usize), 0..5);
    prop_oneof![
        6 => (0..3usize, containers).prop_map(|(node, containers)| Step::Report { node, containers }),
        2 => (0..3usize, any::<bool>()).prop_map(|(node, is_passed)| Step::Silence { node, is_passed }),
        1 => Just(Step::Reload),
    ]
}

fn made(id: usize, family: usize, kind: usize) -> ContainerReport {
    let mut c = container(&id.to_string(), &format!("s{family}"));
    c.run = Run(1 + family as u64);
    match kind {
        0 => c.phase = Phase::Stopping,
        1 => c.phase = Phase::Paused,
        2 => c.ports[0].health = Health::Starting,
        3 => c = died(c, Some(1)),
        _ => {}
    }
    c
}

/// The model: of each node the last report and whether it is silent; the state of each endpoint in a word.
type Model = std::collections::BTreeMap<usize, (Vec<(usize, usize, usize)>, Option<bool>)>;

fn expected(model: &Model, family: usize) -> Vec<String> {
    let mut states = Vec::new();
    for (containers, silence) in model.values() {
        let mut seen = std::collections::BTreeSet::new();
        let mut here: Vec<_> = containers.iter().filter(|(id, family, _)| seen.insert((*id, *family))).collect();
        here.sort_by_key(|(id, ..)| *id);
        for (_, _, kind) in here.into_iter().filter(|(_, f, _)| *f == family) {
            states.push(match (kind, silence) {
                (0, _) => "draining",
                (1, _) => "unusable",
                (2, _) => "starting",
                (3, _) | (_, Some(true)) => continue,
                (_, Some(false)) => "unverified",
                (_, None) => "usable",
            });
        }
    }
    states.into_iter().map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever happens: the catalog is what a small model says, and what a catalog built anew says.
    #[test]
    fn equals_a_model_and_a_rebuild(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            let mut model = Model::new();
            let mut index = 0;
            for step in steps {
                match step {
                    Step::Report { node, containers } => {
                        let reports = containers.iter().map(|(id, family, kind)| made(*id, *family, *kind)).collect();
                        world.report(&report(&format!("i-{node}"), reports)).await;
                        model.insert(node, (containers, None));
                    }
                    Step::Silence { node: name, is_passed } if model.contains_key(&name) => {
                        let passage = is_passed.then_some(Passage { at_ms: 1, held: Vec::new() });
                        world.silence(&node(&format!("i-{name}")), passage).await;
                        model.entry(name).and_modify(|(_, silence)| *silence = Some(is_passed));
                    }
                    Step::Silence { .. } => {}
                    Step::Reload => world.catalog.reload(world.store.as_ref()).await,
                }
                for family in 0..3 {
                    let states = world.states(&format!("s{family}"));
                    assert_eq!(states.unwrap_or_default(), expected(&model, family));
                }
                let now = world.catalog();
                assert!(now.view.index >= index, "an index went back");
                index = now.view.index;
                let rebuilt = super::testing::Stepper::load(world.store.as_ref()).await.catalog();
                assert_eq!(without_indexes(&now), without_indexes(&rebuilt));
            }
        });
    }
}

fn without_indexes(catalog: &Catalog) -> impl PartialEq + std::fmt::Debug + use<> {
    let services: Vec<_> =
        catalog.view.services.values().map(|s| (s.key.clone(), s.link.clone(), s.endpoints.clone())).collect();
    let explained: Vec<_> = catalog
        .explained
        .values()
        .map(|e| {
            let mut e = (**e).clone();
            e.candidates.iter_mut().for_each(|c| (c.since, c.since_ms) = (Since::default(), 0));
            e
        })
        .collect();
    let nodes = (catalog.nodes.clone(), catalog.view.nodes.clone(), catalog.stale_names.clone());
    // Since when somebody waits for a name is told by the newest report after a start.
    let waiting = |needs: &needs::NameNeeds| {
        let waiting: Vec<_> = needs.waiting.iter().map(|(id, _, record)| (id.clone(), record.clone())).collect();
        (needs.given.clone(), waiting)
    };
    let names: Vec<_> = catalog.name_needs.iter().map(|(node, needs)| (node.clone(), waiting(needs))).collect();
    (services, explained, nodes, catalog.needs.clone(), names, catalog.doubted.clone())
}
