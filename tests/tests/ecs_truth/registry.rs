//! The parts of a registry that make truth of what AWS says, in one process and on paused time: no sidecar, no socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_core::endpoint::State;
use portolan_core::name::{Label, ServiceKey};
use portolan_registry::catalog::{self, Catalog};
use portolan_registry::clock::Clock;
use portolan_registry::deadlines::{self, Deadlines};
use portolan_registry::ecs::{self, Source};
use portolan_registry::intake::Intake;
use portolan_registry::intake::steward::{self, Steward};
use portolan_registry::presence;
use portolan_registry::settings::Aws;
use portolan_registry::store::EmbeddedStore;
use portolan_runtime::jobs::Jobs;
use portolan_runtime::metrics::Metrics;
use portolan_runtime::published::Reader;
use portolan_tests::double::{BEGINNING_MS, Double};

/// How long it may take until something is so, in the test's own time.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// The parts, at work.
pub(crate) struct Registry {
    jobs: Jobs,
    catalog: Reader<Catalog>,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Starts them on cluster `prod` of `aws`, with its queue `events` if it has one.
    pub(crate) async fn start(aws: &Double, queue: Option<String>) -> anyhow::Result<Registry> {
        let folder = tempfile::tempdir()?;
        let jobs = Jobs::new();
        let clock = Clock::starting_at(BEGINNING_MS);
        let store = Arc::new(EmbeddedStore::open(&folder.path().join("registry.redb"), BEGINNING_MS, 7)?);
        let intake = Arc::new(Intake::open(store.clone(), clock.now()).await?);
        let link_range = "198.18.0.0/16".parse()?;
        let settings = catalog::Settings { link_range, confirmed: intake.confirmed() };
        let catalog = catalog::start(&jobs, store.clone(), settings);
        steward::start(&jobs, Steward { store, catalog: catalog.clone(), link_range, clock });
        presence::start(&jobs, intake.clone(), clock);
        let metrics = Metrics::new("test", "0");
        let deadlines = Deadlines { intake: intake.clone(), catalog: catalog.clone(), clock };
        deadlines::start(&jobs, deadlines, &metrics);
        let clusters = vec!["prod".to_owned()];
        let settings = Aws { clusters, region: None, endpoint: None, queue, calls_per_second: 2 };
        let metrics = metrics.register(ecs::Metrics::new);
        let (aws, catalog_of_source) = (Arc::new(aws.clone()), catalog.clone());
        let source = Source { aws, intake, catalog: catalog_of_source, clock, settings, metrics, seed: 7 };
        ecs::start(&jobs, source).await?;
        Ok(Registry { jobs, catalog, _folder: folder })
    }

    /// What is known now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load()
    }

    /// The ids of the tasks that a service's answers lead to.
    pub(crate) fn answered(&self, service: &str) -> BTreeSet<String> {
        let catalog = self.catalog();
        let known = catalog.service(&key(service)).and_then(|service| service.known_endpoints().cloned());
        let is_answered = |state: State| matches!(state, State::Usable | State::Unverified(_));
        let answered = known.iter().flat_map(|set| set.iter()).filter(|endpoint| is_answered(endpoint.state));
        answered.filter_map(|endpoint| endpoint.task_id.clone()).collect()
    }

    /// The answered tasks of every service that has any.
    pub(crate) fn all_answered(&self) -> BTreeMap<String, BTreeSet<String>> {
        let catalog = self.catalog();
        let names = catalog.view.services.keys().map(|key| key.service.to_string());
        names.map(|name| (name.clone(), self.answered(&name))).filter(|(_, tasks)| !tasks.is_empty()).collect()
    }

    /// Waits until `holds`, looking every second of the test's time.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Registry) -> bool) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !holds(self) {
            anyhow::ensure!(tokio::time::Instant::now() < end, "{what} does not come: {:?}", self.all_answered());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// Ends the parts, and says if one ended before.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.jobs.shut_down();
        Ok(self.jobs.finished().await?)
    }
}

/// A service of cluster `prod`.
pub(crate) fn key(service: &str) -> ServiceKey {
    let service = Label::parse(service).expect("a test's own name");
    ServiceKey { cluster: Label::fixed("prod"), service }
}
