use super::*;
use crate::testing::{NOW_MS, node};

fn place(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// A node of that host, silent since then.
fn silent_since(since_ms: u64) -> BTreeMap<NodeKey, Silent> {
    [(node("i-1"), Silent { since_ms, addresses: vec![[10, 0, 0, 1].into()] })].into()
}

/// A docket with what it stated, moved by hand.
struct Rig {
    docket: Docket,
    silent: BTreeMap<NodeKey, Silent>,
    places: Places,
    stated: Stated,
    now_ms: u64,
    is_sure: bool,
}

/// What a neighbour met at every place, and whether it reached a control.
type Said = (Met, bool);

const CONNECTS: Said = (Met::Connected, true);
const REFUSED: Said = (Met::Refused, true);
const CUT_OFF: Said = (Met::TimedOut, false);

impl Rig {
    /// One silent node with places on these ports.
    fn new(ports: &[u16]) -> Rig {
        let places = ports.iter().map(|port| (place(*port), Stake::Removal)).collect();
        Rig {
            docket: Docket::default(),
            silent: silent_since(NOW_MS),
            places: [(node("i-1"), places)].into(),
            stated: Stated::new(),
            now_ms: NOW_MS + 1,
            is_sure: true,
        }
    }

    fn questions(&mut self) -> Vec<Question> {
        self.docket.follow(&self.silent);
        self.docket.see(&self.places, &self.stated, self.now_ms);
        self.docket.questions(self.now_ms)
    }

    /// Puts the question that is due, and has it answered by neighbours `n0`, `n1`, ...
    fn round(&mut self, said: &[Said]) {
        let [question] = &self.questions()[..] else { panic!("{:?}", self.questions()) };
        self.docket.asked(question, self.now_ms);
        assert_eq!(self.docket.questions(self.now_ms), []);
        let heard = |(at, (met, is_control_reached)): (usize, &Said)| Heard {
            from: node(&format!("n{at}")),
            result: Some(ProbeResult {
                id: 1,
                met: vec![*met; question.places.len()],
                is_control_reached: *is_control_reached,
            }),
        };
        let heard: Vec<_> = said.iter().enumerate().map(heard).collect();
        self.docket.heard(question, &heard, self.now_ms);
    }

    /// States what has to be stated, as the catalog would show it then; how much that was.
    fn state(&mut self) -> usize {
        let statements = self.docket.statements(&self.stated, self.is_sure, self.now_ms);
        for statement in &statements {
            match statement.clone() {
                Statement::Probe(node, Some(record)) => drop(self.stated.insert(node, Arc::new(record))),
                Statement::Probe(node, None) => drop(self.stated.remove(&node)),
                other => panic!("{other:?}"),
            }
        }
        statements.len()
    }

    /// The words that are stated of the node.
    fn words(&self) -> Option<Vec<Neighbours>> {
        let record = self.stated.get(&node("i-1"))?;
        Some(record.verdicts.iter().map(|verdict| verdict.word).collect())
    }

    /// How long from now until it is asked again, milliseconds.
    fn wait_ms(&self) -> u64 {
        (0..).step_by(500).find(|wait| !self.docket.questions(self.now_ms + wait).is_empty()).unwrap()
    }

    fn wait(&mut self) {
        self.now_ms += self.wait_ms();
    }
}

#[test]
fn asks_at_once_and_states_what_two_say() {
    let mut rig = Rig::new(&[80, 81]);
    rig.round(&[REFUSED, (Met::TimedOut, true), CUT_OFF]);
    assert_eq!(rig.state(), 1);
    assert_eq!(rig.words(), Some(vec![Neighbours::Refused; 2]));
    let record = rig.stated.get(&node("i-1")).unwrap();
    assert_eq!(record.neighbours, ["n0", "n1", "n2"].map(|name| node(name).to_string()));
    assert_eq!(record.at_ms, rig.now_ms);
    assert_eq!(rig.state(), 0, "it is stated once");
}

#[test]
fn asks_others_soon_when_nobody_could_tell_and_less_often_what_stays_the_same() {
    let mut rig = Rig::new(&[80]);
    let check = |rig: &mut Rig, said: &[Said], waits: &[u64]| {
        for expected in waits {
            rig.round(said);
            assert_eq!(rig.wait_ms(), *expected, "{said:?}");
            rig.wait();
        }
    };
    check(&mut rig, &[CUT_OFF, CUT_OFF], &[2_000, 5_000, 10_000, 20_000, 30_000, 30_000]);
    assert_eq!(rig.state(), 0, "there is nothing to say");
    assert_eq!(rig.questions()[0].clueless, [node("n0"), node("n1")].into());
    check(&mut rig, &[CONNECTS], &[5_000, 10_000, 20_000, 30_000, 30_000]);
    assert_eq!(rig.questions()[0].clueless, BTreeSet::new());
    check(&mut rig, &[REFUSED, REFUSED], &[5_000, 10_000]);
}

#[test]
fn nobody_to_ask_is_nothing_known() {
    let mut rig = Rig::new(&[80]);
    let question = rig.questions().remove(0);
    rig.docket.heard(&question, &[], rig.now_ms);
    assert_eq!(rig.wait_ms(), 2_000);
    assert_eq!(rig.state(), 0);
}

#[test]
fn what_was_heard_lasts_a_minute_and_is_stated_anew_after_half_of_it() {
    let mut rig = Rig::new(&[80]);
    rig.round(&[REFUSED, REFUSED]);
    rig.state();
    let first_ms = rig.now_ms;
    while rig.now_ms < first_ms + STATED_MAX_MS {
        assert_eq!(rig.state(), 0, "{} ms", rig.now_ms - first_ms);
        rig.wait();
        rig.round(&[REFUSED, REFUSED]);
    }
    let last_ms = rig.now_ms;
    assert_eq!((rig.state(), rig.state()), (1, 0));
    assert_eq!(rig.stated.get(&node("i-1")).unwrap().at_ms, last_ms);
    while rig.now_ms < last_ms + WORD_MAX_MS {
        assert_eq!(rig.state(), 0, "an answer that comes to nothing takes nothing back");
        assert_eq!(rig.words(), Some(vec![Neighbours::Refused]));
        rig.wait();
        rig.round(&[CUT_OFF]);
    }
    assert_eq!((rig.state(), rig.state()), (1, 0));
    assert_eq!(rig.words(), Some(vec![Neighbours::NotKnown]));
    rig.wait();
    rig.round(&[CONNECTS]);
    assert_eq!(rig.state(), 1);
    assert_eq!(rig.words(), Some(vec![Neighbours::Connect]));
}

#[test]
fn takes_back_what_it_stated_when_the_node_speaks_and_begins_anew_with_the_next_silence() {
    let mut rig = Rig::new(&[80]);
    rig.round(&[REFUSED, REFUSED]);
    rig.state();
    let silent = std::mem::take(&mut rig.silent);
    assert_eq!(rig.questions(), []);
    assert_eq!((rig.state(), rig.words()), (1, None));
    rig.silent = silent;
    rig.round(&[REFUSED, REFUSED]);
    rig.state();
    // It spoke and fell silent again between two looks.
    rig.now_ms += 10_000;
    rig.silent = silent_since(rig.now_ms - 1);
    assert_eq!(rig.questions().len(), 1);
    assert_eq!((rig.state(), rig.words()), (1, None), "it is of the former silence");
}

#[test]
fn an_answer_counts_for_its_own_silence_only() {
    let mut rig = Rig::new(&[80]);
    let question = rig.questions().remove(0);
    rig.docket.asked(&question, rig.now_ms);
    rig.silent = silent_since(rig.now_ms);
    assert_eq!(rig.questions().len(), 1);
    let result = Some(ProbeResult { id: 1, met: vec![Met::Connected], is_control_reached: true });
    rig.docket.heard(&question, &[Heard { from: node("n0"), result }], rig.now_ms);
    assert_eq!(rig.state(), 0);
    assert_eq!(rig.questions().len(), 1);
}

#[test]
fn a_restart_goes_on_from_what_was_stated() {
    let mut rig = Rig::new(&[80]);
    rig.round(&[REFUSED, REFUSED]);
    rig.state();
    rig.docket = Docket::default();
    rig.now_ms += 100_000;
    rig.is_sure = false;
    assert_eq!(rig.questions().len(), 1);
    assert_eq!(rig.state(), 0);
    rig.round(&[CUT_OFF]);
    assert_eq!((rig.state(), rig.words()), (0, Some(vec![Neighbours::Refused])));
}

#[test]
fn one_that_doubts_itself_does_not_begin_to_say_refused() {
    let mut rig = Rig::new(&[80]);
    rig.is_sure = false;
    rig.round(&[REFUSED, REFUSED]);
    assert_eq!(rig.state(), 0);
    rig.wait();
    rig.round(&[CONNECTS]);
    assert_eq!((rig.state(), rig.words()), (1, Some(vec![Neighbours::Connect])));
    rig.wait();
    rig.round(&[REFUSED, REFUSED]);
    assert_eq!((rig.state(), rig.words()), (0, Some(vec![Neighbours::Connect])));
    rig.is_sure = true;
    assert_eq!((rig.state(), rig.words()), (1, Some(vec![Neighbours::Refused])));
    rig.is_sure = false;
    assert_eq!((rig.state(), rig.words()), (0, Some(vec![Neighbours::Refused])), "nor does it take it back");
}

#[test]
fn what_is_gone_anyway_is_asked_about_once_and_then_only_while_somebody_connects() {
    let mut rig = Rig::new(&[80]);
    rig.round(&[REFUSED, REFUSED]);
    rig.state();
    rig.places.get_mut(&node("i-1")).unwrap().insert(place(80), Stake::Return);
    rig.wait_ms();
    rig.now_ms += 60_000;
    assert_eq!(rig.questions(), []);
    assert_eq!((rig.state(), rig.words()), (1, None));
    rig.docket = Docket::default();
    rig.round(&[CONNECTS]);
    assert_eq!((rig.state(), rig.words()), (1, Some(vec![Neighbours::Connect])));
    rig.wait();
    rig.round(&[CUT_OFF]);
    rig.now_ms += 60_000;
    assert_eq!(rig.questions(), []);
    assert_eq!((rig.state(), rig.words()), (1, None));
}

#[test]
fn places_that_are_no_longer_seen_are_no_longer_stated() {
    let mut rig = Rig::new(&[80, 81]);
    rig.round(&[CONNECTS]);
    rig.state();
    rig.places.get_mut(&node("i-1")).unwrap().remove(&place(80));
    rig.questions();
    assert_eq!((rig.state(), rig.words()), (1, Some(vec![Neighbours::Connect])));
    rig.places.clear();
    rig.questions();
    assert_eq!((rig.state(), rig.words()), (1, None));
}

#[test]
fn questions_are_bounded() {
    let ports: Vec<u16> = (1..=200).collect();
    let mut rig = Rig::new(&ports);
    let counts: Vec<_> = rig.questions().iter().map(|question| question.places.len()).collect();
    assert_eq!(counts, [63, 63, 63, 11]);
    for i in 0..2 * NODES_AT_ONCE {
        let places = [(SocketAddr::from(([10, 1, 0, i as u8], 80)), Stake::Removal)].into();
        rig.silent.insert(node(&format!("o-{i}")), Silent { since_ms: NOW_MS, addresses: Vec::new() });
        rig.places.insert(node(&format!("o-{i}")), places);
    }
    let questions = rig.questions();
    let nodes: BTreeSet<_> = questions.iter().map(|question| &question.node).collect();
    assert_eq!(nodes.len(), NODES_AT_ONCE);
    questions.iter().for_each(|question| rig.docket.asked(question, rig.now_ms));
    assert_eq!(rig.docket.questions(rig.now_ms), [], "as many as may be are asked about");
    questions.iter().for_each(|question| rig.docket.heard(question, &[], rig.now_ms));
    let next: BTreeSet<_> = rig.docket.questions(rig.now_ms).into_iter().map(|question| question.node).collect();
    assert_eq!(next.len(), NODES_AT_ONCE);
    assert!(questions.iter().all(|question| !next.contains(&question.node)), "the others have their turn");
}

#[test]
fn silence_at_a_task_s_own_interface_counts_only_beside_a_silent_host() {
    use Met::{Connected, Refused, TimedOut};
    let (host, of_task) = (SocketAddr::from(([10, 0, 0, 1], HOST_PORT)), SocketAddr::from(([10, 0, 7, 7], 80)));
    let rows = [
        ([TimedOut, TimedOut, Refused], [Neighbours::Refused, Neighbours::NotKnown]),
        ([Refused, Refused, Refused], [Neighbours::Refused, Neighbours::Refused]),
        ([TimedOut, TimedOut, TimedOut], [Neighbours::Refused, Neighbours::Refused]),
        ([Connected, Connected, TimedOut], [Neighbours::Connect, Neighbours::Connect]),
    ];
    for (met, expected) in rows {
        let mut rig = Rig::new(&[80]);
        rig.places.get_mut(&node("i-1")).unwrap().insert(of_task, Stake::Removal);
        let question = rig.questions().remove(0);
        assert_eq!(question.targets(), [place(80), of_task, host]);
        rig.docket.asked(&question, rig.now_ms);
        let result = Some(ProbeResult { id: 1, met: met.to_vec(), is_control_reached: true });
        let heard = ["n0", "n1"].map(|name| Heard { from: node(name), result: result.clone() });
        rig.docket.heard(&question, &heard, rig.now_ms);
        rig.state();
        assert_eq!(rig.words(), Some(expected.to_vec()), "{met:?}");
    }
    assert_eq!(Rig::new(&[80]).questions()[0].targets(), [place(80)], "a host's own places speak for themselves");
}
