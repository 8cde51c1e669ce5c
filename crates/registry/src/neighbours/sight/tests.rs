use portolan_core::evidence::{ContainerReport, Health, Phase};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::store::record::Passage;
use crate::testing::{NOW_MS, World, container, node, port, report};

/// A container of `web` on `host_port` of address 10.0.0.`host`.
fn on(host: u8, host_port: u16) -> ContainerReport {
    let mut container = container(&format!("{host}{host_port}"), "web");
    container.ports = vec![port(9200, host_port)];
    container.ports[0].addresses = vec![[10, 0, 0, host].into()];
    container
}

fn seen(world: &World) -> Sight {
    look(&world.catalog(), &mut StdRng::seed_from_u64(1))
}

fn place(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

#[tokio::test]
async fn shows_the_places_that_were_usable_at_the_last_word() {
    let mut world = World::new().await;
    let (mut failing, mut stopping, mut udp, mut died) = (on(1, 2), on(1, 3), on(1, 4), on(1, 5));
    failing.ports[0].health = Health::Failing;
    stopping.phase = Phase::Stopping;
    udp.ports[0].protocol = Protocol::Udp;
    died = crate::testing::died(died, None);
    world.report(&report("i-1", vec![on(1, 1), failing, stopping, udp, died, on(1, 6)])).await;
    world.report(&report("i-2", vec![on(2, 1)])).await;
    assert_eq!(seen(&world).places, Places::new(), "nobody is silent");
    assert_eq!(silent(&world.catalog()), BTreeMap::new());
    world.silence(&node("i-1"), None).await;
    let shown = silent(&world.catalog());
    let addresses = world.catalog().nodes[&node("i-1")].addresses.clone();
    assert_eq!(shown, [(node("i-1"), Silent { since_ms: NOW_MS, addresses })].into());
    let of = |stake| [(node("i-1"), [(place(1, 1), stake), (place(1, 6), stake)].into())].into();
    assert_eq!(seen(&world).places, of(Stake::Removal));
    world.silence(&node("i-1"), Some(Passage { at_ms: NOW_MS, held: Vec::new() })).await;
    assert_eq!(seen(&world).places, of(Stake::Return), "only a neighbour can bring them back");
}

#[tokio::test]
async fn controls_are_on_other_nodes_that_speak_and_pass_if_any_does() {
    let mut world = World::new().await;
    let mut failing = on(3, 1);
    failing.ports[0].health = Health::Failing;
    world.report(&report("i-1", vec![on(1, 1)])).await;
    world.report(&report("i-3", vec![failing])).await;
    world.silence(&node("i-1"), None).await;
    let choose = |world: &World, asked: &str, count: usize| {
        let mut places = seen(world).controls.choose(&node(asked), count, &mut StdRng::seed_from_u64(1));
        places.sort();
        places
    };
    assert_eq!(choose(&world, "i-9", 3), [place(3, 1)], "better than none");
    assert_eq!(choose(&world, "i-3", 3), []);
    for host in [4, 5, 6] {
        world.report(&report(&format!("i-{host}"), vec![on(host, 1)])).await;
    }
    assert_eq!(choose(&world, "i-9", 3), [place(4, 1), place(5, 1), place(6, 1)]);
    assert_eq!(choose(&world, "i-4", 3), [place(5, 1), place(6, 1)]);
    assert_eq!(choose(&world, "i-9", 1).len(), 1);
}
