//! The catalog's job: load, watch, build, publish; again from a load whenever the watch says so.

use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use portolan_core::view::Readiness;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::{Publisher, Reader, published};
use tokio::sync::watch;
use tracing::{error, warn};

use super::Catalog;
use super::builder::Builder;
use crate::store::{Store, Watch, Watched};

/// How long to wait after a load that failed.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// What the catalog has to know beside the store.
#[derive(Debug)]
pub struct Settings {
    /// The range of the virtual addresses (`link.range`): nobody may announce an address of it.
    pub link_range: Ipv4Net,
    /// Whether the witnesses have had time to speak since the start: `Intake::confirmed`.
    pub confirmed: watch::Receiver<bool>,
}

/// Starts the job. The catalog is `Loading` until the first load is complete.
pub fn start(jobs: &Jobs, store: Arc<dyn Store>, settings: Settings) -> Reader<Catalog> {
    let builder = Builder::new(store.identity().clone(), settings.link_range);
    let (publisher, reader) = published(builder.catalog());
    jobs.start("catalog", run(store, settings.confirmed, Work { builder, publisher }));
    reader
}

struct Work {
    builder: Builder,
    publisher: Publisher<Catalog>,
}

impl Work {
    fn publish(&self) {
        self.publisher.publish(Arc::new(self.builder.catalog()));
    }
}

async fn run(store: Arc<dyn Store>, mut confirmed: watch::Receiver<bool>, mut work: Work) {
    loop {
        let snapshot = match store.load().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "the catalog cannot load the store: {error}");
                tokio::time::sleep(RETRY_WAIT).await;
                continue;
            }
        };
        let mut watch = store.watch(snapshot.revision);
        let readiness = if *confirmed.borrow() { Readiness::Current } else { Readiness::Stale };
        work.builder.load(snapshot, readiness);
        work.publish();
        if follow(&mut watch, &mut confirmed, &mut work).await == Watched::Closed {
            return;
        }
        warn!("the catalog fell behind the store's log and loads everything again");
    }
}

/// Takes commits in until the watch ends; returns how.
async fn follow(watch: &mut Watch, confirmed: &mut watch::Receiver<bool>, work: &mut Work) -> Watched {
    loop {
        let is_confirmed = *confirmed.borrow_and_update();
        if is_confirmed && work.builder.confirm() {
            work.publish();
        }
        // Cancel-safe: both waits lose nothing when the other branch wins.
        tokio::select! {
            watched = watch.next() => match watched {
                Watched::Commits(commits) => {
                    commits.iter().for_each(|commit| work.builder.apply(commit));
                    work.publish();
                }
                ended @ (Watched::Compacted | Watched::Closed) => return ended,
            },
            changed = confirmed.wait_for(|confirmed| *confirmed), if !is_confirmed => {
                if changed.is_err() {
                    // Nobody is left who could confirm: the program is ending.
                    return Watched::Closed;
                }
            }
        }
    }
}
