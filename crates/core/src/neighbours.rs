//! Neighbours as a witness: what nodes met that tried to connect to a place, and what their answers come to together.
//!
//! A node that cannot reach anybody says nothing about others: its failures count only if it also reached a *control*, an
//! endpoint of a third node, in the same moment.

use crate::rules::Neighbours;

/// How many nodes have to fail at a place, and reach their controls, before it counts as refused (DESIGN section 5).
const FAILURES_MIN: usize = 2;

/// What a node met when it tried to connect to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Met {
    /// A connection.
    Connected,
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    TimedOut,
    /// There is no way there, as a router or the node's own network says.
    Unreachable,
    /// Nothing: it did not try, or failed by its own fault.
    Nothing,
}

impl Met {
    /// What it says of a place at an address of its own, such as a task's interface, beside what the same node met at the
    /// host: a firewall keeps silent like a machine that is cut off, so silence there says nothing while the host answers.
    pub fn beside(self, host: Met) -> Met {
        let is_silent = |met| matches!(met, Met::TimedOut | Met::Unreachable);
        if is_silent(self) && !is_silent(host) { Met::Nothing } else { self }
    }
}

/// One node's answer about one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer {
    /// What it met.
    pub met: Met,
    /// Whether it reached a control.
    pub is_control_reached: bool,
}

/// What the answers about one place come to. One connection outweighs every failure.
pub fn word(answers: impl IntoIterator<Item = Answer>) -> Neighbours {
    let mut failures = 0;
    for answer in answers {
        match answer.met {
            Met::Connected => return Neighbours::Connect,
            Met::Refused | Met::TimedOut | Met::Unreachable => failures += usize::from(answer.is_control_reached),
            Met::Nothing => {}
        }
    }
    if failures >= FAILURES_MIN { Neighbours::Refused } else { Neighbours::NotKnown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_reach_their_controls_refuse_and_one_connection_outweighs_them() {
        let (yes, no) = (true, false);
        let rows: [(&[(Met, bool)], Neighbours); 10] = [
            (&[], Neighbours::NotKnown),
            (&[(Met::Refused, yes)], Neighbours::NotKnown),
            (&[(Met::Refused, yes), (Met::TimedOut, no)], Neighbours::NotKnown),
            (&[(Met::Refused, yes), (Met::Nothing, yes), (Met::TimedOut, no)], Neighbours::NotKnown),
            (&[(Met::TimedOut, no), (Met::TimedOut, no), (Met::Unreachable, no)], Neighbours::NotKnown),
            (&[(Met::Refused, yes), (Met::TimedOut, yes)], Neighbours::Refused),
            (&[(Met::Unreachable, yes), (Met::Nothing, yes), (Met::Unreachable, yes)], Neighbours::Refused),
            (&[(Met::Refused, yes), (Met::Refused, yes), (Met::Connected, no)], Neighbours::Connect),
            (&[(Met::Connected, no)], Neighbours::Connect),
            (&[(Met::Nothing, yes), (Met::Nothing, yes)], Neighbours::NotKnown),
        ];
        for (answers, expected) in rows {
            let given = answers.iter().map(|&(met, is_control_reached)| Answer { met, is_control_reached });
            assert_eq!(word(given), expected, "{answers:?}");
        }
    }

    #[test]
    fn silence_at_an_interface_of_its_own_counts_beside_a_silent_host() {
        use Met::{Connected, Nothing, Refused, TimedOut, Unreachable};
        let rows = [
            (TimedOut, Refused, Nothing),
            (TimedOut, Connected, Nothing),
            (Unreachable, Nothing, Nothing),
            (TimedOut, TimedOut, TimedOut),
            (Unreachable, TimedOut, Unreachable),
            (Refused, Refused, Refused),
            (Connected, TimedOut, Connected),
        ];
        for (met, host, expected) in rows {
            assert_eq!(met.beside(host), expected, "{met:?} beside {host:?}");
        }
    }
}
