//! What one subscriber was sent, and what it must be sent next: the difference between two views, as messages.
//!
//! Pure. A slow subscriber costs one kept view: what happened between two calls is told as one difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdSet;
use imbl::ordmap::DiffItem;
use portolan_core::name::ServiceKey;
use portolan_core::view::{EndpointSet, Readiness, Service, View};
use portolan_proto::exchange;
use portolan_proto::wire::{self, subscribe_response::Kind};

/// How many services one subscriber may follow; more is refused by leaving them out.
const FOLLOWED_MAX: usize = 20_000;
/// How many directory entries one message carries at most, so that none exceeds the message limit.
const ENTRIES_MAX: usize = 2_000;

/// The state of one subscription.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    sent: Option<View>,
    followed: OrdSet<ServiceKey>,
    sets: BTreeMap<ServiceKey, Arc<Service>>,
}

impl Outbox {
    /// Follows `names`; their sets are part of the next update. Names that cannot be meant are left out.
    pub(crate) fn follow(&mut self, names: &[wire::ServiceName]) {
        for key in names.iter().filter_map(|name| exchange::service_name_in(Some(name)).ok()) {
            if self.followed.len() < FOLLOWED_MAX {
                self.sets.remove(&key);
                self.followed.insert(key);
            }
        }
    }

    /// Follows `names` no longer.
    pub(crate) fn unfollow(&mut self, names: &[wire::ServiceName]) {
        for key in names.iter().filter_map(|name| exchange::service_name_in(Some(name)).ok()) {
            self.followed.remove(&key);
            self.sets.remove(&key);
        }
    }

    /// What is followed. A clone shares it.
    pub(crate) fn followed(&self) -> &OrdSet<ServiceKey> {
        &self.followed
    }

    /// Forgets what was sent: the next update is complete.
    pub(crate) fn resend(&mut self) {
        self.sent = None;
        self.sets.clear();
    }

    /// What brings the subscriber to `view`.
    pub(crate) fn update(&mut self, view: &View, epoch: &str) -> Vec<Kind> {
        if view.readiness == Readiness::Loading {
            return Vec::new();
        }
        if self.sent.as_ref().is_some_and(|sent| sent.readiness != view.readiness) {
            self.resend();
        }
        let mut messages = self.directory(view, epoch);
        for key in &self.followed {
            let service = view.service(key).cloned().unwrap_or_else(|| absent(key, view.index));
            if self.sets.get(key).is_none_or(|sent| !has_same_set(sent, &service)) {
                messages.push(Kind::Set(exchange::service_set_out(&service)));
                self.sets.insert(key.clone(), service);
            }
        }
        self.sent = Some(view.clone());
        messages
    }

    /// What the subscriber holds if it took everything.
    pub(crate) fn digest(&self) -> Option<Kind> {
        let view = self.sent.as_ref()?;
        let services = view.services.values().map(AsRef::as_ref);
        let nodes = view.nodes.values().map(AsRef::as_ref);
        Some(Kind::Digest(wire::Digest {
            index: view.index,
            directory: exchange::directory_digest(services, nodes),
            sets: exchange::sets_digest(self.sets.values().map(AsRef::as_ref)),
        }))
    }

    fn directory(&self, view: &View, epoch: &str) -> Vec<Kind> {
        let is_confirmed = view.readiness == Readiness::Current;
        let sent = self.sent.as_ref();
        let mut directory = wire::Directory {
            is_complete: sent.is_none(),
            index: view.index,
            is_confirmed,
            epoch: epoch.to_owned(),
            ..wire::Directory::default()
        };
        let nothing = View::default();
        let from = sent.unwrap_or(&nothing);
        for change in from.services.diff(&view.services) {
            match change {
                DiffItem::Add(key, service) => directory.services.push(listed(key, service)),
                DiffItem::Update { old: (_, old), new: (key, new) } if old.link != new.link => {
                    directory.services.push(listed(key, new));
                }
                DiffItem::Update { .. } => {}
                DiffItem::Remove(key, _) => directory.removed_services.push(exchange::service_name_out(key)),
            }
        }
        for change in from.nodes.diff(&view.nodes) {
            match change {
                DiffItem::Add(_, node) | DiffItem::Update { new: (_, node), .. } => {
                    directory.nodes.push(exchange::node_out(node));
                }
                DiffItem::Remove(key, _) => directory.removed_nodes.push(exchange::node_name_out(key)),
            }
        }
        in_parts(directory)
    }
}

fn listed(key: &ServiceKey, service: &Service) -> wire::DirectoryService {
    exchange::directory_service_out(key, service.link.as_ref())
}

