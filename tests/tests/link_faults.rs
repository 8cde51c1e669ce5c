//! Endpoints that fail in every way that TCP allows: what a client of their link notices, and that no byte is another. And
//! endpoints that wish something of their link.

#[path = "link_faults/client.rs"]
mod client;
#[path = "link_faults/options.rs"]
mod options;
#[path = "link_faults/scene.rs"]
mod scene;
#[path = "link_faults/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use client::{End, Exchange, Load, end_of, exchange, summary};
use portolan_tests::wait::{PATIENCE, eventually, now};
use portolan_tests::{needs, report};
use scene::{Declared, Scene};
use server::Manner::{Echo, Hang, Reset, ResetAfter, Slow};

/// After so long without an answer a client gives up.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
const LOAD: Load = Load { clients: 4, connections: 75, bytes: 20_000, patience: CLIENT_PATIENCE };

fn count(exchanges: &[Exchange], end: End) -> usize {
    exchanges.iter().filter(|exchange| exchange.end == end).count()
}

fn say(case: &str, exchanges: &[Exchange]) {
    report::say(&format!("{case:26} {}", summary(exchanges)));
}

#[test]
fn clients_notice_little_of_endpoints_that_fail() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "nft");
    let services = [
        ("good", [Echo; 3]),
        ("hangs", [Echo, Echo, Hang]),
        ("resets", [Echo, Echo, Reset]),
        ("cuts", [Echo, Echo, ResetAfter(10_000)]),
        ("slow", [Slow; 3]),
        ("lost", [Echo; 3]),
    ];
    let scene = Scene::start(&services, &[])?;
    let all_are_well = |case: &str, load: Load| -> anyhow::Result<()> {
        let exchanges = load.run(&scene.node, scene.link(case, 3)?)?;
        say(case, &exchanges);
        assert_eq!(count(&exchanges, End::Identical), exchanges.len(), "{case}");
        Ok(())
    };
    all_are_well("good", LOAD)?;
    all_are_well("good", Load { connections: 2, bytes: 64 << 20, patience: PATIENCE, ..LOAD })?;
    all_are_well("slow", Load { connections: 1, bytes: 8 << 20, patience: PATIENCE, ..LOAD })?;
    an_endpoint_that_hangs(&scene)?;
    an_endpoint_that_resets(&scene)?;
    an_endpoint_that_resets_in_the_middle(&scene)?;
    a_host_that_is_cut_off(&scene)?;
    the_last_endpoint_goes(&scene, &services.map(|(name, _)| name))
}

/// Who accepts and then is silent looks like a slow program: its clients wait as long as they like. Their open connections
/// keep others away.
fn an_endpoint_that_hangs(scene: &Scene) -> anyhow::Result<()> {
    let load = Load { clients: 8, connections: 25, ..LOAD };
    let exchanges = load.run(&scene.node, scene.link("hangs", 3)?)?;
    say("one of three hangs", &exchanges);
    let (well, waited) = (count(&exchanges, End::Identical), count(&exchanges, End::TimedOut));
    assert_eq!(well + waited, exchanges.len(), "nothing else happens");
    assert!(waited > 0 && waited < exchanges.len() / 4, "{waited} of {} waited", exchanges.len());
    Ok(())
}

/// Two connections are reset, then it is ejected; one more whenever it was let in again.
fn an_endpoint_that_resets(scene: &Scene) -> anyhow::Result<()> {
    let exchanges = LOAD.run(&scene.node, scene.link("resets", 3)?)?;
    say("one of three resets", &exchanges);
    let (well, reset) = (count(&exchanges, End::Identical), count(&exchanges, End::Reset));
    assert_eq!(well + reset, exchanges.len(), "nothing else happens");
    // Two in a row, and as many as were under way at once.
    assert!((2..=2 + LOAD.clients).contains(&reset), "{reset} were reset");
    assert!(scene.met("resets", &scene.backends[2], "ejections")? >= 1);
    Ok(())
}

