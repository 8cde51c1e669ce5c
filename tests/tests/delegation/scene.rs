//! A registry without any node, the world's other resolver, and a place for the resolver under test.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use portolan_tests::janitor::{self, Kind};
use portolan_tests::namespace::{Namespace, Network};
use portolan_tests::programs::Program;
use portolan_tests::report;
use portolan_tests::site::{CLUSTER, REGISTRY_HTTP, is_ready, start_dnsmasq};
use portolan_tests::surfaces::located;
use portolan_tests::wait::{PATIENCE, eventually, now};
use portolan_tests::{documented, http};

/// What is tested.
pub(crate) const PAGE: &str = "docs/dns.md";

/// A TTL of one second, that resolvers count in whole seconds, and a busy machine.
const SOON: Duration = Duration::from_secs(4);
/// As many as one declaration may have: no answer of 1,232 bytes holds them.
const MANY: usize = 100;

/// The resolver under test is to be started on `node`.
pub(crate) struct Scene {
    pub(crate) zone: String,
    pub(crate) host: Arc<Namespace>,
    pub(crate) node: Arc<Namespace>,
    /// Resolves `www.example.com` and nothing else.
    pub(crate) outside: SocketAddr,
    _programs: [Program; 2],
    network: Network,
}

impl Scene {
    pub(crate) fn start(zone: &str, dns_listen: &str) -> anyhow::Result<Self> {
        let network = Network::new()?;
        let (host, node, other) = (network.node("registry")?, network.node("resolver")?, network.node("outside")?);
        let data = janitor::folder(&janitor::unique("data"), Kind::Folder)?;
        let args =
            [format!("--data-dir={}", data.display()), format!("--zone={zone}"), format!("--dns-listen={dns_listen}")];
        let mut registry = Program::start(&host, "portolan-registry", &args.each_ref().map(String::as_str))?;
        registry.listening("grpc")?;
        is_ready(&host, REGISTRY_HTTP)?;
        let outside = start_dnsmasq(&other, other.address, &["--host-record=www.example.com,93.184.215.14"])?;
        let resolver = SocketAddr::new(other.addr(), 53);
        let _programs = [registry, outside];
        Ok(Scene { zone: zone.to_owned(), host, node, outside: resolver, _programs, network })
    }

    /// A block of `docs/dns.md`, by the word behind its fence, with this registry's address in place of the page's.
    pub(crate) fn documented(&self, block: &str) -> anyhow::Result<String> {
        let own = self.host.address.to_string();
        Ok(documented::block(PAGE, block)?.replace("10.0.0.5", &own).replace("10-0-0-5", &own.replace('.', "-")))
    }

    /// A node more.
    pub(crate) fn another_node(&self) -> anyhow::Result<Arc<Namespace>> {
        self.network.node("more")
    }

    /// Declares where a service is.
    pub(crate) fn declare(&self, service: &str, hosts: &[String]) -> anyhow::Result<()> {
        let endpoint = |host| serde_json::json!({"host": host, "port": 9200});
        let body = serde_json::json!({"endpoints": hosts.iter().map(endpoint).collect::<Vec<_>>()}).to_string();
        let line = format!("PUT /api/external/{CLUSTER}/{service}");
        let json = ["Content-Type: application/json"];
        let answer = self.host.inside(|| http::request(REGISTRY_HTTP, &line, &json, &body))??;
        anyhow::ensure!(answer.status < 300, "{line}: {} {}", answer.status, answer.body);
        Ok(())
    }

    /// Everything that the page promises of a resolver that answers at `resolver`.
    pub(crate) fn check(&self, name: &str, resolver: SocketAddr) -> anyhow::Result<()> {
        self.declare("search", &addresses(1..3))?;
        let full = |service: &str| format!("{service}.{CLUSTER}.{}", self.zone);
        let asked = |question: &str| self.node.dig(resolver, question);
        let holds = |service: &str, hosts: &[String]| -> anyhow::Result<()> {
            let dug = asked(&format!("{} A", full(service)))?;
            let (found, expected) =
                (dug.data("A").into_iter().collect(), hosts.iter().cloned().collect::<BTreeSet<_>>());
            anyhow::ensure!(expected == found, "{name}: {}", dug.text);
            Ok(())
        };
        eventually(PATIENCE, || holds("search", &addresses(1..3)))?;
        let places = |count: usize| addresses(1..count + 1).iter().map(|host| format!("{host}:9200")).collect();
        let srv = asked(&format!("_9200._tcp.{} SRV", full("search")))?;
        anyhow::ensure!(self.places(&srv, resolver)? == places(2), "{name}: {}", srv.text);

        let absent = asked(&format!("{} A", full("new")))?;
        anyhow::ensure!(absent.status == "NXDOMAIN", "{name}: {}", absent.text);
        self.declare("new", &addresses(1..2))?;
        let began = now();
        eventually(SOON, || holds("new", &addresses(1..2))).context("a name that appears after NXDOMAIN")?;
        let appeared = began.elapsed();

        holds("search", &addresses(1..3))?;
        self.declare("search", &addresses(2..4))?;
        let began = now();
        eventually(SOON, || holds("search", &addresses(2..4))).context("a service that moves")?;
        let moved = began.elapsed();

        self.declare("large", &addresses(1..MANY + 1))?;
        eventually(SOON, || {
            let large = asked(&format!("_9200._tcp.{} SRV", full("large")))?;
            anyhow::ensure!(large.data("SRV").len() == MANY, "{name}: {}", large.text);
            anyhow::ensure!(large.text.contains("retrying in TCP mode"), "{name}: {}", large.text);
            anyhow::ensure!(self.places(&large, resolver)? == places(MANY), "{name}: {}", large.text);
            Ok(())
        })?;
        report::say(&format!("{name}: a name appeared after {appeared:.1?}, a service moved after {moved:.1?}"));
        Ok(())
    }

    /// Names outside the zone still go elsewhere. Nothing there is signed, so validation is not asked for.
    pub(crate) fn check_other_names(&self, resolver: SocketAddr) -> anyhow::Result<()> {
        let dug = self.node.dig(resolver, "www.example.com A +cdflag")?;
        anyhow::ensure!(dug.data("A") == ["93.184.215.14"], "{}", dug.text);
        Ok(())
    }

    /// The places of an SRV answer. A resolver need not add the targets' addresses: then they are asked for.
    fn places(&self, dug: &portolan_tests::dig::Dug, resolver: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
        let mut whole = dug.clone();
        if whole.additional_data("A").len() < whole.data("SRV").len() {
            for srv in dug.data("SRV") {
                let target = srv.rsplit(' ').next().context("a target")?;
                whole.additional.extend(self.node.dig(resolver, &format!("{target} A"))?.answer);
            }
        }
        located(&whole)
    }
}

/// Writes a file for a resolver, in a folder of its own.
pub(crate) fn file(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let file = janitor::folder(&janitor::unique("resolver"), Kind::Folder)?.join(name);
    std::fs::write(&file, text)?;
    Ok(file)
}

/// 10.20.0.1 and so on: private, as they are in a VPC.
fn addresses(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("10.20.0.{number}")).collect()
}
