//! Drains: out of every answer while open connections finish, for as long as anything better is left.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;

use portolan_tests::needs;
use portolan_tests::site::{CLUSTER, REGISTRY_HTTP, is_ready};
use portolan_tests::surfaces::is_virtual;
use portolan_tests::talk::Talk;
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal, throughout};

use super::scene::{PORT, SERVICE, Scene, Task};

/// How long "it stays so" is looked at.
const A_WHILE: Duration = Duration::from_secs(2);

#[test]
fn what_is_drained_is_in_no_answer_and_its_open_connections_go_on() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    let task = &scene.tasks[1];
    let (link, name) = (scene.link, task.container.host_name().to_owned());
    let client = scene.site.lab.engine.run(&["--dns=169.254.53.53", "--dns-search=."], &["wait"])?;
    let mut open = [
        scene.node().inside(|| Talk::begin_with(link, &name))??,
        scene.follower.node.inside(|| Talk::begin_with(link, &name))??,
        client.inside(|| Talk::begin_with(link, &name))??,
    ];
    let (arn, whole_id) = (task.ecs.arn(), task.container.id.to_uppercase());
    let targets = [task.short_id(), &arn, task.container.host_name(), &whole_id, "b", "B.production"];
    for (target, of) in targets.into_iter().zip(["task", "task", "container", "container", "node", "node"]) {
        let said = scene.portolan(&["drain", target, "--reason", "new kernel"])?;
        assert!(said.starts_with(&format!("{of} ")) && said.contains("is drained: 1 endpoint"), "{said}");
        scene.all_answer(&[0]).with_context(|| format!("after drain {target}"))?;
        open.iter_mut().try_for_each(Talk::goes_on).with_context(|| format!("after drain {target}"))?;
        is_explained(&scene, of)?;
        let list = scene.portolan(&["drain"])?;
        assert!(list.contains(of) && list.contains("new kernel"), "{list}");
        let said = scene.portolan(&["drain", target, "--undo"])?;
        assert!(said.contains("is back") && said.contains("(new kernel)"), "{said}");
        scene.all_answer(&[0, 1]).with_context(|| format!("after drain {target} --undo"))?;
        assert_eq!(scene.order(1)?, None);
        open.iter_mut().try_for_each(Talk::goes_on).with_context(|| format!("after drain {target} --undo"))?;
    }
    assert_eq!(scene.portolan(&["drain"])?, "nothing is drained or evicted, and no link is off\n");
    let again = scene.node().portolan(&["drain", "b", "--undo"])?;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.error.contains("no such order stands"), "{}", again.error);
    Ok(())
}

/// Who took it out, what exactly, and why: for whoever misses it.
fn is_explained(scene: &Scene, of: &str) -> anyhow::Result<()> {
    let what = if of == "container" { "drains it" } else { &format!("drains its {of}") };
    assert_eq!(scene.order(1)?, Some(format!("{what}: new kernel")));
    let candidate = scene.candidate(1)?;
    assert_eq!((&candidate["state"], &candidate["rule"]), (&"draining".into(), &"drained".into()));
    assert_eq!(candidate["is_answered"], false);
    let text = scene.portolan(&["explain", SERVICE])?;
    for said in [&format!("{what}: new kernel"), "an operator drains it: draining", "not answered"] {
        assert!(text.contains(said), "no {said:?} in {text}");
    }
    Ok(())
}

