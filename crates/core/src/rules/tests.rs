use proptest::prelude::*;

use super::*;
use crate::selection::Rank;

const WORDS: [Word; 7] = [
    Word::Died,
    Word::Stopping(LastCheck::Passed),
    Word::Stopping(LastCheck::NotPassed),
    Word::Paused,
    Word::Failing,
    Word::Starting,
    Word::Passing,
];
const ECS: [Ecs; 10] = [
    Ecs::NotUsed,
    Ecs::NotKnown,
    Ecs::Missing,
    Ecs::MissingUnhealthy,
    Ecs::Pending,
    Ecs::Running,
    Ecs::RunningUnhealthy,
    Ecs::Drained,
    Ecs::Leaving,
    Ecs::Stopped,
];
const NEIGHBOURS: [Neighbours; 3] = [Neighbours::NotKnown, Neighbours::Connect, Neighbours::Refused];

/// The table as DESIGN has it, where no operator ordered anything: sidecar | ECS | neighbours | deadline | endpoint | rule. `any` and lists with commas.
const TABLE: &str = "
died                          | any                                    | any               | any     | gone                 | Ended
stopping+                     | any                                    | any               | any     | draining+            | Stopping
stopping-                     | any                                    | any               | any     | draining-            | Stopping
paused, failing               | any                                    | any               | any     | unusable             | Failing
starting                      | any                                    | any               | any     | starting             | NotYetPassed
passing                       | drained, leaving, stopped                       | any               | any     | draining+            | EcsLeaving
passing                       | none, unknown, missing, missing unhealthy, pending, run, unhealthy | any               | any     | usable               | Passing
silent died                   | stopped                                | any               | any     | gone                 | SilentUnusableStopped
silent stopping+, silent stopping-, silent paused, silent starting, silent failing | stopped | any | any | gone            | SilentUnusableStopped
silent died                   | none, unknown, missing, missing unhealthy, pending, run, unhealthy, drained, leaving | any      | any     | gone                 | SilentAsLastSaid
silent stopping+              | none, unknown, missing, missing unhealthy, pending, run, unhealthy, drained, leaving | any      | any     | draining+            | SilentAsLastSaid
silent stopping-              | none, unknown, missing, missing unhealthy, pending, run, unhealthy, drained, leaving | any      | any     | draining-            | SilentAsLastSaid
silent paused, silent failing | none, unknown, missing, missing unhealthy, pending, run, unhealthy, drained, leaving | any      | any     | unusable             | SilentAsLastSaid
silent starting               | none, unknown, missing, missing unhealthy, pending, run, unhealthy, drained, leaving | any      | any     | starting             | SilentAsLastSaid
silent passing                | stopped                                | any               | any     | gone                 | SilentStopped
silent passing                | none, unknown, missing, missing unhealthy, pending, run, unhealthy, drained, leaving | refused  | any     | gone                 | SilentRefused
silent passing                | run, unhealthy                         | connect           | any     | unverified           | SilentRunning
silent passing                | run, unhealthy                         | unknown           | any     | unverified, last     | SilentRunning
silent passing                | none, unknown, missing, missing unhealthy, pending, drained, leaving        | connect           | running | unverified           | SilentVouched
silent passing                | none, unknown, missing, missing unhealthy, pending, drained, leaving        | connect           | passed  | unverified, last     | SilentVouched
silent passing                | none, unknown, missing, missing unhealthy, pending, drained, leaving        | unknown           | running | unverified, last     | SilentUnknown
silent passing                | none, unknown, missing, missing unhealthy, pending, drained, leaving        | unknown           | passed  | gone                 | SilentUnknown
no sidecar                    | run                                    | any               | any     | usable               | EcsRunning
no sidecar                    | unhealthy                              | any               | any     | unusable             | EcsUnhealthy
no sidecar                    | drained                                | any               | any     | draining+            | EcsDrained
no sidecar                    | missing                                | any               | running | unverified, last     | EcsMissing
no sidecar                    | missing unhealthy                      | any               | running | unusable             | EcsMissing
no sidecar                    | missing, missing unhealthy             | any               | passed  | gone                 | EcsMissing
no sidecar                    | none, unknown, pending, leaving, stopped | any             | any     | gone                 | EcsOther
external, external passing    | any                                    | any               | any     | usable               | External
external failing              | any                                    | any               | any     | unusable             | External
external starting             | any                                    | any               | any     | starting             | External
";