/// Bytes were answered, so it is the endpoint's own affair: the client is told by a reset, never by an end that looks like a
/// whole answer.
fn an_endpoint_that_resets_in_the_middle(scene: &Scene) -> anyhow::Result<()> {
    let exchanges = LOAD.run(&scene.node, scene.link("cuts", 3)?)?;
    say("one of three cuts", &exchanges);
    let (well, reset) = (count(&exchanges, End::Identical), count(&exchanges, End::Reset));
    assert_eq!((well + reset, reset > 0), (exchanges.len(), true), "a reset is passed on as one");
    Ok(())
}

/// A cable is pulled: one connection in a while waits for the next endpoint, and none fails.
fn a_host_that_is_cut_off(scene: &Scene) -> anyhow::Result<()> {
    let link = scene.link("lost", 3)?;
    scene.backends[2].unplug()?;
    let began = now();
    let exchanges = LOAD.run(&scene.node, link)?;
    let took = began.elapsed();
    say("one of three is cut off", &exchanges);
    assert_eq!(count(&exchanges, End::Identical), exchanges.len(), "no client notices more than a wait");
    let waited = exchanges.iter().filter(|exchange| exchange.first_byte >= Duration::from_millis(250)).count();
    let most = LOAD.clients * (1 + took.as_secs() as usize / 5);
    assert!(waited <= most, "{waited} waited in {took:?}");
    assert!(scene.met("lost", &scene.backends[2], "ejections")? >= 1);
    scene.backends[2].plug_in()?;
    // It was out for five or ten seconds.
    let before = scene.met("lost", &scene.backends[2], "total")?;
    eventually(PATIENCE, || {
        scene.node.inside(|| exchange(link, 1, CLIENT_PATIENCE))?;
        let total = scene.met("lost", &scene.backends[2], "total")?;
        anyhow::ensure!(total > before, "{total} connections");
        Ok(())
    })
    .context("it comes back")
}

/// The link is refused by the kernel, and others are not touched.
fn the_last_endpoint_goes(scene: &Scene, services: &[&'static str]) -> anyhow::Result<()> {
    let (link, good) = (scene.link("lost", 3)?, scene.link("good", 3)?);
    let port = |name: &str| 9001 + services.iter().position(|service| *service == name).unwrap_or_default() as u16;
    let places = scene.backends.iter().map(|backend| SocketAddr::new(backend.addr(), port("good")));
    scene.register(vec![Declared { name: "good", places: places.collect(), meta: Vec::new() }])?;
    eventually(PATIENCE, || match scene.node.inside(|| exchange(link, 1, CLIENT_PATIENCE))?.end {
        End::Refused => Ok(()),
        other => anyhow::bail!("{other:?}"),
    })?;
    let began = now();
    let refused = scene.node.inside(|| TcpStream::connect_timeout(&link, CLIENT_PATIENCE))?;
    let took = began.elapsed();
    report::say(&format!("the last endpoint is gone:  refused after {took:.1?}"));
    assert_eq!(refused.err().map(|error| end_of(&error)), Some(End::Refused));
    assert!(took < Duration::from_millis(100), "{took:?}");
    let exchanges = LOAD.run(&scene.node, good)?;
    assert_eq!(count(&exchanges, End::Identical), exchanges.len(), "others are not touched");
    Ok(())
}

#[test]
fn a_connection_to_a_host_that_vanished_ends_within_forty_seconds() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "nft");
    let scene = Scene::start(&[("lone", [Echo; 3])], &[])?;
    let link = scene.link("lone", 3)?;
    let mut stream = scene.node.inside(|| TcpStream::connect(link))??;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut buffer = [0; 64];
    stream.write_all(b"one")?;
    assert_eq!(stream.read(&mut buffer)?, 3);
    scene.backends.iter().try_for_each(|backend| backend.unplug())?;
    let began = now();
    stream.write_all(b"two")?;
    let end = stream.read(&mut buffer).map_err(|error| end_of(&error));
    let took = began.elapsed();
    report::say(&format!("half-open, with data under way: {end:?} after {took:.1?}"));
    assert_eq!(end, Err(End::Reset));
    assert!((25..40).contains(&took.as_secs()), "30 s by TCP_USER_TIMEOUT; it took {took:?}");
    Ok(())
}
