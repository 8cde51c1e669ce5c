use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::store::contract;
use crate::store::{Transaction, Watched};

const NOW_MS: u64 = 1_700_000_000_000;

fn open(path: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(path, NOW_MS, 7)
}

#[tokio::test]
async fn holds_on_a_file() {
    let dir = tempfile::tempdir().unwrap();
    contract::run(&open(&dir.path().join("store")).unwrap()).await;
}

#[tokio::test]
async fn goes_on_where_it_ended_and_keeps_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path).unwrap();
    let (identity, mut watch) = (store.identity().clone(), store.watch(0));
    store.commit(Transaction::at(1).putting(contract::key("a"), "1")).await.unwrap();
    let before = store.load().await.unwrap();
    drop(store);
    assert!(matches!(watch.next().await, Watched::Commits(_)));
    assert_eq!(watch.next().await, Watched::Closed);
    let again = EmbeddedStore::open(&path, NOW_MS + 1, 8).unwrap();
    assert_eq!((again.identity(), again.load().await.unwrap()), (&identity, before));
    let commit = again.commit(Transaction::at(1).deleting(contract::key("a"))).await.unwrap();
    assert_eq!(commit, 2);
}

#[tokio::test]
async fn says_that_another_one_has_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let _first = open(&path).unwrap();
    assert!(matches!(open(&path), Err(StoreError::Locked(_))));
    assert!(matches!(open(&dir.path().join("no/such/place")), Err(StoreError::Io { .. })));
}

#[tokio::test]
async fn says_that_a_file_is_not_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    std::fs::write(&path, "not a store at all".repeat(1_000)).unwrap();
    assert!(matches!(open(&path), Err(StoreError::Corrupt { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Damage is an error or is harmless; it never ends the program and never invents an entry.
    #[test]
    fn survives_a_damaged_file(cut in 0.0..1.0f64, at in 0.0..1.0f64, bit in 0u8..8, is_cut in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = open(&path).unwrap();
        for i in 0..5 {
            let key = contract::key(&format!("n{i}"));
            runtime.block_on(store.commit(Transaction::at(1).putting(key, vec![b'x'; 3_000]))).unwrap();
        }
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        if is_cut {
            bytes.truncate((bytes.len() as f64 * cut) as usize);
        } else {
            let at = (bytes.len() as f64 * at) as usize;
            bytes[at] ^= 1 << bit;
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(store) = open(&path)
            && let Ok(snapshot) = runtime.block_on(store.load())
        {
            prop_assert!(snapshot.entries.len() <= 5);
        }
    }
}

/// Not a test of its own: the process that `keeps_what_was_acknowledged_when_killed` kills; otherwise it ends at once.
/// Prints each revision once it was acknowledged.
#[test]
fn commits_until_killed() {
    let Ok(path) = std::env::var("PORTOLAN_TEST_STORE") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = EmbeddedStore::open(Path::new(&path), NOW_MS, 7).unwrap();
    runtime.block_on(async {
        for round in 0u64.. {
            let commits = (0..8).map(|i| {
                let value = format!("{round}").into_bytes();
                store.commit(Transaction::at(round).putting(contract::key(&format!("n{i}")), value))
            });
            let revisions = futures_util::future::join_all(commits).await;
            println!("acknowledged {round} {}", revisions.last().unwrap().as_ref().unwrap());
        }
    });
}

#[tokio::test]
async fn keeps_what_was_acknowledged_when_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut revision_before = 0;
    for attempt in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "store::embedded::tests::commits_until_killed"])
            .env("PORTOLAN_TEST_STORE", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A different moment each time: after 1, 4, 7, ... rounds.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = None;
        let mut left = 1 + attempt * 3;
        while left > 0 {
            let line = lines.next().unwrap().unwrap();
            if let Some(numbers) = line.split("acknowledged ").nth(1) {
                let numbers: Vec<u64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
                acknowledged = Some((numbers[0], numbers[1]));
                left -= 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (round, revision) = acknowledged.unwrap();
        let store = open(&path).unwrap();
        let snapshot = store.load().await.unwrap();
        assert!(snapshot.revision >= revision && revision > revision_before, "attempt {attempt}");
        assert_eq!(snapshot.entries.len(), 8);
        for entry in snapshot.entries {
            let kept: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
            assert!(kept >= round, "attempt {attempt}: {} holds {kept}, {round} was acknowledged", entry.key);
        }
        revision_before = snapshot.revision;
    }
}

/// Not a test of its own: runs where a file system of 4 MiB is at `PORTOLAN_TEST_SMALL`, half of it filled.
#[test]
fn writes_on_a_small_disk() {
    let Ok(dir) = std::env::var("PORTOLAN_TEST_SMALL") else { return };
    let (path, filler) = (Path::new(&dir).join("store"), Path::new(&dir).join("filler"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = EmbeddedStore::open(&path, NOW_MS, 7).unwrap();
        store.commit(Transaction::at(1).putting(contract::key("first"), "1")).await.unwrap();
        std::fs::write(&filler, vec![0; 2 << 20]).ok();
        let (mut kept, mut refused) = (vec!["first".to_owned()], 0);
        for i in 0..40 {
            let name = format!("n{i}");
            match store.commit(Transaction::at(1).putting(contract::key(&name), vec![7; 64 << 10])).await {
                Ok(_) => kept.push(name),
                Err(CommitError::Store(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(refused > 5 && kept.len() > 2, "{refused} refused, {} kept", kept.len());
        std::fs::remove_file(&filler).unwrap();
        let healed = store.commit(Transaction::at(1).putting(contract::key("last"), "1")).await;
        healed.unwrap();
        kept.push("last".to_owned());
        let entries = store.load().await.unwrap().entries;
        for name in kept {
            assert!(
                entries.iter().any(|entry| entry.key == contract::key(&name)),
                "{name} was acknowledged and is lost"
            );
        }
        println!("healed");
    });
}

#[test]
fn refuses_writes_on_a_full_disk_and_heals_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=4m none \"$PORTOLAN_TEST_SMALL\" && exec \"$0\" --exact --nocapture \
                  store::embedded::tests::writes_on_a_small_disk";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("PORTOLAN_TEST_SMALL", dir.path())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if err.contains("Operation not permitted") {
        println!("not root: a small file system cannot be mounted");
        return;
    }
    assert!(out.contains("healed"), "{out}{err}");
}
