//! The job with a DNS server and a listener on port 0, in real time.

use portolan_core::lookup::Zone;
use portolan_core::name::NodeKey;
use portolan_core::view::{Node, Readiness, View};
use portolan_dns::authority::{Authority, Ttl};
use portolan_dns::gate::{Beginning, Gate, GateSettings};
use portolan_dns::listen::Listeners;
use portolan_dns::server::{Role, Server};
use portolan_runtime::published::{Publisher, published};
use tokio::net::TcpListener;

use super::*;
use crate::testing::label;

/// A view in which `db.node.prod.outside.test` has that address.
fn view(address: IpAddr) -> View {
    let mut view = View { readiness: Readiness::Current, ..View::default() };
    let key = NodeKey { cluster: label("prod"), node: label("db") };
    view.insert_node(Arc::new(Node { key, host_name: None, addresses: vec![address], az: None }));
    view
}

/// A DNS server of our own, on a zone that is outside for the registry.
async fn serve(jobs: &Jobs, address: &str) -> (SocketAddr, Publisher<View>) {
    let (publisher, reader) = published(view(address.parse().unwrap()));
    let zone = Zone::parse("outside.test").unwrap();
    let authority = Authority::new(zone, Ttl::default(), "ip-127-0-0-1.addr.outside.test.").unwrap();
    let listeners = Listeners::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let bound = listeners.address();
    let metrics = portolan_dns::metrics::Metrics::new(&mut prometheus_client::registry::Registry::default());
    let gate = Gate::new(GateSettings::default(), [7; 32], Beginning::now());
    let server = Server { view: reader, authority, role: Role::Registry, gate, metrics };
    listeners.serve(jobs, Arc::new(server)).unwrap();
    (bound, publisher)
}

/// Those resolvers, and never the host's.
fn upstreams(resolvers: &[SocketAddr]) -> Upstreams {
    let entries: Vec<_> = resolvers.iter().map(|resolver| resolver.to_string().parse().unwrap()).collect();
    Upstreams::new(Some(&entries), &Zone::parse("ecs.internal").unwrap()).unwrap()
}

#[tokio::test]
async fn follows_a_name_at_a_real_resolver() {
    let mut world = World::new().await;
    let (resolver, publisher) = serve(&world.jobs, "192.0.2.1").await;
    start(&world.jobs, world.external(), &upstreams(&[resolver]));
    let host = "db.node.prod.outside.test";
    world.declare("db", record(vec![endpoint(host, 5432)], None)).await;
    for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        let address: IpAddr = address.parse().unwrap();
        publisher.publish(Arc::new(view(address)));
        let leads_there = |catalog: &Catalog| {
            let resolved = catalog.stated.resolved.get(&service("db"));
            resolved.is_some_and(|resolved| resolved.places.iter().map(|place| place.address).eq([address]))
        };
        let within = Duration::from_secs(20);
        tokio::time::timeout(within, world.catalog.wait_for(leads_there)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_place_connects_when_somebody_listens_there() {
    let network = Network::new(&Jobs::new(), &upstreams(&[]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    assert!(network.connects(place).await);
    drop(listener);
    assert!(!network.connects(place).await);
    let answers = network.resolve("db.test").await;
    assert_eq!(answers.v4, Err(AddressesError::NoResolver));
}