/// A followed name that no service has: an empty set, so that the subscriber knows that it is known to be nothing.
fn absent(key: &ServiceKey, index: u64) -> Arc<Service> {
    Arc::new(Service { key: key.clone(), index, link: None, endpoints: EndpointSet::Known([].into()) })
}

fn has_same_set(sent: &Arc<Service>, now: &Arc<Service>) -> bool {
    Arc::ptr_eq(sent, now) || sent.endpoints == now.endpoints
}

/// Splits a directory into messages of a bounded size; the first carries `is_complete`, nothing at all is no message.
fn in_parts(mut directory: wire::Directory) -> Vec<Kind> {
    let changes = directory.services.len() + directory.nodes.len();
    let is_empty = changes + directory.removed_services.len() + directory.removed_nodes.len() == 0;
    if is_empty && !directory.is_complete {
        return Vec::new();
    }
    let mut parts = Vec::new();
    while directory.services.len() + directory.nodes.len() > ENTRIES_MAX {
        let services = directory.services.split_off(directory.services.len().saturating_sub(ENTRIES_MAX));
        let room = ENTRIES_MAX - services.len();
        let nodes = directory.nodes.split_off(directory.nodes.len().saturating_sub(room));
        parts.push(Kind::Directory(wire::Directory {
            is_complete: false,
            services,
            nodes,
            index: directory.index,
            is_confirmed: directory.is_confirmed,
            epoch: directory.epoch.clone(),
            ..wire::Directory::default()
        }));
    }
    parts.insert(0, Kind::Directory(directory));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_core::name::Label;
    use portolan_core::view::{Link, LinkMode};

    fn service(name: &str, link: Option<Link>) -> Arc<Service> {
        let key = ServiceKey { cluster: Label::fixed("prod"), service: Label::parse(name).unwrap() };
        Arc::new(Service { key, index: 1, link, endpoints: EndpointSet::Known([].into()) })
    }

    fn view(services: &[Arc<Service>]) -> View {
        let mut view = View { readiness: Readiness::Current, index: 5, ..View::default() };
        services.iter().for_each(|s| view.insert_service(s.clone()));
        view
    }

    fn name(name: &str) -> wire::ServiceName {
        wire::ServiceName { cluster: "prod".into(), service: name.into() }
    }

    fn only_directory(messages: Vec<Kind>) -> wire::Directory {
        match messages.as_slice() {
            [Kind::Directory(directory)] => directory.clone(),
            others => panic!("expected one directory, got {others:?}"),
        }
    }

    #[test]
    fn sends_everything_once_and_then_only_differences() {
        let mut outbox = Outbox::default();
        let before = view(&[service("a", None), service("b", None)]);
        let first = only_directory(outbox.update(&before, "e"));
        assert!(first.is_complete && first.is_confirmed && first.services.len() == 2);
        assert_eq!(outbox.update(&before, "e"), Vec::new());

        let link = Link { address: "198.18.0.9".parse().unwrap(), mode: LinkMode::Vip, ports: Vec::new(), plane: None };
        let after = view(&[service("a", Some(link)), service("c", None)]);
        let delta = only_directory(outbox.update(&after, "e"));
        assert!(!delta.is_complete);
        assert_eq!((delta.services.len(), delta.removed_services), (2, vec![name("b")]));
    }

    #[test]
    fn sends_followed_sets_also_of_names_that_nobody_has() {
        let mut outbox = Outbox::default();
        let now = view(&[service("a", None)]);
        outbox.update(&now, "e");
        outbox.follow(&[name("a"), name("ghost"), name("not a name!")]);
        let sets: Vec<_> = outbox.update(&now, "e").into_iter().map(|k| matches!(k, Kind::Set(_))).collect();
        assert_eq!(sets, [true, true]);
        assert_eq!(outbox.update(&now, "e"), Vec::new());
        outbox.resend();
        assert_eq!(outbox.update(&now, "e").len(), 3);
    }

    #[test]
    fn sends_nothing_before_the_first_load_and_splits_large_directories() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.update(&View::default(), "e"), Vec::new());
        let many: Vec<_> = (0..5_000).map(|i| service(&format!("s{i}"), None)).collect();
        let parts = outbox.update(&view(&many), "e");
        let sizes: Vec<_> = parts
            .iter()
            .map(|k| match k {
                Kind::Directory(d) => (d.is_complete, d.services.len()),
                _ => panic!(),
            })
            .collect();
        assert_eq!(sizes, [(true, 1000), (false, 2000), (false, 2000)]);
    }
}
