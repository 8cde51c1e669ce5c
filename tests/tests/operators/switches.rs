//! A link that is off: names answer real addresses on every node, and whoever holds the virtual address still gets through.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use portolan_tests::needs;
use portolan_tests::site::{CLUSTER, NODE_DNS};
use portolan_tests::surfaces::{full_name, is_virtual};
use portolan_tests::talk::Talk;
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal};

use super::scene::{SERVICE, Scene, Task};

#[test]
fn a_link_that_is_off_is_in_no_answer_and_still_leads_where_it_led() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft", "dig");
    let scene = Scene::start()?;
    let of_task = |task: &Task| task.container.engine().node().address;
    let real: BTreeSet<Ipv4Addr> = scene.tasks.iter().map(of_task).collect();
    let mut open = scene.node().inside(|| Talk::begin(scene.link))??;
    let name = format!("{SERVICE}.{CLUSTER}");
    let said = scene.portolan(&["links", SERVICE, "--off", "--reason", "slow since Tuesday"])?;
    assert!(said.starts_with(&format!("service {name} is off its link: 2 endpoints")), "{said}");
    for node in [scene.node(), &scene.follower.node] {
        eventually_equal(PATIENCE, &Ok(real.clone()), || answered(node))?;
        let state = node.portolan(&["-o", "json", "links", SERVICE])?.json()?;
        assert_eq!(state[0]["mode"], "direct", "{state}");
    }
    scene.all_answer(&[0, 1])?;
    open.goes_on()?;
    let list = scene.portolan(&["drain"])?;
    for word in ["unlink", "service", &name, "slow since Tuesday"] {
        assert!(list.contains(word), "no {word:?} in {list}");
    }
    let said = scene.portolan(&["links", SERVICE, "--on"])?;
    assert!(said.starts_with(&format!("service {name} is back; it was off its link for")), "{said}");
    for node in [scene.node(), &scene.follower.node] {
        eventually(PATIENCE, || {
            let addresses = answered(node).map_err(anyhow::Error::msg)?;
            anyhow::ensure!(addresses.iter().all(|address| is_virtual(*address)), "{addresses:?}");
            Ok(())
        })?;
    }
    let again = scene.node().portolan(&["links", SERVICE, "--on"])?;
    assert!(again.code == Some(1) && again.error.contains("no such order stands"), "{again:?}");
    let unknown = scene.node().portolan(&["links", "ecko.production", "--off"])?;
    assert!(unknown.code == Some(1) && unknown.error.contains("did you mean `echo`"), "{unknown:?}");
    Ok(())
}

/// What the node's DNS answers for the service's name.
fn answered(node: &portolan_tests::namespace::Namespace) -> Result<BTreeSet<Ipv4Addr>, String> {
    let dug = node.dig(NODE_DNS, &format!("{} A", full_name(SERVICE))).map_err(|error| format!("{error:#}"))?;
    Ok(dug.data("A").iter().filter_map(|address| address.parse().ok()).collect())
}
