use std::cell::Cell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A session whose last use the test says.
#[derive(Debug, Clone)]
struct Used(u16, Rc<Cell<Instant>>);

impl Aged for Used {
    fn used_at(&self) -> Instant {
        self.1.get()
    }
}

fn client(number: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(172, 17, 0, 2), number)
}

fn used_now(number: u16) -> Used {
    Used(number, Rc::new(Cell::new(Instant::now())))
}

fn numbers(sessions: Vec<Used>) -> Vec<u16> {
    let mut numbers: Vec<u16> = sessions.into_iter().map(|session| session.0).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_when_nobody_used_it_for_the_timeout() {
    let mut sessions = Sessions::default();
    let (idle, busy) = (used_now(1), used_now(2));
    sessions.insert(client(1), idle);
    sessions.insert(client(2), busy.clone());
    tokio::time::advance(TIMEOUT - Duration::from_millis(1)).await;
    busy.1.set(Instant::now());
    assert!(sessions.take_idle(Instant::now(), TIMEOUT).is_empty());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(numbers(sessions.take_idle(Instant::now(), TIMEOUT)), [1]);
    assert!(sessions.get(client(1)).is_none() && sessions.get(client(2)).is_some());
    tokio::time::advance(TIMEOUT).await;
    assert_eq!(numbers(sessions.take_idle(Instant::now(), TIMEOUT)), [2]);
}

#[tokio::test(start_paused = true)]
async fn the_one_that_is_idle_longest_makes_room_whenever_it_began() {
    let mut sessions = Sessions::default();
    let all: Vec<Used> = (0..4).map(used_now).collect();
    all.iter().for_each(|session| sessions.insert(client(session.0), session.clone()));
    for number in [0, 2, 1] {
        tokio::time::advance(Duration::from_millis(1)).await;
        all[number].1.set(Instant::now());
    }
    let order: Vec<u16> = std::iter::from_fn(|| sessions.take_oldest()).map(|session| session.0).collect();
    assert_eq!(order, [3, 0, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_client_s_new_session_is_not_taken_for_its_old_one() {
    let mut sessions = Sessions::default();
    let (old, new) = (used_now(1), used_now(2));
    sessions.insert(client(1), old);
    sessions.insert(client(1), new);
    assert!(sessions.remove(client(1), |session| session.0 == 1).is_none());
    assert_eq!(sessions.take_oldest().map(|session| session.0), Some(2));
    assert!(sessions.take_oldest().is_none());
}

/// Something that happens to a table.
#[derive(Debug, Clone)]
enum Step {
    Use(u16),
    Insert(u16),
    Remove(u16),
    Pass(u64),
    TakeIdle,
    TakeOldest,
    TakeOdd,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8_u16).prop_map(Step::Use),
        (0..8_u16).prop_map(Step::Insert),
        (0..8_u16).prop_map(Step::Remove),
        (0..40_u64).prop_map(Step::Pass),
        Just(Step::TakeIdle),
        Just(Step::TakeOldest),
        Just(Step::TakeOdd),
    ]
}

proptest! {
    #[test]
    fn it_is_a_plain_table_that_looks_at_every_session(steps in prop::collection::vec(step(), 0..200)) {
        let mut now = Instant::now();
        let (mut sessions, mut model) = (Sessions::default(), HashMap::<u16, Used>::new());
        for step in steps {
            match step {
                Step::Use(number) => model.get(&number).into_iter().for_each(|session| session.1.set(now)),
                Step::Insert(number) => {
                    let session = Used(number, Rc::new(Cell::new(now)));
                    sessions.insert(client(number), session.clone());
                    model.insert(number, session);
                }
                Step::Remove(number) => {
                    let removed = sessions.remove(client(number), |_| true).map(|session| session.0);
                    prop_assert_eq!(removed, model.remove(&number).map(|session| session.0));
                }
                Step::Pass(seconds) => now += Duration::from_secs(seconds),
                Step::TakeIdle => {
                    let is_idle = |session: &Used| now - session.used_at() >= TIMEOUT;
                    let expected = numbers(model.values().filter(|session| is_idle(session)).cloned().collect());
                    model.retain(|_, session| !is_idle(session));
                    prop_assert_eq!(numbers(sessions.take_idle(now, TIMEOUT)), expected);
                }
                Step::TakeOldest => {
                    let oldest = model.values().map(Aged::used_at).min();
                    let taken = sessions.take_oldest();
                    prop_assert_eq!(taken.as_ref().map(Aged::used_at), oldest);
                    taken.into_iter().for_each(|session| drop(model.remove(&session.0)));
                }
                Step::TakeOdd => {
                    let taken = numbers(sessions.take_unless(|session| session.0 % 2 == 0));
                    let expected = numbers(model.values().filter(|session| session.0 % 2 == 1).cloned().collect());
                    model.retain(|number, _| number % 2 == 0);
                    prop_assert_eq!(taken, expected);
                }
            }
            let of_model: Vec<u16> = numbers(model.values().cloned().collect());
            let of_table: Vec<u16> = (0..8).filter(|number| sessions.get(client(*number)).is_some()).collect();
            prop_assert_eq!(of_table, of_model);
            prop_assert_eq!(sessions.by_use.len(), sessions.by_client.len());
        }
    }
}