#[test]
fn decides_every_row_as_the_contract_says() {
    let mut seen = std::collections::BTreeSet::new();
    for row in TABLE.lines().filter(|line| !line.is_empty()) {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let [sidecars, ecs, neighbours, deadlines, state, rule] = columns.as_slice() else { panic!("{row}") };
        for witnesses in combinations([sidecars, ecs, neighbours, deadlines]) {
            let decided = decide(&witnesses);
            assert_eq!(decided.state, state_of(state), "{row}: {witnesses:?}");
            assert_eq!(format!("{:?}", decided.rule), *rule, "{row}: {witnesses:?}");
            seen.insert(decided.rule);
        }
    }
    let orders = [Rule::Evicted, Rule::Drained];
    assert_eq!(orders.into_iter().chain(seen).collect::<Vec<_>>(), Rule::ALL);
}

fn combinations([sidecars, ecs, neighbours, deadlines]: [&str; 4]) -> Vec<Witnesses> {
    let list = |cell: &str, all: &[&str]| -> Vec<String> {
        if cell == "any" { all.iter().map(|s| (*s).to_owned()).collect() } else { split(cell) }
    };
    let mut made = Vec::new();
    for sidecar in split(sidecars) {
        for ecs in list(ecs, &["none", "unknown", "missing", "pending", "run", "unhealthy", "leaving", "stopped"]) {
            for neighbours in list(neighbours, &["unknown", "connect", "refused"]) {
                for deadline in list(deadlines, &["running", "passed"]) {
                    made.push(Witnesses {
                        sidecar: sidecar_of(&sidecar),
                        ecs: ecs_of(&ecs),
                        neighbours: neighbours_of(&neighbours),
                        deadline: if deadline == "passed" { Deadline::Passed } else { Deadline::Running },
                        operator: Operator::Nothing,
                    });
                }
            }
        }
    }
    made
}

fn split(cell: &str) -> Vec<String> {
    cell.split(',').map(|part| part.trim().to_owned()).collect()
}

fn sidecar_of(text: &str) -> Sidecar {
    match text {
        "no sidecar" => Sidecar::None,
        "external" => Sidecar::External(Declared::Unchecked),
        "external passing" => Sidecar::External(Declared::Passing),
        "external failing" => Sidecar::External(Declared::Failing),
        "external starting" => Sidecar::External(Declared::Starting),
        _ => match text.strip_prefix("silent ") {
            Some(word) => Sidecar::Silent(word_of(word)),
            None => Sidecar::Speaks(word_of(text)),
        },
    }
}

fn word_of(text: &str) -> Word {
    match text {
        "died" => Word::Died,
        "stopping+" => Word::Stopping(LastCheck::Passed),
        "stopping-" => Word::Stopping(LastCheck::NotPassed),
        "paused" => Word::Paused,
        "failing" => Word::Failing,
        "starting" => Word::Starting,
        "passing" => Word::Passing,
        other => panic!("no word `{other}`"),
    }
}

fn ecs_of(text: &str) -> Ecs {
    match text {
        "none" => Ecs::NotUsed,
        "unknown" => Ecs::NotKnown,
        "missing" => Ecs::Missing,
        "missing unhealthy" => Ecs::MissingUnhealthy,
        "pending" => Ecs::Pending,
        "run" => Ecs::Running,
        "unhealthy" => Ecs::RunningUnhealthy,
        "drained" => Ecs::Drained,
        "leaving" => Ecs::Leaving,
        "stopped" => Ecs::Stopped,
        other => panic!("no ECS word `{other}`"),
    }
}

