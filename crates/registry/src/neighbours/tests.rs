use std::net::{IpAddr, SocketAddr};

use portolan_core::evidence::ContainerReport;
use portolan_core::neighbours::Met;
use portolan_proto::node_report;
use portolan_proto::probe::{Probe, ProbeResult};

use super::*;
use crate::catalog;
use crate::intake::{Hello, Session};
use crate::presence;
use crate::store::evidence::ProbeRecord;
use crate::store::memory::MemoryStore;
use crate::testing::{NOW_MS, container, node, range, report};

/// What a sidecar does with a question.
#[derive(Debug, Clone, Copy)]
enum Habit {
    /// Says that it met this everywhere, and reached its controls.
    Met(Met),
    /// Takes it and says nothing.
    Mute,
}

struct Registry {
    jobs: Jobs,
    intake: Arc<Intake>,
    catalog: Reader<Catalog>,
    switchboard: Switchboard,
    clock: Clock,
    /// Every question that reached a sidecar.
    questions: tokio::sync::mpsc::Receiver<(NodeKey, Probe)>,
    asked: tokio::sync::mpsc::Sender<(NodeKey, Probe)>,
}

impl Registry {
    async fn start() -> Registry {
        let (jobs, clock) = (Jobs::new(), Clock::starting_at(NOW_MS));
        let store = Arc::new(MemoryStore::new(NOW_MS));
        let intake = Arc::new(Intake::open(store.clone(), clock.now()).await.unwrap());
        let settings = catalog::Settings { link_range: range(), confirmed: intake.confirmed() };
        let catalog = catalog::start(&jobs, store, settings);
        presence::start(&jobs, intake.clone(), clock);
        let switchboard = Switchboard::default();
        let neighbours = Neighbours {
            intake: intake.clone(),
            catalog: catalog.clone(),
            switchboard: switchboard.clone(),
            clock,
            seed: 1,
        };
        super::start(&jobs, neighbours);
        let (asked, questions) = tokio::sync::mpsc::channel(1_000);
        Registry { jobs, intake, catalog, switchboard, clock, questions, asked }
    }

    /// A node with one endpoint.
    async fn node(&self, number: u8) -> Session {
        let name = format!("i-{number}");
        let hello = Hello { node: node(&name), boot_id: "boot".to_owned(), bindings: Vec::new() };
        let session = self.intake.open_session(hello, self.clock.now()).await.unwrap();
        let mut report = report(&name, vec![on(number)]);
        report.session = session.number;
        self.intake.report(&session, node_report::encode(&report).into(), self.clock.now()).await.unwrap();
        session
    }

    /// A node that speaks and answers.
    async fn neighbour(&self, number: u8, habit: Habit) {
        let session = self.node(number).await;
        let (intake, clock, asked) = (self.intake.clone(), self.clock, self.asked.clone());
        let mut line = self.switchboard.join(session.clone());
        self.jobs.start("neighbour", async move {
            let mut beat = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    _ = beat.tick() => drop(intake.heard(&session, clock.now())),
                    Some(probe) = line.next() => {
                        asked.send((session.node.clone(), probe.clone())).await.unwrap();
                        if let Habit::Met(met) = habit {
                            let met = vec![met; probe.targets.len()];
                            line.answer(ProbeResult { id: probe.id, met, is_control_reached: !probe.controls.is_empty() });
                        }
                    }
                }
            }
        });
    }

    /// The record of node 1, once it satisfies.
    async fn record(&mut self, satisfies: impl Fn(Option<&ProbeRecord>) -> bool) -> Option<Arc<ProbeRecord>> {
        let of = |catalog: &Catalog| catalog.stated.probes.get(&node("i-1")).cloned();
        let waiting = self.catalog.wait_for(|catalog| satisfies(of(catalog).as_deref()));
        of(&tokio::time::timeout(Duration::from_secs(600), waiting).await.unwrap().unwrap())
    }

    async fn word(&mut self, word: Word) -> Arc<ProbeRecord> {
        let is_so = |record: Option<&ProbeRecord>| record.is_some_and(|record| record.verdicts[0].word == word);
        self.record(is_so).await.unwrap()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.clock.now().unix_ms - NOW_MS)
    }

    async fn stop(self) {
        self.jobs.shut_down();
        self.jobs.finished().await.unwrap();
    }
}