#[test]
fn a_drained_node_takes_new_tasks_and_answers_none_of_them() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start()?;
    scene.portolan(&["drain", "b", "--reason", "new kernel"])?;
    scene.all_answer(&[0])?;
    let engine = scene.tasks[1].container.engine().clone();
    scene.tasks.push(Task::start(&engine, &[])?);
    eventually_equal(PATIENCE, &Some("drains its node: new kernel".to_owned()), || scene.order(2).ok().flatten())?;
    scene.all_answer(&[0])?;
    // Neither a restart of the registry nor one of a sidecar brings them back, not even for a moment.
    let (node, remote) = (scene.node().clone(), scene.follower.node.clone());
    let expected: BTreeSet<String> = [scene.tasks[0].place()?].into();
    let never_another = || -> anyhow::Result<()> {
        for (at, answer) in
            [("a", node.node_srv(SERVICE)), ("b", remote.node_srv(SERVICE)), ("registry", node.registry_srv(SERVICE))]
        {
            // Whoever is being started does not answer, and that is no answer.
            let Ok(found) = answer else { continue };
            anyhow::ensure!(found == expected || found.is_empty() && at == "registry", "{at} answers {found:?}");
        }
        Ok(())
    };
    scene.site.registry.start_again()?;
    throughout(A_WHILE, never_another).context("while the registry starts again")?;
    is_ready(&node, REGISTRY_HTTP)?;
    scene.follower.sidecar.start_again()?;
    throughout(A_WHILE, never_another).context("while b's sidecar starts again")?;
    scene.follower.sidecar.listening("node-dns")?;
    scene.all_answer(&[0])?;
    scene.portolan(&["drain", "b", "--undo"])?;
    scene.all_answer(&[0, 1, 2])
}

#[test]
fn the_last_ones_are_answered_although_they_are_drained() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    scene.portolan(&["drain", "b"])?;
    scene.all_answer(&[0])?;
    let drained = scene.portolan(&["drain", scene.tasks[0].short_id()])?;
    assert!(drained.contains("while anything better is left"), "{drained}");
    scene.all_answer(&[0, 1]).context("both are drained")?;
    let candidate = scene.candidate(0)?;
    assert_eq!((&candidate["state"], &candidate["is_answered"]), (&"draining".into(), &true.into()));
    let text = scene.portolan(&["explain", SERVICE])?;
    assert!(!text.contains("not answered") && text.contains("answered"), "{text}");
    scene.portolan(&["drain", "b", "--undo"])?;
    scene.all_answer(&[1])?;
    // One that fails its check is worse than one that is drained and passed.
    scene.tasks[1].container.docker(&["pause"])?;
    let place = BTreeSet::from([scene.tasks[0].place()?]);
    for server in ["registry", "a", "b"] {
        let ask = || match server {
            "registry" => scene.node().registry_srv(SERVICE),
            "a" => scene.node().node_srv(SERVICE),
            _ => scene.follower.node.node_srv(SERVICE),
        };
        eventually_equal(PATIENCE, &Some(place.clone()), || ask().ok()).with_context(|| format!("of {server}"))?;
    }
    Ok(())
}

#[test]
fn a_drain_brings_nothing_into_answers_that_was_not_there() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let mut scene = Scene::start()?;
    let engine = scene.tasks[0].container.engine().clone();
    // Its check never passes: an echo does not speak HTTP.
    let never_passes = ["--label=portolan.check=http:/", "--label=portolan.check.interval=1s"];
    scene.tasks.push(Task::start(&engine, &never_passes)?);
    let is_starting = || match scene.candidate(2)? {
        candidate if candidate["state"] == "starting" => Ok(()),
        candidate => anyhow::bail!("{candidate}"),
    };
    eventually(PATIENCE, is_starting)?;
    for task in [0, 1] {
        scene.tasks[task].container.stop(1)?;
    }
    let none = BTreeSet::new();
    let is_nowhere = || {
        for found in [scene.node().registry_srv(SERVICE)?, scene.node().node_srv(SERVICE)?] {
            anyhow::ensure!(found == none, "it answers {found:?}");
        }
        Ok(())
    };
    eventually(PATIENCE, is_nowhere)?;
    scene.portolan(&["drain", scene.tasks[2].short_id()])?;
    throughout(A_WHILE, is_nowhere).context("drained")?;
    assert_eq!(scene.candidate(2)?["is_answered"], false);
    assert!(is_virtual(scene.node().virtual_address(SERVICE)?), "the name keeps its address");
    scene.node().refusal_time((scene.node().virtual_address(SERVICE)?, PORT).into()).context("and refuses")?;
    let status = scene.node().service(SERVICE)?;
    assert_eq!(status["cluster"], CLUSTER);
    Ok(())
}
