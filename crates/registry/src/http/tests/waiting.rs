//! Waiting reads, under paused time.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

fn index_of(response: &Response) -> u64 {
    response.headers()["x-portolan-index"].to_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_the_service_changes_and_not_for_another() {
    let setup = setup(fixture::catalog());
    setup.settled().await;
    let began = Instant::now();
    let waiting = setup.get("/api/services/prod/es?index=1000&wait=5m");
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    setup.change(|catalog| put(catalog, &key("es", "test"), &[(4, Word::Failing)], FIRST + 1));
    setup.settled().await;
    assert!(futures_util::poll!(&mut waiting).is_pending(), "another cluster's service changed");
    setup.change(|catalog| put(catalog, &key("es", "prod"), &[(1, Word::Failing)], FIRST + 2));
    let response = waiting.await;
    assert_eq!(index_of(&response), FIRST + 2);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_wait_without_a_change_ends_in_its_time_and_a_little() {
    let setup = setup(fixture::catalog());
    setup.settled().await;
    let rows = [("&wait=16s", 16), ("", 30), ("&wait=99m", 600)];
    for (wait, seconds) in rows {
        let began = Instant::now();
        let response = setup.get(&format!("/api/services/prod/es?index=1000{wait}")).await;
        let took = began.elapsed();
        let most = Duration::from_millis(seconds * 1_000 * 17 / 16 + 1);
        assert!(took >= Duration::from_secs(seconds) && took <= most, "{wait}: {took:?}");
        assert_eq!((response.status().as_u16(), index_of(&response)), (200, FIRST));
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_that_is_not_the_current_one_is_answered_at_once() {
    let setup = setup(fixture::catalog());
    setup.settled().await;
    let began = Instant::now();
    for index in [0, 999, 1_001, u64::MAX] {
        let response = setup.get(&format!("/api/services/prod/es?index={index}")).await;
        assert_eq!(index_of(&response), FIRST, "{index}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_absent_service_can_be_waited_for() {
    let setup = setup(fixture::catalog());
    setup.settled().await;
    let first = setup.get("/api/services/prod/new").await;
    assert_eq!((first.status().as_u16(), index_of(&first)), (404, FIRST));
    let waiting = setup.get("/api/services/prod/new?index=1000");
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    setup.change(|catalog| put(catalog, &key("new", "prod"), &[], FIRST + 1));
    let response = waiting.await;
    assert_eq!((response.status().as_u16(), index_of(&response)), (200, FIRST + 1));
}

#[tokio::test(start_paused = true)]
async fn lists_and_nodes_have_indexes_of_their_own() {
    let setup = setup(fixture::catalog());
    setup.settled().await;
    let began = Instant::now();
    let nodes = setup.get("/api/nodes?index=1000");
    let services = setup.get("/api/services?index=1000");
    let prod = setup.get("/api/services?index=1000&cluster=prod");
    tokio::pin!(nodes, services, prod);
    assert!(futures_util::poll!(&mut nodes).is_pending());
    assert!(futures_util::poll!(&mut services).is_pending());
    assert!(futures_util::poll!(&mut prod).is_pending());
    setup.change(|catalog| put(catalog, &key("es", "test"), &[], FIRST + 5));
    assert_eq!(index_of(&services.await), FIRST + 5);
    setup.settled().await;
    assert!(futures_util::poll!(&mut prod).is_pending(), "the other cluster changed");
    assert!(futures_util::poll!(&mut nodes).is_pending(), "a service changed");
    let fell_silent = crate::catalog::Silence { since_ms: THEN_MS, passage: None };
    setup.change(|catalog| fixture::put_node(catalog, fixture::node("n1"), Some(fell_silent)));
    let response = nodes.await;
    assert!(index_of(&response) > FIRST);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn no_topic_is_kept_for_readers_that_left() {
    let (publisher, reader) = published(fixture::catalog());
    let topics = Topics::default();
    topics.take(reader.load());
    let topic = super::super::topics::Topic::Nodes;
    let (one, two) = (topics.subscribe(topic.clone()), topics.subscribe(topic));
    assert_eq!(topics.waiting(), 1);
    drop(one);
    assert_eq!(topics.waiting(), 1);
    drop(two);
    assert_eq!(topics.waiting(), 0);
    drop(publisher);
}

#[tokio::test]
async fn many_changes_at_once_move_a_list_by_one() {
    let topics = Topics::default();
    let mut catalog = fixture::catalog();
    topics.take(catalog.clone().into());
    put(&mut catalog, &key("a", "prod"), &[], FIRST + 1);
    put(&mut catalog, &key("b", "prod"), &[], FIRST + 1);
    put(&mut catalog, &key("c", "prod"), &[], FIRST + 1);
    topics.take(catalog.clone().into());
    use super::super::topics::{Scope, Topic};
    for topic in [Topic::Services(Scope::All), Topic::Explained(Scope::All)] {
        assert_eq!(topics.index(&topic, &catalog), FIRST + 1);
    }
}
