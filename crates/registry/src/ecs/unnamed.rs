//! Tasks of containers that wait for ECS to tell their service: asked about by their ids.
//!
//! A container waits for five seconds at most, and keeps the name that it has then. An event may be late, and the next listing
//! is later than that. Pure.

use std::collections::BTreeMap;

use portolan_core::name::Label;

use super::api::DESCRIBE_MAX;
use crate::catalog::Catalog;

/// When a task is asked about again that AWS did not know, milliseconds.
const AGAIN_MS: u64 = 2_000;

/// What was asked about.
#[derive(Debug)]
pub(super) struct Unnamed {
    /// Those that AWS is asked about.
    clusters: Vec<Label>,
    /// When, Unix milliseconds. As many as there are containers without names.
    asked_ms: BTreeMap<(Label, String), u64>,
}

impl Unnamed {
    pub(super) fn new(clusters: Vec<Label>) -> Unnamed {
        Unnamed { clusters, asked_ms: BTreeMap::new() }
    }

    /// Whether there are any that were not asked about.
    pub(super) fn has_new(&self, catalog: &Catalog) -> bool {
        self.all(catalog).any(|task| !self.asked_ms.contains_key(task))
    }

    /// Tasks of one cluster to ask about now: they count as asked about.
    pub(super) fn next(&mut self, catalog: &Catalog, now_ms: u64) -> Option<(Label, Vec<String>)> {
        let is_due = |task: &&(Label, String)| {
            self.asked_ms.get(*task).is_none_or(|at_ms| now_ms.saturating_sub(*at_ms) >= AGAIN_MS)
        };
        let mut due: Vec<_> = self.all(catalog).filter(is_due).cloned().collect();
        due.sort();
        due.dedup();
        let (cluster, _) = due.first()?.clone();
        due.retain(|(own, _)| *own == cluster);
        due.truncate(DESCRIBE_MAX);
        let waiting: BTreeMap<_, _> =
            self.all(catalog).filter_map(|task| Some((task.clone(), *self.asked_ms.get(task)?))).collect();
        self.asked_ms = waiting;
        self.asked_ms.extend(due.iter().map(|task| (task.clone(), now_ms)));
        Some((cluster, due.into_iter().map(|(_, id)| id).collect()))
    }

    fn all<'a>(&self, catalog: &'a Catalog) -> impl Iterator<Item = &'a (Label, String)> {
        let tasks = catalog.name_needs.values().flat_map(|needs| &needs.tasks);
        tasks.filter(|(cluster, id)| self.clusters.contains(cluster) && is_task_id(id))
    }
}

/// Whether AWS takes it for the id of a task. One that it does not take would fail the call for the others.
fn is_task_id(text: &str) -> bool {
    matches!(text.len(), 32 | 36) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::needs::NameNeeds;
    use crate::testing::{label, node};

    fn catalog(tasks: &[(&str, &str)]) -> Catalog {
        let tasks = tasks.iter().map(|(cluster, id)| (label(cluster), (*id).to_owned())).collect();
        let mut catalog = Catalog::default();
        catalog.name_needs.insert(node("i-1"), Arc::new(NameNeeds { tasks, ..NameNeeds::default() }));
        catalog
    }

    #[test]
    fn asks_about_each_now_and_then_and_forgets_those_that_wait_no_more() {
        let id = |number: u8| format!("{number:032x}");
        let (one, two, three) = (id(1), id(2), id(3));
        let mut unnamed = Unnamed::new(vec![label("prod"), label("test")]);
        let tasks = [("prod", two.as_str()), ("test", &three), ("prod", &one), ("prod", &one), ("other", &one)];
        let waiting = catalog(&tasks);
        assert!(unnamed.has_new(&waiting));
        let mut next =
            |catalog: &Catalog, now_ms: u64| unnamed.next(catalog, now_ms).map(|(own, ids)| (own.to_string(), ids));
        assert_eq!(next(&waiting, 10), Some(("prod".to_owned(), vec![one.clone(), two.clone()])));
        assert_eq!(next(&waiting, 20), Some(("test".to_owned(), vec![three.clone()])));
        assert_eq!(next(&waiting, 2_009), None);
        let left = catalog(&[("prod", &one)]);
        assert_eq!(next(&left, 2_010), Some(("prod".to_owned(), vec![one.clone()])));
        assert_eq!(unnamed.asked_ms.len(), 1);
        assert!(!unnamed.has_new(&left) && unnamed.has_new(&waiting));
    }

    #[test]
    fn what_cannot_be_a_task_is_not_asked_about() {
        for id in ["", "01", "not an id of thirty-two octets...", "00000000-0000-4000-8000-00000000000g"] {
            assert_eq!(Unnamed::new(vec![label("prod")]).next(&catalog(&[("prod", id)]), 0), None, "{id}");
        }
        let old = "00000000-0000-4000-8000-000000000001";
        assert!(Unnamed::new(vec![label("prod")]).next(&catalog(&[("prod", old)]), 0).is_some());
    }

    #[test]
    fn asks_about_as_many_at_once_as_aws_takes() {
        let ids: Vec<String> = (0..250).map(|number| format!("{number:032x}")).collect();
        let tasks: Vec<(&str, &str)> = ids.iter().map(|id| ("prod", id.as_str())).collect();
        let waiting = catalog(&tasks);
        let mut unnamed = Unnamed::new(vec![label("prod")]);
        let counts: Vec<_> = (0..4).map(|_| unnamed.next(&waiting, 0).map(|(_, ids)| ids.len())).collect();
        assert_eq!(counts, [Some(100), Some(100), Some(50), None]);
    }
}