fn place(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 32_768))
}

fn on(number: u8) -> ContainerReport {
    let mut container = container(&number.to_string(), "web");
    container.ports[0].addresses = vec![IpAddr::from([10, 0, 0, number])];
    container
}

#[tokio::test(start_paused = true)]
async fn a_node_that_falls_silent_is_asked_about_at_once_until_it_speaks() {
    let mut registry = Registry::start().await;
    for number in 2..=6 {
        registry.neighbour(number, Habit::Met(Met::TimedOut)).await;
    }
    registry.node(1).await;
    let record = registry.word(Word::Refused).await;
    assert!(registry.elapsed() < Duration::from_secs(6), "{:?}", registry.elapsed());
    assert_eq!(record.verdicts.len(), 1);
    assert_eq!((record.verdicts[0].place, record.neighbours.len()), (place(1), 3));
    for _ in 0..3 {
        let (asked, probe) = registry.questions.try_recv().unwrap();
        assert_eq!(probe.targets, [place(1)]);
        let own: Vec<_> = (1..=6).filter(|number| asked == node(&format!("i-{number}"))).map(place).collect();
        assert_eq!(probe.controls.len(), CONTROLS);
        assert!(!probe.controls.contains(&place(1)) && !probe.controls.contains(&own[0]), "{asked}: {probe:?}");
    }
    assert!(registry.questions.try_recv().is_err(), "three are asked");
    let stated_ms = record.at_ms;
    let renewed = registry.record(|record| record.is_some_and(|record| record.at_ms > stated_ms)).await.unwrap();
    assert_eq!(renewed.verdicts, record.verdicts);
    assert!(registry.elapsed() >= Duration::from_secs(35), "{:?}", registry.elapsed());
    registry.node(1).await;
    registry.record(|record| record.is_none()).await;
    registry.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_says_nothing_is_not_waited_for_and_others_are_asked() {
    let mut registry = Registry::start().await;
    for number in 2..=4 {
        registry.neighbour(number, Habit::Mute).await;
    }
    registry.node(1).await;
    for _ in 0..3 {
        registry.questions.recv().await.unwrap();
    }
    assert!(registry.elapsed() < Duration::from_secs(6), "{:?}", registry.elapsed());
    for number in 5..=7 {
        registry.neighbour(number, Habit::Met(Met::Refused)).await;
    }
    registry.word(Word::Refused).await;
    // Silent at 5.25, nobody answered until 8.25, and again two seconds later.
    assert!(registry.elapsed() < Duration::from_secs(11), "{:?}", registry.elapsed());
    registry.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_alone_refuses_nothing_and_may_vouch() {
    let mut registry = Registry::start().await;
    registry.neighbour(2, Habit::Met(Met::TimedOut)).await;
    registry.node(1).await;
    let mut asked = 0;
    while registry.elapsed() < Duration::from_secs(60) {
        let (_, probe) = registry.questions.recv().await.unwrap();
        assert_eq!(probe.controls, [], "there is no third node");
        asked += 1;
    }
    assert!((4..8).contains(&asked), "{asked} questions in a minute");
    assert_eq!(registry.catalog.load().stated.probes.len(), 0);
    registry.neighbour(3, Habit::Met(Met::Connected)).await;
    registry.word(Word::Connect).await;
    registry.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_connects_everywhere_need_not_wait_for_others() {
    let mut registry = Registry::start().await;
    registry.neighbour(2, Habit::Mute).await;
    registry.neighbour(3, Habit::Mute).await;
    registry.neighbour(4, Habit::Met(Met::Connected)).await;
    registry.node(1).await;
    let record = registry.word(Word::Connect).await;
    assert!(registry.elapsed() < Duration::from_secs(6), "{:?}", registry.elapsed());
    assert_eq!(record.neighbours, [node("i-4").to_string()]);
    registry.stop().await;
}
