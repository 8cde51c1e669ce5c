use super::*;
use crate::docker::facts::tests::facts as example;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// A machine with a clock that the test moves.
struct Box {
    state: State,
    now: Now,
}

/// What a test tells it; times are nanoseconds of Docker's clock.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// An inspection finds the run that began then, alive.
    Alive(u64),
    /// An inspection finds the run that began then, over.
    Over(u64),
    /// An inspection finds no container.
    Nothing,
    Kill(u8, u64),
    Die(u64),
    Destroy(u64),
    /// A pidfd tells the end of that run.
    Exit(u64),
    /// Seconds go by.
    Wait(u64),
}
use Step::*;

fn facts(run: u64) -> Facts {
    example("c", run, |_| {})
}

impl Box {
    fn new() -> Self {
        Box { state: State::default(), now: Now { instant: Instant::now(), unix_ms: 5 } }
    }

    fn tell(&mut self, step: Step) {
        let (state, now) = (&mut self.state, self.now);
        let event = |kind, at_ns| Event { id: "c".into(), kind, at_ns };
        match step {
            Alive(run) => state.apply_facts(facts(run), now),
            Over(run) => state.apply_facts(
                example("c", run, |inspected: &mut Value| {
                    inspected["State"]["Running"] = false.into();
                    inspected["State"]["ExitCode"] = 137.into();
                }),
                now,
            ),
            Nothing => state.apply_nothing("c", now),
            Kill(number, at) => drop(state.apply_event(&event(EventKind::Kill(number), at), now)),
            Die(at) => drop(state.apply_event(&event(EventKind::Die(Some(137)), at), now)),
            Destroy(at) => drop(state.apply_event(&event(EventKind::Destroy, at), now)),
            Exit(run) => drop(state.apply_exit("c", Run(run), now)),
            Wait(seconds) => self.now.instant += SECOND * u32::try_from(seconds).unwrap(),
        }
        self.state.expire(self.now.instant);
    }

    fn shown(&self) -> String {
        let live = self.state.live().map(|live| {
            let mark = if live.stopping_since.is_some() { " stopping" } else { "" };
            format!("live {}{mark}", live.facts.run.0)
        });
        let ended = self.state.ended().map(|ended| {
            let code = ended.ending.exit_code.map_or("?".to_owned(), |code| code.to_string());
            format!("ended {} {code}", ended.facts.run.0)
        });
        live.chain(ended).collect::<Vec<_>>().join(", ")
    }
}

fn check(steps: &[Step], expected: &str) {
    let mut tested = Box::new();
    for step in steps {
        tested.tell(*step);
    }
    assert_eq!(tested.shown(), expected, "{steps:?}");
}

#[test]
fn a_death_is_final_for_its_run_in_every_order() {
    check(&[Alive(10), Die(20)], "ended 10 137");
    // The list, or an inspection that began before, still shows it.
    check(&[Alive(10), Die(20), Alive(10)], "ended 10 137");
    check(&[Alive(10), Exit(10), Alive(10), Die(20)], "ended 10 137");
    check(&[Alive(10), Exit(10), Over(10)], "ended 10 137");
    check(&[Alive(10), Die(20), Exit(10)], "ended 10 137");
    // The death is heard before the first inspection's answer.
    check(&[Die(20), Alive(10)], "ended 10 137");
    check(&[Alive(10), Nothing], "ended 10 ?");
    check(&[Alive(10), Destroy(20), Alive(10)], "ended 10 ?");
    check(&[Alive(10), Over(10), Over(10)], "ended 10 137");
    // It is over before the first inspection: told if that happened now, and once.
    check(&[Over(10)], "");
    check(&[Die(20), Over(10)], "ended 10 137");
    check(&[Die(20), Over(10), Over(10), Die(20), Over(10)], "ended 10 137");
    check(&[Over(10), Die(20), Over(10)], "ended 10 137");
    check(&[Die(20), Over(30)], "");
    check(&[Kill(9, 19), Die(20), Over(10), Alive(30)], "live 30, ended 10 137");
    check(&[Alive(10), Exit(10), Die(20), Over(10)], "ended 10 137");
    check(&[Nothing, Die(20), Destroy(21)], "");
}

