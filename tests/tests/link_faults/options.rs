//! What endpoints wish of their link by label: a PROXY protocol header, read by a real HAProxy; an end to old connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use portolan_tests::janitor::{self, Kind};
use portolan_tests::programs::Program;
use portolan_tests::wait::{PATIENCE, eventually, now};
use portolan_tests::{needs, report};

use super::scene::{Declared, Scene};
use super::server::{Manner, serve};

fn wish(name: &'static str, label: &str, value: &str, place: SocketAddr) -> Declared {
    Declared { name, places: vec![place], meta: vec![(label.to_owned(), value.to_owned())] }
}

#[test]
fn haproxy_is_told_who_connects() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "nft", "haproxy");
    let scene = Scene::start(&[], &[])?;
    let backend = &scene.backends[0];
    let place = SocketAddr::new(backend.addr(), 9100);
    let file = janitor::folder(&janitor::unique("haproxy"), Kind::Folder)?.join("haproxy.cfg");
    let answer =
        "http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port] %[dst]:%[dst_port]\"";
    let limits = "timeout client 5s\n timeout connect 5s\n timeout server 5s";
    std::fs::write(
        &file,
        format!("defaults\n mode http\n {limits}\nfrontend f\n bind {place} accept-proxy\n {answer}\n"),
    )?;
    let _haproxy = Program::start_file(backend, "haproxy", &["-db", "-f", &file.to_string_lossy()])?;
    eventually(PATIENCE, || scene.node.inside(|| TcpStream::connect(place))?.map_err(anyhow::Error::from))?;
    scene.register(vec![wish("told", "portolan.link.proxy-protocol", "v2", place)])?;
    let link = scene.link("told", 1)?;
    let mut stream = scene.node.inside(|| TcpStream::connect(link))??;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: told\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("HAProxy's answer")?;
    assert!(answer.ends_with(&format!("{} {link}", stream.local_addr()?)), "{answer}");
    Ok(())
}

#[test]
fn connections_beyond_a_limit_are_reset_and_told() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "nft");
    let services = [("crowded", [Manner::Echo; 3]), ("other", [Manner::Echo; 3])];
    let limits = ["--link-connections-per-service-max=10", "--link-connections-max=12"];
    let mut scene = Scene::start(&services, &limits)?;
    let (crowded, other) = (scene.link("crowded", 3)?, scene.link("other", 3)?);
    let open = |to: SocketAddr| -> anyhow::Result<Option<TcpStream>> {
        let mut stream = scene.node.inside(|| TcpStream::connect(to))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = [0; 4];
        let answered = stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut buffer));
        Ok(answered.is_ok().then_some(stream))
    };
    let several = |to: SocketAddr, count: usize| -> anyhow::Result<Vec<TcpStream>> {
        Ok((0..count).map(|_| open(to)).collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    let crowd = several(crowded, 15)?;
    let others = several(other, 5)?;
    assert_eq!((crowd.len(), others.len()), (10, 2), "10 of a service, 12 of all");
    assert_eq!(scene.shown("crowded")?["limited"], 5);
    assert_eq!(scene.shown("other")?["limited"], 3);
    drop((crowd, others));
    eventually(PATIENCE, || open(crowded)?.context("there is room again"))?;
    for service in ["crowded.local", "other.local"] {
        let told = format!("connections to {service} are refused");
        scene.sidecar().wait_for_line(&told)?;
        assert_eq!(scene.sidecar().log().matches(&told).count(), 1, "once in ten seconds");
    }
    Ok(())
}

#[test]
fn an_old_connection_ends_in_a_pause() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "nft");
    let scene = Scene::start(&[], &[])?;
    let place = serve(&scene.backends[0], 9100, Manner::Echo)?;
    scene.register(vec![wish("aged", "portolan.link.max-age", "10s", place)])?;
    let link = scene.link("aged", 1)?;
    let began = now();
    let mut stream = scene.node.inside(|| TcpStream::connect(link))??;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 8];
    stream.write_all(b"ping")?;
    assert_eq!(stream.read(&mut buffer)?, 4);
    assert_eq!(stream.read(&mut buffer).context("its end")?, 0, "in order, not by a reset");
    let took = began.elapsed();
    report::say(&format!("of at most 10 s: ended after {took:.1?}"));
    assert!((Duration::from_secs(9)..Duration::from_secs(14)).contains(&took), "{took:?}");
    Ok(())
}