fn neighbours_of(text: &str) -> Neighbours {
    match text {
        "unknown" => Neighbours::NotKnown,
        "connect" => Neighbours::Connect,
        "refused" => Neighbours::Refused,
        other => panic!("no neighbours' word `{other}`"),
    }
}

fn state_of(text: &str) -> State {
    match text {
        "gone" => State::Gone,
        "draining+" => State::Draining { passed: true },
        "draining-" => State::Draining { passed: false },
        "unusable" => State::Unusable,
        "starting" => State::Starting,
        "usable" => State::Usable,
        "unverified" => State::Unverified(Standing::Vouched),
        "unverified, last" => State::Unverified(Standing::Last),
        other => panic!("no state `{other}`"),
    }
}

fn witnesses() -> impl Strategy<Value = Witnesses> {
    let word = prop::sample::select(&WORDS[..]);
    let declared =
        prop::sample::select(vec![Declared::Unchecked, Declared::Starting, Declared::Passing, Declared::Failing]);
    let sidecar = prop_oneof![
        word.clone().prop_map(Sidecar::Speaks),
        word.prop_map(Sidecar::Silent),
        Just(Sidecar::None),
        declared.prop_map(Sidecar::External),
    ];
    let ecs = prop::sample::select(&ECS[..]);
    let neighbours = prop::sample::select(&NEIGHBOURS[..]);
    let deadline = prop::sample::select(vec![Deadline::Running, Deadline::Passed]);
    let operator = prop::sample::select(vec![Operator::Nothing, Operator::Drained, Operator::Evicted]);
    (sidecar, ecs, neighbours, deadline, operator).prop_map(|(sidecar, ecs, neighbours, deadline, operator)| {
        Witnesses { sidecar, ecs, neighbours, deadline, operator }
    })
}

proptest! {
    /// A silent node's usable endpoint needs a second witness or its deadline to be gone.
    #[test]
    fn silence_alone_removes_nothing_before_its_deadline(mut w in witnesses()) {
        w.sidecar = Sidecar::Silent(Word::Passing);
        w.deadline = Deadline::Running;
        w.operator = Operator::Nothing;
        let is_strong = w.ecs == Ecs::Stopped || w.neighbours == Neighbours::Refused;
        prop_assert_eq!(decide(&w).state == State::Gone, is_strong);
    }

    /// An order takes away and never gives: what is gone or starting stays so, and nothing ordered out is answered before it
    /// was.
    #[test]
    fn an_order_only_takes_away(mut w in witnesses()) {
        let ordered = decide(&w);
        let order = std::mem::replace(&mut w.operator, Operator::Nothing);
        let witnessed = decide(&w);
        match order {
            Operator::Nothing => prop_assert_eq!(ordered, witnessed),
            Operator::Evicted => prop_assert_eq!(ordered.state, State::Gone),
            Operator::Drained if matches!(witnessed.state, State::Gone | State::Starting) => {
                prop_assert_eq!(ordered, witnessed);
            }
            Operator::Drained => {
                let passed = !matches!(witnessed.state, State::Unusable | State::Draining { passed: false });
                prop_assert_eq!(ordered.state, State::Draining { passed });
            }
        }
        let resort = |decision: Decision| Rank::of(decision.state).map_or((1, None), |rank| (0, Some(rank)));
        prop_assert!(resort(ordered) >= resort(witnessed));
    }

    /// Total, and what a speaking sidecar says of an end is final whatever others say.
    #[test]
    fn a_death_is_final_and_only_a_passing_word_is_usable(w in witnesses()) {
        let decided = decide(&w);
        if matches!(w.sidecar, Sidecar::Speaks(Word::Died)) {
            prop_assert_eq!(decided.state, State::Gone);
        }
        if let Sidecar::Speaks(word) | Sidecar::Silent(word) = w.sidecar {
            let is_answered_first = matches!(decided.state, State::Usable | State::Unverified(_));
            prop_assert!(!is_answered_first || word == Word::Passing);
        }
    }
}
