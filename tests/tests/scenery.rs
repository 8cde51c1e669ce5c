//! The scenery of the other tests: wires that stall and are cut, containers that outlive their engine.

use std::net::SocketAddr;
use std::time::Duration;

use portolan_tests::lab::Lab;
use portolan_tests::namespace::Network;
use portolan_tests::programs::Program;
use portolan_tests::wait::{PATIENCE, eventually, now};
use portolan_tests::wire::Wire;
use portolan_tests::{http, image, needs};

#[test]
fn a_wire_carries_stalls_is_cut_and_mended() -> anyhow::Result<()> {
    needs!("ip", "nsenter");
    let network = Network::new()?;
    let (a, b) = (network.node("a")?, network.node("b")?);
    let _server = Program::start_file(&a, &image::standin()?.to_string_lossy(), &["elasticsearch"])?;
    let addr: SocketAddr = "127.0.0.1:9200".parse()?;
    eventually(PATIENCE, || a.fetch(addr, "/"))?;
    let wire = Wire::lay(&b, &a, addr)?;
    assert_eq!(b.fetch(addr, "/bytes/100000")?.body.len(), 100_000);
    wire.cut();
    assert!(b.fetch(addr, "/").is_err(), "a cut wire carries nothing");
    wire.stall();
    let began = now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let asked = scope.spawn(|| b.inside(|| http::fetch(addr, "/")));
        eventually(PATIENCE, || if wire.taken() == 3 { Ok(()) } else { Err(wire.taken()) })?;
        assert!(!asked.is_finished(), "a stalled wire takes the connection and says nothing");
        wire.mend();
        let answer = asked.join().map_err(|_| anyhow::anyhow!("the client panicked"))???;
        assert_eq!(answer.status, 200, "after {:?}", began.elapsed());
        Ok(())
    })
}

#[test]
fn containers_outlive_an_engine_that_restores_them() -> anyhow::Result<()> {
    needs!("dockerd", "docker", "ip", "nsenter");
    let lab = Lab::start_with(&["--live-restore"])?;
    let task = lab.engine.run_elasticsearch("production")?;
    let addr = SocketAddr::new(lab.node.addr(), task.port(9200)?);
    eventually(PATIENCE, || lab.node.fetch(addr, "/"))?;
    let inside: SocketAddr = "127.0.0.1:9200".parse()?;
    assert_eq!(task.inside(|| http::fetch(inside, "/"))??.json()?["name"], task.host_name());
    lab.engine.stop()?;
    let without = eventually(Duration::from_secs(5), || lab.node.fetch(addr, "/"));
    lab.engine.start_again()?;
    assert_eq!(without?.json()?["name"], task.host_name(), "the container serves while its engine is gone");
    assert_eq!(task.inspect("{{.State.Running}}")?, "true");
    assert_eq!(lab.node.fetch(addr, "/")?.status, 200, "on the port that it had");
    Ok(())
}
