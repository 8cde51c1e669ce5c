//! Evictions: out for good, even as the last resort, and told with their reason wherever somebody misses it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use portolan_sidecar::snapshot;
use portolan_tests::namespace::Namespace;
use portolan_tests::needs;
use portolan_tests::site::{ADMIN, CLUSTER, REGISTRY_HTTP, is_ready};
use portolan_tests::talk::Talk;
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, throughout};
use portolan_tests::watch::Watch;

use super::scene::{SERVICE, Scene};

/// How long "it stays so" is looked at.
const A_WHILE: Duration = Duration::from_secs(2);
const REASON: &str = "serves old data";

#[test]
fn what_is_evicted_is_no_last_resort_and_says_why() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start()?;
    let path = format!("/api/watch?cluster={CLUSTER}&service={SERVICE}");
    let watch = Watch::open(scene.node(), REGISTRY_HTTP, &path, &[])?;
    let (link, name) = (scene.link, scene.tasks[1].container.host_name().to_owned());
    let mut open = scene.node().inside(|| Talk::begin_with(link, &name))??;
    let said = scene.portolan(&["evict", scene.tasks[1].short_id(), "--reason", REASON])?;
    assert!(said.contains("is evicted: 1 endpoint out of every answer"), "{said}");
    scene.all_answer(&[0])?;
    open.goes_on().context("an eviction cuts nothing")?;
    is_told(&scene, &watch)?;
    let drained = scene.node().portolan(&["drain", scene.tasks[1].short_id()])?;
    assert!(drained.code == Some(1) && drained.error.contains("evicted"), "{drained:?}");

    // The other one fails, too: nothing is left but the evicted one, which is no last resort.
    scene.portolan(&["evict", scene.tasks[0].container.host_name(), "--reason", REASON])?;
    nobody_answers(&scene, PATIENCE)?;
    throughout(A_WHILE, || nobody_answers(&scene, Duration::ZERO))?;
    for node in [scene.node(), &scene.follower.node] {
        let took = node.refusal_time(link).context("the link")?;
        assert!(took < Duration::from_millis(100), "a link without endpoints took {took:?} to refuse");
    }
    let text = scene.portolan(&["explain", SERVICE])?;
    assert!(text.contains(&format!("evicted it: {REASON}")), "{text}");
    assert!(text.contains(&format!("evicted its task: {REASON}")), "{text}");
    outlives_restarts(&mut scene)?;

    scene.portolan(&["evict", scene.tasks[1].short_id(), "--undo"])?;
    scene.all_answer(&[1])?;
    scene.portolan(&["evict", scene.tasks[0].container.host_name(), "--undo"])?;
    scene.all_answer(&[0, 1])
}

/// The event, the stream and the explanation name the order and its reason.
fn is_told(scene: &Scene, watch: &Watch) -> anyhow::Result<()> {
    assert_eq!(scene.order(1)?, Some(format!("evicted its task: {REASON}")));
    let candidate = scene.candidate(1)?;
    assert_eq!((&candidate["state"], &candidate["rule"]), (&"gone".into(), &"evicted".into()));
    let events = scene.node().fetch(REGISTRY_HTTP, &format!("/api/events?cluster={CLUSTER}&service={SERVICE}"))?;
    let events = events.json()?;
    let last = events["events"].as_array().and_then(|events| events.last()).context("no events")?.clone();
    let is_eviction = |event: &Value| {
        let reason = event["reason"].as_str().unwrap_or_default();
        event["to"] == "gone" && reason.contains("an operator evicted it") && reason.contains(REASON)
    };
    assert!(is_eviction(&last), "{last}");
    assert_eq!(last["container_id"], scene.tasks[1].container.id);
    eventually(PATIENCE, || match watch.events().last() {
        Some(event) if is_eviction(&event.data) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .context("the stream")
}

fn nobody_answers(scene: &Scene, timeout: Duration) -> anyhow::Result<()> {
    let (a, b) = (scene.node(), &scene.follower.node);
    let none = Some(BTreeSet::new());
    eventually_equal(timeout, &none, || a.registry_srv(SERVICE).ok()).context("registry")?;
    eventually_equal(timeout, &none, || a.node_srv(SERVICE).ok()).context("a")?;
    eventually_equal(timeout, &none, || b.node_srv(SERVICE).ok()).context("b")
}

/// A registry that starts again, and a sidecar that starts again without one, know it still.
fn outlives_restarts(scene: &mut Scene) -> anyhow::Result<()> {
    scene.site.registry.start_again()?;
    is_ready(scene.site.node(), REGISTRY_HTTP)?;
    nobody_answers(scene, PATIENCE).context("after the registry's restart")?;
    eventually_equal(PATIENCE, &Some("current".to_owned()), || readiness(&scene.follower.node)).context("b")?;
    is_in_the_snapshot(scene)?;
    scene.site.registry.kill()?;
    scene.follower.sidecar.start_again()?;
    scene.follower.sidecar.listening("node-dns")?;
    is_ready(&scene.follower.node, ADMIN)?;
    let found = scene.follower.node.node_srv(SERVICE)?;
    assert!(found.is_empty(), "from its snapshot b answers {found:?}");
    throughout(A_WHILE, || {
        let found = scene.follower.node.node_srv(SERVICE)?;
        anyhow::ensure!(found.is_empty(), "without a registry b answers {found:?}");
        Ok(())
    })?;
    scene.site.registry.start_again()?;
    is_ready(scene.site.node(), REGISTRY_HTTP)?;
    nobody_answers(scene, PATIENCE).context("after all restarts")
}

/// It is written beside the answers, at most once a second and as fast as the disk is: what is killed before loses it.
fn is_in_the_snapshot(scene: &Scene) -> anyhow::Result<()> {
    let data = scene.follower.sidecar.setting("data-dir").context("no folder for its data")?;
    eventually(PATIENCE, || {
        let (view, _) = snapshot::load(Path::new(data)).context("no snapshot")?;
        let service = view.services.values().find(|one| one.key.service.as_str() == SERVICE);
        let known = service.and_then(|service| service.known_endpoints()).context("it does not know the service")?;
        anyhow::ensure!(known.is_empty(), "it still holds {known:?}");
        Ok(())
    })
    .context("b's snapshot")
}

fn readiness(node: &Namespace) -> Option<String> {
    let status = node.fetch(ADMIN, "/api/status").ok()?.json().ok()?;
    status["readiness"].as_str().map(str::to_owned)
}
