//! What every engine promises, as one suite of functions over `&dyn Store`.

use std::time::Duration;

use bytes::Bytes;
use portolan_core::name::{Label, NodeKey};
use tokio::time::timeout;

use super::{CommitError, Entry, Expectation, Key, Store, Transaction, WRITES_MAX, Watched, Write};

/// Runs the suite on a store that is empty.
pub(crate) async fn run(store: &dyn Store) {
    begins_empty_with_an_index_from_its_time(store).await;
    keeps_what_was_committed(store).await;
    refuses_what_is_not_as_expected(store).await;
    tells_watchers_every_commit_in_order(store).await;
    tells_a_late_watcher_to_load_again(store).await;
    refuses_what_is_too_large(store).await;
}

pub(crate) fn key(name: &str) -> Key {
    Key::Node(NodeKey { cluster: Label::fixed("prod"), node: Label::parse(name).unwrap() })
}

fn put(name: &str, value: &'static str) -> Transaction {
    Transaction::at(5).putting(key(name), value)
}

async fn begins_empty_with_an_index_from_its_time(store: &dyn Store) {
    let snapshot = store.load().await.unwrap();
    assert_eq!((snapshot.revision, snapshot.entries.len()), (0, 0));
    let identity = store.identity();
    assert_eq!(identity.index(0), 1_700_000_000_000_000);
    assert!(identity.index(1 << 40) < 1 << 53);
    assert_eq!(identity.epoch.len(), 16);
}

async fn keeps_what_was_committed(store: &dyn Store) {
    let first = store.commit(put("a", "1").putting(key("b"), "2")).await.unwrap();
    let second = store.commit(put("a", "3")).await.unwrap();
    assert_eq!(second, first + 1);
    let entry = |name: &str, value: &'static str, revision| Entry {
        key: key(name),
        value: Bytes::from_static(value.as_bytes()),
        revision,
        at_ms: 5,
    };
    let snapshot = store.load().await.unwrap();
    assert_eq!(snapshot.entries, [entry("a", "3", second), entry("b", "2", first)]);
    let third = store.commit(Transaction::at(6).deleting(key("b")).deleting(key("never"))).await.unwrap();
    let snapshot = store.load().await.unwrap();
    assert_eq!((snapshot.revision, snapshot.entries), (third, vec![entry("a", "3", second)]));
}

async fn refuses_what_is_not_as_expected(store: &dyn Store) {
    let before = store.load().await.unwrap();
    let revision = before.entries[0].revision;
    let refused = [
        Expectation::Absent(key("a")),
        Expectation::AtRevision(key("a"), revision + 1),
        Expectation::AtRevision(key("missing"), revision),
        Expectation::Holds(key("a"), Bytes::from_static(b"4")),
        Expectation::Holds(key("missing"), Bytes::new()),
    ];
    for expectation in refused {
        let transaction = put("c", "1").expecting(Expectation::Absent(key("c"))).expecting(expectation);
        let error = store.commit(transaction.clone()).await.unwrap_err();
        assert!(matches!(error, CommitError::Conflict(_)), "{transaction:?}");
    }
    assert_eq!(store.load().await.unwrap(), before);
    let agreed = put("a", "4")
        .expecting(Expectation::AtRevision(key("a"), revision))
        .expecting(Expectation::Holds(key("a"), Bytes::from_static(b"3")))
        .expecting(Expectation::Absent(key("c")));
    assert_eq!(store.commit(agreed).await.unwrap(), before.revision + 1);
    // Of many that expect the same, one wins.
    let race = (0..20).map(|_| store.commit(put("race", "1").expecting(Expectation::Absent(key("race")))));
    let won = futures_util::future::join_all(race).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
}

async fn tells_watchers_every_commit_in_order(store: &dyn Store) {
    let revision = store.load().await.unwrap().revision;
    let mut early = store.watch(revision);
    assert!(timeout(Duration::from_millis(20), early.next()).await.is_err(), "told of what never happened");
    let commits = (0..50).map(|_| store.commit(put("w", "x")));
    futures_util::future::join_all(commits).await;
    let mut late = store.watch(revision + 10);
    for (watch, first) in [(&mut early, revision + 1), (&mut late, revision + 11)] {
        let mut seen = Vec::new();
        while seen.last() != Some(&(revision + 50)) {
            let Watched::Commits(commits) = watch.next().await else { panic!("no commits") };
            assert!(commits.iter().all(|commit| commit.writes == [Write::Put(key("w"), Bytes::from_static(b"x"))]));
            seen.extend(commits.iter().map(|commit| commit.revision));
        }
        assert_eq!(seen, (first..=revision + 50).collect::<Vec<_>>());
    }
}

async fn tells_a_late_watcher_to_load_again(store: &dyn Store) {
    let mut slow = store.watch(store.load().await.unwrap().revision);
    for _ in 0..50 {
        futures_util::future::join_all((0..100).map(|_| store.commit(put("w", "y")))).await;
    }
    assert_eq!(slow.next().await, Watched::Compacted);
    let revision = store.load().await.unwrap().revision;
    assert_eq!(store.watch(revision + 1).next().await, Watched::Compacted, "a store that went back");
}

async fn refuses_what_is_too_large(store: &dyn Store) {
    let before = store.load().await.unwrap().revision;
    let many = (0..=WRITES_MAX).fold(Transaction::at(1), |t, _| t.deleting(key("z")));
    let long = Transaction::at(1).putting(key("z"), vec![0; super::VALUE_BYTES_MAX + 1]);
    for transaction in [many, long] {
        assert!(matches!(store.commit(transaction).await, Err(CommitError::TooLarge)));
    }
    assert_eq!(store.load().await.unwrap().revision, before);
}

#[tokio::test]
async fn holds_in_memory() {
    run(&super::memory::MemoryStore::new(1_700_000_000_000)).await;
}
