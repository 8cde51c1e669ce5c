use super::*;
use crate::testing::{NOW_MS, World, container, node, report, service};

/// `nodes` nodes, each with one endpoint of `web`; the first `silent` of them are silent.
async fn world(nodes: usize, silent: usize) -> World {
    let mut world = World::new().await;
    for i in 0..nodes {
        world.report(&report(&format!("i-{i}"), vec![container(&i.to_string(), "web")])).await;
    }
    for i in 0..silent {
        world.silence(&node(&format!("i-{i}")), None).await;
    }
    world
}

async fn passages(nodes: usize, silent: usize) -> Vec<(String, bool)> {
    let world = world(nodes, silent).await;
    let due = due(&world.catalog(), &mut Removals::default(), NOW_MS + SILENCE_MAX_MS);
    due.into_iter().map(|p| (p.node.node.to_string(), p.held == [service("web")])).collect()
}

#[tokio::test]
async fn passes_nothing_early() {
    let world = world(7, 1).await;
    assert_eq!(due(&world.catalog(), &mut Removals::default(), NOW_MS + SILENCE_MAX_MS - 1), []);
}

#[tokio::test]
async fn removes_at_most_fifteen_percent_of_a_service_or_of_the_nodes() {
    let of = |name: &str, is_held| (name.to_owned(), is_held);
    assert_eq!(passages(7, 1).await, [of("i-0", false)], "one of seven is 14 %");
    assert_eq!(passages(6, 1).await, [of("i-0", true)], "one of six is 17 %: its service is held");
    assert_eq!(passages(1, 1).await, [of("i-0", true)], "the last one");
    assert_eq!(passages(7, 7).await, [of("i-0", false)], "one node a minute");
    assert_eq!(passages(14, 5).await, [of("i-0", false), of("i-1", false)]);
}

#[tokio::test]
async fn goes_on_a_minute_later_and_does_not_repeat_itself() {
    let mut world = world(14, 3).await;
    let mut removals = Removals::default();
    let at = NOW_MS + SILENCE_MAX_MS;
    for passage in due(&world.catalog(), &mut removals, at) {
        let passed = crate::store::record::Passage { at_ms: at, held: passage.held };
        world.silence(&passage.node, Some(passed)).await;
    }
    assert_eq!(world.states("web").unwrap().len(), 12);
    assert_eq!(due(&world.catalog(), &mut removals, at + 59_999), []);
    let later = due(&world.catalog(), &mut removals, at + 60_000);
    assert_eq!(later.len(), 1);
    assert_eq!(later[0].node, node("i-2"));
}
