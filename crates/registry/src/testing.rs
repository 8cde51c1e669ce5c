//! What the tests of the registry share: reports in a few words, and a store with a catalog beside it, in one thread.

use std::sync::Arc;

use ipnet::Ipv4Net;
use portolan_core::endpoint::{Protocol, Run, State};
use portolan_core::evidence::{
    ContainerReport, Ending, Health, LinkWish, NameCandidates, NodeReport, Phase, PortReport,
};
use portolan_core::name::{Label, NodeKey, ServiceKey};
use portolan_proto::node_report;

pub(crate) mod ecs;

use crate::catalog::Catalog;
pub(crate) use crate::intake::statement::Statement;
use crate::store::memory::MemoryStore;
use crate::store::record::{self, Presence, Silence};
use crate::store::{Key, Store, Transaction, Watched};

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

pub(crate) fn range() -> Ipv4Net {
    "198.18.0.0/16".parse().unwrap()
}

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

pub(crate) fn node(name: &str) -> NodeKey {
    NodeKey { cluster: label("prod"), node: label(name) }
}

pub(crate) fn service(name: &str) -> ServiceKey {
    ServiceKey { cluster: label("prod"), service: label(name) }
}

/// A running container of ECS family `family`, passing, its port 9200 on a random host port.
pub(crate) fn container(id: &str, family: &str) -> ContainerReport {
    ContainerReport {
        id: format!("{id:0>64}"),
        run: Run(1),
        cluster: label("prod"),
        candidates: NameCandidates { family: Some(label(family)), ..NameCandidates::default() },
        name: label("app"),
        task_arn: None,
        task_id: None,
        phase: Phase::Running,
        ports: vec![port(9200, 32_768)],
        link: LinkWish::default(),
        is_primary: false,
        tags: Vec::new(),
        meta: Vec::new(),
        weight: 1,
        refusals: Vec::new(),
        is_refused: false,
    }
}

pub(crate) fn port(container_port: u16, host_port: u16) -> PortReport {
    PortReport {
        container_port,
        protocol: Protocol::Tcp,
        host_port,
        addresses: vec!["10.0.0.1".parse().unwrap()],
        name: None,
        registrator_name: None,
        health: Health::Passing,
        is_dynamic: container_port != host_port,
    }
}

pub(crate) fn died(mut container: ContainerReport, exit_code: Option<i64>) -> ContainerReport {
    container.phase = Phase::Died(Ending { exit_code, is_out_of_memory: false, at_ms: NOW_MS });
    container
}

pub(crate) fn report(name: &str, containers: Vec<ContainerReport>) -> NodeReport {
    NodeReport {
        node: node(name),
        boot_id: "boot".to_owned(),
        session: 1,
        generation: 1,
        host_name: None,
        addresses: vec!["10.0.0.1".parse().unwrap()],
        az: None,
        version: "0.1.0".to_owned(),
        containers,
    }
}

/// A store with a catalog that has taken everything in, and a steward that has written all that was needed.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) catalog: crate::catalog::testing::Stepper,
    /// Whether the steward leaves things to be.
    pub(crate) is_steward_idle: bool,
    now_ms: u64,
}

impl World {
    pub(crate) async fn new() -> World {
        let store = Arc::new(MemoryStore::new(NOW_MS));
        let catalog = crate::catalog::testing::Stepper::load(store.as_ref()).await;
        World { store, catalog, is_steward_idle: false, now_ms: NOW_MS }
    }

    pub(crate) fn catalog(&self) -> Catalog {
        self.catalog.catalog()
    }

    pub(crate) fn pass_time(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    pub(crate) fn pass_the_time_that_services_are_kept(&mut self) {
        self.now_ms += crate::intake::steward::KEPT_MS;
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Lets time pass, then catalog and steward look again.
    pub(crate) async fn pass(&mut self, passed_ms: u64) {
        self.now_ms += passed_ms;
        self.commit(Transaction::at(self.now_ms)).await;
    }

    /// Keeps a statement.
    pub(crate) async fn state(&mut self, statement: Statement) {
        let made = Transaction::at(self.now_ms);
        let made = match statement.write() {
            (key, Some(value)) => made.putting(key, value),
            (key, None) => made.deleting(key),
        };
        self.commit(made).await;
    }

    /// ECS is a witness from now on, and says this of an instance.
    pub(crate) async fn with_ecs(&mut self, node: &str, report: Box<portolan_core::ecs::EcsReport>) {
        self.state(Statement::Cluster(label("prod"), Some(ecs::cluster()))).await;
        self.state(Statement::Ecs(self::node(node), Some(report))).await;
    }

    /// Lets as much time pass as a name waits for an empty owner, then the steward look again.
    pub(crate) async fn pass_the_time_that_names_are_held(&mut self) {
        self.pass(crate::intake::steward::NAME_HELD_MS).await;
    }

    /// Keeps a report, and that its node speaks.
    pub(crate) async fn report(&mut self, report: &NodeReport) {
        let presence = Presence { boot_id: report.boot_id.clone(), since_ms: self.now_ms, silence: None };
        let transaction = Transaction::at(self.now_ms)
            .putting(Key::Node(report.node.clone()), node_report::encode(report))
            .putting(Key::Presence(report.node.clone()), record::encode(&presence));
        self.commit(transaction).await;
    }

    pub(crate) async fn silence(&mut self, node: &NodeKey, passage: Option<record::Passage>) {
        let silence = Some(Silence { since_ms: self.now_ms, passage });
        let presence = Presence { boot_id: "boot".to_owned(), since_ms: NOW_MS, silence };
        let key = Key::Presence(node.clone());
        self.commit(Transaction::at(self.now_ms).putting(key, record::encode(&presence))).await;
    }

    /// Commits, then lets catalog and steward come to rest.
    pub(crate) async fn commit(&mut self, transaction: Transaction) {
        self.store.commit(transaction).await.unwrap();
        self.catalog.catch_up().await;
        for _ in 0..10 {
            if self.is_steward_idle {
                return;
            }
            let planned = crate::intake::steward::plan(&self.catalog(), range(), self.now_ms);
            if planned.is_empty() {
                return;
            }
            for transaction in planned {
                self.store.commit(transaction).await.unwrap();
            }
            self.catalog.catch_up().await;
        }
        panic!("catalog and steward do not come to rest: {:?}", self.catalog().needs);
    }

    pub(crate) async fn expire(&mut self) {
        for transaction in crate::intake::steward::expire(&self.catalog(), self.now_ms) {
            self.commit(transaction).await;
        }
    }

    /// The states of a service's endpoints in the view, in words; `None` when it is not known.
    pub(crate) fn states(&self, name: &str) -> Option<Vec<String>> {
        let catalog = self.catalog();
        let known = catalog.service(&service(name))?.known_endpoints()?;
        Some(known.iter().map(|endpoint| word(endpoint.state)).collect())
    }
}

pub(crate) fn word(state: State) -> String {
    state.to_string()
}

/// The next commits that a watch tells.
pub(crate) async fn commits(watch: &mut crate::store::Watch) -> Vec<Arc<crate::store::Commit>> {
    match watch.next().await {
        Watched::Commits(commits) => commits,
        other => panic!("{other:?}"),
    }
}
