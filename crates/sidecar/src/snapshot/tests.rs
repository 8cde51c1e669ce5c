//! A snapshot is taken whole or not at all.

use super::*;
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_core::view::{Link, LinkMode, Node};
use proptest::prelude::*;

fn view(service: &'static str) -> View {
    let mut view = View { readiness: Readiness::Current, index: 4, ..View::default() };
    let key = ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed(service) };
    let link = Link { address: "198.18.1.2".parse().unwrap(), mode: LinkMode::Vip, ports: Vec::new(), plane: None };
    view.insert_service(Arc::new(Service {
        key,
        index: 4,
        link: Some(link),
        endpoints: EndpointSet::Known([].into()),
    }));
    let key = NodeKey { cluster: Label::fixed("prod"), node: Label::fixed("i-1") };
    view.insert_node(Arc::new(Node { key, host_name: None, addresses: vec!["10.0.0.1".parse().unwrap()], az: None }));
    view
}

fn provenance() -> Provenance {
    Provenance { epoch: "e".into(), current_at_ms: 7 }
}

fn stale(mut view: View) -> (View, Provenance) {
    view.readiness = Readiness::Stale;
    (view, provenance())
}

#[test]
fn comes_back_as_it_was_but_stale() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(load(directory.path()), None);
    save(directory.path(), &view("a"), &provenance()).unwrap();
    save(directory.path(), &view("b"), &provenance()).unwrap();
    assert_eq!(load(directory.path()), Some(stale(view("b"))));
}

#[test]
fn a_torn_or_flipped_file_falls_back_one_generation() {
    let directory = tempfile::tempdir().unwrap();
    save(directory.path(), &view("a"), &provenance()).unwrap();
    save(directory.path(), &view("b"), &provenance()).unwrap();
    let newest = directory.path().join(GENERATIONS[0]);
    let whole = fs::read(&newest).unwrap();
    for damaged in [whole[..whole.len() - 1].to_vec(), Vec::new(), {
        let mut w = whole.clone();
        w[30] ^= 4;
        w
    }] {
        fs::write(&newest, damaged).unwrap();
        assert_eq!(load(directory.path()), Some(stale(view("a"))));
    }
}

proptest! {
    #[test]
    fn every_flipped_bit_is_found(at in 0usize..1000, bit in 0u8..8) {
        let mut bytes = encode(&view("a"), &provenance());
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }
}
