//! The same zone in Knot, NSD and BIND: whatever is asked, Portolan answers as they do, or a line of `explained` says why not.
//!
//! The zone file is written from DESIGN section 3 by `zone`, which shares nothing with the code under test but the endpoints.
//! Beside every case of `questions` 10^5 random ones are asked: `PORTOLAN_QUESTIONS=1000000` asks more, `SEED=7` others; what
//! fails prints its seed.

mod explained;
mod peers;
mod questions;
mod seen;
mod zone;

use std::collections::BTreeMap;
use std::sync::Arc;

use peers::Peer;
use rand::SeedableRng;
use rand::rngs::StdRng;
use seen::{Asker, Seen};

use crate::started::registry;

/// How many random questions are asked when nobody says.
const QUESTIONS: usize = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_as_knot_nsd_and_bind_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("zone"), zone::text()).unwrap();
    let Some(peers) = peers::start(folder.path()) else { return };
    let server = registry().await;
    server.view.publish(Arc::new(zone::view()));
    let address = server.address;
    let found = tokio::task::spawn_blocking(move || compare(address, &peers)).await.unwrap();
    let Compared { asked, differences, used } = found;
    let shown: Vec<String> = differences.values().map(|(count, first)| format!("{count} like this: {first}")).collect();
    assert!(
        shown.is_empty(),
        "{}",
        shown.join(
            "

"
        )
    );
    let unused: Vec<&str> = explained::ALL.iter().map(|own| own.why).filter(|why| !used.contains_key(why)).collect();
    assert!(unused.is_empty(), "explained, and not seen: {unused:#?}");
    println!("{asked} questions, each to Portolan and {} others; explained differences:", peers::COUNT);
    used.iter().for_each(|(why, count)| println!("{count:8}  {why}"));
}

/// What came of all questions.
struct Compared {
    asked: usize,
    /// By whom and what: how many, and the first of them.
    differences: BTreeMap<(&'static str, Vec<&'static str>), (usize, String)>,
    /// How often each explanation was needed.
    used: BTreeMap<&'static str, usize>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn compare(address: std::net::SocketAddr, peers: &[Peer]) -> Compared {
    let seed = number("SEED", 1);
    let random = number("PORTOLAN_QUESTIONS", QUESTIONS as u64) as usize;
    let mut own = Asker::new(address);
    let mut askers: Vec<(&Peer, Asker)> = peers.iter().map(|peer| (peer, Asker::new(peer.address))).collect();
    let mut compared = Compared { asked: 0, differences: BTreeMap::new(), used: BTreeMap::new() };
    let mut rng = StdRng::seed_from_u64(seed);
    let chosen = questions::every_case().into_iter().chain(questions::random(&mut rng, random));
    for asked in chosen {
        compared.asked += 1;
        let ours = own.ask(&asked);
        for (peer, asker) in &mut askers {
            let theirs = asker.ask(&asked);
            if ours == theirs {
                continue;
            }
            match explained::why(peer.name, &asked, &ours, &theirs) {
                Some(reasons) => reasons.into_iter().for_each(|why| *compared.used.entry(why).or_default() += 1),
                None => {
                    let kind = (peer.name, ours.differing(&theirs));
                    let (count, _) = compared
                        .differences
                        .entry(kind)
                        .or_insert_with(|| (0, shown(seed, peer.name, &asked, (&ours, &theirs))));
                    *count += 1;
                }
            }
        }
    }
    compared
}

fn shown(seed: u64, peer: &str, asked: &questions::Asked, (ours, theirs): (&Seen, &Seen)) -> String {
    format!("seed {seed}, {asked:?}\n  portolan {ours:?}\n  {peer:8} {theirs:?}")
}
