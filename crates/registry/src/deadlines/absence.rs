//! Missing tasks: those of nodes without a sidecar that two complete listings lack, and of which nobody said that they
//! stopped.

use std::collections::BTreeMap;

use portolan_core::name::NodeKey;
use portolan_core::rules::Ecs;

use super::limits::{Cause, Look};
use crate::catalog::Catalog;
use crate::intake::statement::Statement;
use crate::store::evidence::AbsenceRecord;

/// What is to be stated of one node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Absence {
    pub(super) node: NodeKey,
    pub(super) record: AbsenceRecord,
    /// The tasks that were not in it before.
    pub(super) newly: Vec<String>,
}

/// The missing tasks that may go now. A task goes as a whole, or not at all.
pub(super) fn due(look: &mut Look<'_>) -> Vec<Absence> {
    let mut newly: BTreeMap<NodeKey, Vec<String>> = BTreeMap::new();
    for (node, cause) in look.missing() {
        let stakes = look.stakes(&node, &cause);
        let may_go = |(service, count): (&_, &usize)| look.may_remove(service, *count);
        // The limits are about answers: what is in none goes at once.
        let is_held = !look.may_remove_on(&node) || !stakes.iter().all(may_go);
        if !stakes.is_empty() && is_held {
            continue;
        }
        look.remove(&node, cause.clone(), stakes);
        if let Cause::Missing(task) = cause {
            newly.entry(node).or_default().push(task);
        }
    }
    let absences = newly.into_iter().map(|(node, newly)| {
        let known = look.catalog.stated.absences.get(&node);
        let mut passed = known.map(|record| record.passed.clone()).unwrap_or_default();
        passed.extend(newly.iter().cloned());
        passed.sort();
        passed.dedup();
        Absence { node, record: AbsenceRecord { passed }, newly }
    });
    absences.collect()
}

/// Tasks that may no longer go, because they are missing no longer.
pub(super) fn taken_back(catalog: &Catalog) -> Vec<Statement> {
    let stated = &catalog.stated;
    let mut statements = Vec::new();
    for (node, record) in &stated.absences {
        let tasks = stated.ecs.get(node).map(|report| report.tasks.as_slice()).unwrap_or_default();
        let is_word = |word| matches!(word, Ecs::Missing | Ecs::MissingUnhealthy);
        let is_missing = |id: &&String| tasks.iter().any(|task| task.id == **id && is_word(task.word()));
        let passed: Vec<String> = record.passed.iter().filter(is_missing).cloned().collect();
        if passed != record.passed {
            let record = (!passed.is_empty()).then_some(AbsenceRecord { passed });
            statements.push(Statement::Absence(node.clone(), record));
        }
    }
    statements
}