#[test]
fn another_run_brings_a_container_back() {
    check(&[Alive(10), Die(20), Alive(30)], "live 30, ended 10 137");
    check(&[Alive(10), Exit(10), Alive(30), Die(20)], "live 30, ended 10 ?");
    // Docker tells again after a reconnect what happened before.
    check(&[Alive(30), Die(20), Kill(9, 19), Destroy(5)], "live 30");
    check(&[Alive(30), Exit(10)], "live 30");
    check(&[Die(20), Alive(30)], "live 30");
    // The restart itself was missed.
    check(&[Alive(10), Alive(30)], "live 30, ended 10 ?");
    check(&[Alive(10), Over(30)], "ended 10 ?");
    check(&[Alive(10), Over(30), Alive(30)], "ended 10 ?");
}

#[test]
fn a_stop_signal_marks_the_run_until_it_ends_or_outlives_it() {
    check(&[Alive(10), Kill(15, 20)], "live 10 stopping");
    check(&[Alive(10), Kill(9, 20)], "live 10 stopping");
    for harmless in [1, 2, 10, 12, 0] {
        check(&[Alive(10), Kill(harmless, 20)], "live 10");
    }
    check(&[Alive(10), Kill(15, 20), Wait(179)], "live 10 stopping");
    check(&[Alive(10), Kill(15, 20), Wait(179), Alive(10)], "live 10 stopping");
    check(&[Alive(10), Kill(15, 20), Wait(180)], "live 10");
    check(&[Alive(10), Kill(15, 20), Wait(100), Kill(15, 120), Wait(80)], "live 10");
    check(&[Alive(10), Kill(15, 20), Die(21), Alive(30)], "live 30, ended 10 137");
    check(&[Kill(15, 20), Alive(10)], "live 10 stopping");
    check(&[Kill(1, 20), Alive(10)], "live 10");
    check(&[Kill(15, 20), Alive(30)], "live 30");
}

#[test]
fn remembers_an_end_for_a_minute_and_no_more_than_sixty_four() {
    check(&[Alive(10), Die(20), Wait(59)], "ended 10 137");
    check(&[Alive(10), Die(20), Wait(60)], "");
    let mut tested = Box::new();
    for run in 1..=100 {
        tested.tell(Alive(run * 10));
        tested.tell(Exit(run * 10));
        tested.now.instant += Duration::from_millis(1);
    }
    assert_eq!(tested.state.ended().count(), ENDED_MAX);
    assert_eq!(tested.state.ended().next().unwrap().facts.run, Run(370));
}

#[test]
fn forgets_containers_that_are_gone() {
    let mut tested = Box::new();
    for step in [Die(20), Kill(9, 21), Wait(30)] {
        tested.tell(step);
    }
    assert!(tested.state.containers.is_empty());
    assert_eq!(tested.state.deadline(), None);
}

#[test]
fn a_stop_signal_of_the_image_s_own_counts() {
    let mut tested = Box::new();
    let quits = example("c", 10, |inspected| inspected["Config"]["StopSignal"] = "SIGQUIT".into());
    tested.state.apply_facts(quits, tested.now);
    tested.tell(Kill(15, 20));
    assert_eq!(tested.shown(), "live 10");
    tested.tell(Kill(3, 20));
    assert_eq!(tested.shown(), "live 10 stopping");
}

#[test]
fn a_list_asks_for_what_differs_and_removes_nothing_itself() {
    let mut tested = Box::new();
    let seen = |id: &str| Facts { sight: Sight::Seen, ..example(id, 10, |_| {}) };
    for id in ["gone", "known", "paused", "sick"] {
        tested.state.apply_facts(seen(id), tested.now);
    }
    tested.state.apply_facts(example("hidden", 10, |_| {}), tested.now);
    let row = |id: &str, is_paused, health| Listed { id: id.into(), is_paused, health };
    let listed = [
        row("known", false, DockerHealth::Absent),
        row("paused", true, DockerHealth::Absent),
        row("sick", false, DockerHealth::Unhealthy),
        row("hidden", false, DockerHealth::Absent),
        row("new", false, DockerHealth::Absent),
    ];
    let due = tested.state.compare(&listed, Distrust::Differences);
    assert_eq!(due, ["paused", "sick", "hidden", "new", "gone"]);
    assert_eq!(tested.state.compare(&listed, Distrust::All).len(), 6);
    assert_eq!(tested.state.live().count(), 5);
}
