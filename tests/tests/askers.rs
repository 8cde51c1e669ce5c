//! Who asks a registry that listens on every address: each gets his reply from where he asked, and only so much.

use std::net::SocketAddr;

use portolan_tests::janitor::{self, Kind};
use portolan_tests::namespace::Network;
use portolan_tests::needs;
use portolan_tests::programs::Program;
use portolan_tests::wait::{PATIENCE, eventually};

/// A second private address of the registry's host, and a public one.
const SECOND: &str = "10.77.0.200";
const PUBLIC: &str = "203.0.113.1";
/// An asker from elsewhere.
const STRANGER: &str = "203.0.113.5";

#[test]
fn a_registry_on_every_address_replies_from_the_one_that_was_asked_and_refuses_strangers() -> anyhow::Result<()> {
    needs!("ip", "nsenter", "dig");
    let network = Network::new()?;
    let (host, asker) = (network.node("host")?, network.node("asker")?);
    host.ip(&format!("addr add {SECOND}/24 dev eth0"))?;
    host.ip(&format!("addr add {PUBLIC}/24 dev eth0"))?;
    asker.ip(&format!("addr add {STRANGER}/24 dev eth0"))?;
    let data = janitor::folder(&janitor::unique("data"), Kind::Folder)?;
    let data = format!("--data-dir={}", data.display());
    let args = [data.as_str(), "--dns-listen=0.0.0.0:8600", "--http-listen=127.0.0.1:0", "--grpc-listen=127.0.0.1:0"];
    for (more, code) in [(&[][..], "REFUSED"), (&["--dns-allow=10.0.0.0/8,203.0.113.0/24"], "NOERROR")] {
        let mut registry = Program::start(&host, "portolan-registry", &[&args, more].concat())?;
        registry.listening("dns")?;
        let ask = |address: &str, how: &str| {
            let server = SocketAddr::new(address.parse()?, 8600);
            asker.dig(server, &format!("ecs.internal SOA +norecurse {how}"))
        };
        // dig takes no reply from another address than the one it asked.
        for address in [&host.address.to_string(), SECOND] {
            let dug = eventually(PATIENCE, || {
                let dug = ask(address, "")?;
                anyhow::ensure!(dug.status == "NOERROR", "not loaded yet: {}", dug.text);
                Ok(dug)
            })?;
            assert_eq!(dug.data("SOA").len(), 1, "{}", dug.text);
        }
        for how in ["+notcp", "+tcp"] {
            let dug = ask(PUBLIC, &format!("-b {STRANGER} {how}"))?;
            assert_eq!(dug.status, code, "{}", dug.text);
            assert_eq!(dug.text.contains("EDE: 18 (Prohibited)"), code == "REFUSED", "{}", dug.text);
        }
        let dug = ask(PUBLIC, &format!("-b {STRANGER} +cookie=0102030405060708"))?;
        assert!(dug.text.contains("COOKIE: 0102030405060708") && dug.text.contains("(good)"), "{}", dug.text);
        registry.kill()?;
    }
    Ok(())
}
