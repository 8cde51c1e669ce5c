//! The command finds the registry by the local sidecar, wherever the registry's HTTP is.

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::Value;

use portolan_tests::lab::Lab;
use portolan_tests::namespace::Namespace;
use portolan_tests::needs;
use portolan_tests::site::{ADMIN, CLUSTER, Site};
use portolan_tests::wait::{PATIENCE, eventually, eventually_equal};

fn status(node: &Namespace) -> anyhow::Result<Value> {
    node.fetch(ADMIN, "/api/status")?.json()
}

/// Where the sidecar says that the registry's HTTP is.
fn told(node: &Namespace) -> Option<String> {
    status(node).ok()?["registry_http"].as_str().map(str::to_owned)
}

#[test]
fn a_registry_is_found_where_it_says_that_it_is() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter", "nft");
    // Neither port is known before: a free one is taken.
    let mut site = Site::start_with(Lab::start()?, &["--http-listen=127.0.0.1:0"], &[])?;
    let node = site.node().clone();
    let http = site.registry.listening("http")?;
    let url = format!("http://{http}");
    assert_ne!(http.port(), 8500);
    eventually_equal(PATIENCE, &Some(url.clone()), || told(&node))?;
    site.lab.engine.run_elasticsearch(CLUSTER)?;
    eventually(PATIENCE, || match node.portolan(&["services"])?.done()? {
        out if out.contains("elasticsearch") => Ok(()),
        out => anyhow::bail!(out),
    })?;
    let said = node.portolan(&["status"])?.done()?;
    assert!(said.contains(&url) && said.contains("the one that the local sidecar uses"), "{said}");
    node.portolan(&["drain", "a"])?.done()?;
    // Without a registry nothing is known of the port it had: the next one may have another.
    site.registry.kill()?;
    eventually_equal(PATIENCE, &Some("http://127.0.0.1:8500".to_owned()), || told(&node)).context("not connected")?;
    let alone = node.portolan(&["services"])?;
    assert_eq!(alone.code, Some(1), "{alone:?}");
    assert!(alone.error.contains("127.0.0.1:8500"), "{alone:?}");
    site.registry.start_again()?;
    let again: SocketAddr = site.registry.listening("http")?;
    eventually_equal(PATIENCE, &Some(format!("http://{again}")), || told(&node)).context("connected again")?;
    assert!(node.portolan(&["drain"])?.done()?.contains("node"), "the order stands");
    Ok(())
}
