//! Whom to ask about a silent node: up to three that speak, at random, those that could not tell last time only if nobody
//! else is there. Pure; randomness is an argument.

use std::collections::{BTreeMap, BTreeSet};

use portolan_core::name::NodeKey;
use rand::Rng;
use rand::seq::SliceRandom;

use super::sight::Silent;
use super::switchboard::Reachable;

/// How many are asked: two must agree, and one may fail (DESIGN section 5).
const ASKED: usize = 3;
/// With fewer than this nothing can be refused, so it is waited for those that are busy.
const ASKED_MIN: usize = 2;

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// These.
    Ask(Vec<NodeKey>),
    /// Too many owe another answer: later.
    Wait,
    /// There is nobody.
    Nobody,
}

/// Nodes that speak and can be asked.
#[derive(Debug)]
pub(super) struct Speaking {
    nodes: Vec<Reachable>,
}

impl Speaking {
    /// Those of `reachable` that are not `silent`.
    pub(super) fn of(mut reachable: Vec<Reachable>, silent: &BTreeMap<NodeKey, Silent>) -> Self {
        reachable.retain(|reachable| !silent.contains_key(&reachable.node));
        // A switchboard has no order: with one, the same seed chooses the same.
        reachable.sort_by(|a, b| a.node.cmp(&b.node));
        Speaking { nodes: reachable }
    }

    /// Whether there are some, and all of them owe an answer.
    pub(super) fn is_busy(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.iter().all(|reachable| !reachable.is_idle)
    }

    /// Chooses; who is chosen is busy from now on.
    pub(super) fn choose(&mut self, clueless: &BTreeSet<NodeKey>, rng: &mut impl Rng) -> Choice {
        if self.nodes.is_empty() {
            return Choice::Nobody;
        }
        let enough = self.nodes.len().min(ASKED_MIN);
        let mut idle: Vec<_> = self.nodes.iter_mut().filter(|reachable| reachable.is_idle).collect();
        if idle.len() < enough {
            return Choice::Wait;
        }
        let (mixed, _) = idle.partial_shuffle(rng, ASKED + clueless.len());
        mixed.sort_by_key(|reachable| clueless.contains(&reachable.node));
        let asked = mixed.iter_mut().take(ASKED).map(|reachable| {
            reachable.is_idle = false;
            reachable.node.clone()
        });
        Choice::Ask(asked.collect())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::testing::node;

    fn reachable(name: &str, is_idle: bool) -> Reachable {
        Reachable { node: node(name), is_idle }
    }

    fn chosen(reachable: &[Reachable], silent: &[&str], clueless: &[&str], seed: u64) -> Choice {
        let silent = silent.iter().map(|name| (node(name), Silent::default())).collect();
        let clueless = clueless.iter().map(|name| node(name)).collect();
        Speaking::of(reachable.to_vec(), &silent).choose(&clueless, &mut StdRng::seed_from_u64(seed))
    }

    #[test]
    fn silent_nodes_are_not_asked_and_busy_ones_waited_for() {
        let rows: [(&[Reachable], &[&str], Choice); 5] = [
            (&[], &[], Choice::Nobody),
            (&[reachable("a", true)], &["a"], Choice::Nobody),
            (&[reachable("a", false)], &[], Choice::Wait),
            (&[reachable("a", true), reachable("b", false)], &[], Choice::Wait),
            (&[reachable("a", true), reachable("b", false)], &["b"], Choice::Ask(vec![node("a")])),
        ];
        for (reachable, silent, expected) in rows {
            assert_eq!(chosen(reachable, silent, &[], 1), expected, "{reachable:?} {silent:?}");
        }
    }

    #[test]
    fn three_are_asked_others_by_another_seed_and_clueless_ones_last() {
        let all: Vec<_> = (0..20).map(|i| reachable(&format!("n{i}"), true)).collect();
        let of = |seed| match chosen(&all, &["n0"], &["n1", "n2"], seed) {
            Choice::Ask(asked) => asked,
            other => panic!("{other:?}"),
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        for seed in 0..100 {
            let asked = of(seed);
            assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), ASKED);
            assert!(["n0", "n1", "n2"].iter().all(|name| !asked.contains(&node(name))), "{asked:?}");
        }
        let mut speaking = Speaking::of(all[..6].to_vec(), &BTreeMap::new());
        let mut rng = StdRng::seed_from_u64(1);
        let none = BTreeSet::new();
        let (first, second) = (speaking.choose(&none, &mut rng), speaking.choose(&none, &mut rng));
        assert_ne!(first, second);
        assert_eq!(speaking.choose(&none, &mut rng), Choice::Wait, "all are asked already");
        let few = [reachable("n1", true), reachable("n3", true)];
        assert_eq!(chosen(&few, &[], &["n1"], 1), Choice::Ask(vec![node("n3"), node("n1")]));
    }
}
