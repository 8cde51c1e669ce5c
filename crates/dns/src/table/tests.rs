use portolan_core::name::Label;
use portolan_core::view::{EndpointSet, View};

use super::*;

fn question(name: &str, id: u8) -> Vec<u8> {
    let mut packet = vec![id, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}

fn key(name: &str) -> ServiceKey {
    ServiceKey { cluster: Label::fixed("prod"), service: Label::parse(name).unwrap() }
}

fn insert(view: &mut View, name: &str) {
    let endpoints = EndpointSet::Known(Vec::new().into());
    view.insert_service(Arc::new(Service { key: key(name), index: 0, link: None, endpoints }));
}

fn view(names: &[&str]) -> Arc<View> {
    let mut view = View { readiness: Readiness::Current, ..View::default() };
    names.iter().for_each(|name| insert(&mut view, name));
    Arc::new(view)
}

struct Kept {
    table: Table,
    view: Arc<View>,
    key: Vec<u8>,
}

impl Kept {
    fn new(view: Arc<View>) -> Self {
        Kept { table: Table::new(7), view, key: Vec::new() }
    }

    fn find(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let asked = Asked::read(packet, &mut self.key).unwrap();
        self.table.find(&asked, &self.view, &mut out).map(|_| out)
    }

    fn keep(&mut self, packet: &[u8], reply: &[u8], has_serial: bool) {
        let basis = if has_serial { Basis::whole(&self.view) } else { Basis::new(key("web"), &self.view) };
        let asked = Asked::read(packet, &mut self.key).unwrap();
        let ready = Ready { reply, code: ResponseCode::NoError, alike: 1, basis };
        self.table.keep(&asked, ready);
    }
}

#[test]
fn gives_each_asker_its_own_id_case_and_bit() {
    let mut kept = Kept::new(view(&["web"]));
    let first = question("web.prod", 1);
    assert_eq!(kept.find(&first), None);
    let reply = [&first[..], b"answer"].concat();
    kept.keep(&first, &reply, false);
    let mut second = question("WEB.Prod", 2);
    second[2] = 0;
    assert_eq!(kept.find(&second), Some([&second[..], b"answer"].concat()));
}

#[test]
fn forgets_what_its_service_no_longer_says_and_nothing_else() {
    let mut kept = Kept::new(view(&["web", "other"]));
    let (plain, serial) = (question("web.prod", 1), question("web.test", 1));
    kept.find(&plain);
    kept.keep(&plain, &plain, false);
    kept.keep(&serial, &serial, true);
    let mut changed = View::clone(&kept.view);
    insert(&mut changed, "other");
    kept.view = Arc::new(changed);
    assert!(kept.find(&plain).is_some(), "another service changed");
    assert!(kept.find(&serial).is_none(), "the view's serial number changed");
    let mut changed = View::clone(&kept.view);
    insert(&mut changed, "web");
    kept.view = Arc::new(changed);
    assert!(kept.find(&plain).is_none());
    kept.keep(&plain, &plain, false);
    kept.view = Arc::new(View { readiness: Readiness::Stale, ..View::clone(&kept.view) });
    assert!(kept.find(&plain).is_none(), "stale answers say so");
    assert_eq!(kept.table.octets, 0);
}

#[test]
fn holds_no_more_than_it_may() {
    let mut kept = Kept::new(view(&["web"]));
    let reply = [0; 1_000];
    for i in 0..20_000 {
        let packet = question(&format!("x{i}.web.prod"), 1);
        kept.find(&packet);
        kept.keep(&packet, &reply, false);
        assert!(kept.table.octets <= OCTETS_MAX);
    }
    let held: usize = kept.table.entries.iter().map(|(key, entry)| cost(key, entry)).sum();
    assert_eq!(held, kept.table.octets);
    assert!(!kept.table.entries.is_empty());
}

#[test]
fn reads_plain_questions_only() {
    let read = |packet: &[u8]| Asked::read(packet, &mut Vec::new()).is_some();
    let plain = question("web.prod", 1);
    assert!(read(&plain));
    let edns = |opt: &[u8]| {
        let mut packet = [&plain[..], opt].concat();
        packet[11] = 1;
        packet
    };
    assert!(read(&edns(&[0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 0])));
    let cookie = |lengths: [u8; 2], octets: usize| {
        edns(&[&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, lengths[0], 0, 10, 0, lengths[1]], &[7; 64][..octets]].concat())
    };
    for octets in 0..=60 {
        let is_whole = octets == 8 || (16..=40).contains(&octets);
        assert_eq!(read(&cookie([4 + octets, octets], octets.into())), is_whole, "{octets}");
    }
    assert!(!read(&cookie([12, 8], 9)) && !read(&cookie([13, 8], 9)) && !read(&cookie([12, 9], 8)));
    for opt in [
        &[0, 0, 41, 16, 0, 0, 1, 0, 0, 0, 0][..],
        &[0, 0, 41, 16, 0, 1, 0, 0, 0, 0, 0],
        &[0, 0, 41, 16, 0, 0, 0, 0, 1, 0, 0],
        &[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0],
        &[0, 0, 1, 16, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 41],
        &[],
    ] {
        assert!(!read(&edns(opt)), "{opt:?}");
    }
    for (place, value) in [(2, 0x80), (2, 0x08), (2, 2), (5, 2), (5, 0), (7, 1), (9, 1), (11, 1)] {
        let mut packet = plain.clone();
        packet[place] = value;
        assert!(!read(&packet), "octet {place} is {value}");
    }
    (0..plain.len()).for_each(|length| assert!(!read(&plain[..length]), "{length} octets"));
    assert!(!read(&[&plain[..], b"x"].concat()));
    let pointer = [&plain[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
    assert!(!read(&pointer));
}
