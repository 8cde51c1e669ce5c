//! Which containers are to be inspected: each at most once at a time, few at once, and again when something happened
//! meanwhile, so that the last answer is newer than the last event.

use std::collections::{BTreeSet, VecDeque};

/// dockerd answers for a container that starts or hangs only when it has its lock: so many that a few such ones keep no
/// other waiting, and so few that dockerd can serve them beside what operators ask of it.
const AT_ONCE_MAX: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Inspections {
    waiting: VecDeque<String>,
    running: BTreeSet<String>,
    again: BTreeSet<String>,
}

impl Inspections {
    /// Asks for an inspection that begins after this moment.
    pub(super) fn want(&mut self, id: String) {
        if self.running.contains(&id) {
            self.again.insert(id);
        } else if !self.waiting.contains(&id) {
            self.waiting.push_back(id);
        }
    }

    /// The next to begin, if one may.
    pub(super) fn begin(&mut self) -> Option<String> {
        if self.running.len() >= AT_ONCE_MAX {
            return None;
        }
        let id = self.waiting.pop_front()?;
        self.running.insert(id.clone());
        Some(id)
    }

    /// An inspection ended.
    pub(super) fn finish(&mut self, id: &str) {
        self.running.remove(id);
        if let Some(id) = self.again.take(id) {
            self.waiting.push_back(id);
        }
    }

    /// Forgets what waits: Docker is out of reach, and the next list will ask for everything again.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.again.clear();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inspects_again_what_changed_meanwhile() {
        let mut inspections = Inspections::default();
        inspections.want("a".into());
        inspections.want("a".into());
        assert_eq!(inspections.begin().as_deref(), Some("a"));
        assert_eq!(inspections.begin(), None);
        inspections.want("a".into());
        assert_eq!(inspections.begin(), None, "never twice at once");
        inspections.finish("a");
        assert_eq!(inspections.begin().as_deref(), Some("a"));
        inspections.finish("a");
        assert!(inspections.is_idle());
    }

    #[test]
    fn bounds_how_many_run() {
        let mut inspections = Inspections::default();
        (0..50).for_each(|n| inspections.want(n.to_string()));
        assert_eq!(std::iter::from_fn(|| inspections.begin()).count(), AT_ONCE_MAX);
    }
}
