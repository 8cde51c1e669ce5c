//! What witnesses other than sidecars, and operators, state: one value for one key, or that there is none any more.
//!
//! Each job states only what is its own: the ECS source what ECS said, `neighbours` what they met, `external` where declared
//! endpoints are, operators through the HTTP surface their orders and declarations. Whoever states sees that it is news.

use std::collections::BTreeMap;

use bytes::Bytes;
use portolan_core::ecs::EcsReport;
use portolan_core::name::{Label, NodeKey, ServiceKey};

use super::Intake;
use crate::store::evidence::{AbsenceRecord, AloneRecord, ClusterRecord, FamilyRecord, ProbeRecord, ServiceRecord};
use crate::store::record::{decode, encode};
use crate::store::{CommitError, Key, StoreError, Transaction, WRITES_MAX};

// What operators' words are made of: the surface that hears them knows no store.
pub use crate::store::Target;
pub use crate::store::evidence::{
    CheckState, ExternalEndpoint, ExternalRecord, Order, OrderRecord, ResolvedPlace, ResolvedRecord,
};

/// One statement. `None` takes back what was stated before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// ECS is a witness for this cluster.
    Cluster(Label, Option<ClusterRecord>),
    /// What ECS says of a container instance and its tasks.
    Ecs(NodeKey, Option<Box<EcsReport>>),
    /// What ECS says of a service.
    Service(ServiceKey, Option<ServiceRecord>),
    /// Which services a family's tasks belong to: cluster, family.
    Family(Label, Label, Option<FamilyRecord>),
    /// That no sidecar spoke on a container instance.
    Alone(NodeKey, Option<AloneRecord>),
    /// That missing tasks may go.
    Absence(NodeKey, Option<AbsenceRecord>),
    /// What neighbours met.
    Probe(NodeKey, Option<ProbeRecord>),
    /// Declared endpoints.
    External(ServiceKey, Option<ExternalRecord>),
    /// Where those are.
    Resolved(ServiceKey, Option<ResolvedRecord>),
    /// An operator's order.
    Order(Target, Option<OrderRecord>),
}

impl Statement {
    /// Its key, and the value that it has from now on.
    pub(crate) fn write(self) -> (Key, Option<Bytes>) {
        match self {
            Statement::Cluster(cluster, value) => (Key::Cluster(cluster), value.map(|v| encode(&v))),
            Statement::Ecs(node, value) => (Key::Ecs(node), value.map(|v| encode(&v))),
            Statement::Service(service, value) => (Key::Service(service), value.map(|v| encode(&v))),
            Statement::Family(cluster, family, value) => (Key::Family(cluster, family), value.map(|v| encode(&v))),
            Statement::Alone(node, value) => (Key::Alone(node), value.map(|v| encode(&v))),
            Statement::Absence(node, value) => (Key::Absence(node), value.map(|v| encode(&v))),
            Statement::Probe(node, value) => (Key::Probe(node), value.map(|v| encode(&v))),
            Statement::External(service, value) => (Key::External(service), value.map(|v| encode(&v))),
            Statement::Resolved(service, value) => (Key::Resolved(service), value.map(|v| encode(&v))),
            Statement::Order(target, value) => (Key::Order(target), value.map(|v| encode(&v))),
        }
    }
}

/// What was stated of ECS, as the store holds it: where a source begins that was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Clusters for which ECS is a witness.
    pub clusters: BTreeMap<Label, ClusterRecord>,
    /// Container instances and their tasks.
    pub reports: BTreeMap<NodeKey, EcsReport>,
    /// Services.
    pub services: BTreeMap<ServiceKey, ServiceRecord>,
    /// Families' services, by cluster and family.
    pub families: BTreeMap<(Label, Label), FamilyRecord>,
    /// Keys of records that this version cannot read.
    pub unread: Vec<Key>,
}

impl Held {
    fn take(&mut self, key: Key, value: &[u8]) {
        let is_read = match &key {
            Key::Cluster(cluster) => decode(value).map(|record| drop(self.clusters.insert(cluster.clone(), record))),
            Key::Ecs(node) => decode(value).map(|report| drop(self.reports.insert(node.clone(), report))),
            Key::Service(service) => decode(value).map(|record| drop(self.services.insert(service.clone(), record))),
            Key::Family(cluster, family) => {
                decode(value).map(|record| drop(self.families.insert((cluster.clone(), family.clone()), record)))
            }
            _ => return,
        };
        if is_read.is_none() {
            self.unread.push(key);
        }
    }
}

impl Intake {
    /// What was stated of ECS.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn held_of_ecs(&self) -> Result<Held, StoreError> {
        let mut held = Held::default();
        for entry in self.store.load().await?.entries {
            held.take(entry.key, &entry.value);
        }
        Ok(held)
    }

    /// Keeps statements, in their order, [`WRITES_MAX`] at a time. What this returns, the newest revision, is durable; with
    /// nothing to state it is `None`.
    ///
    /// # Errors
    /// When the store failed. Statements before the failure were kept; all may be stated again.
    pub async fn state(&self, statements: Vec<Statement>, at_ms: u64) -> Result<Option<u64>, CommitError> {
        let mut statements = statements.into_iter().peekable();
        let mut revision = None;
        while statements.peek().is_some() {
            let part = statements.by_ref().take(WRITES_MAX).map(Statement::write);
            let transaction = part.fold(Transaction::at(at_ms), |transaction, (key, value)| match value {
                Some(value) => transaction.putting(key, value),
                None => transaction.deleting(key),
            });
            revision = Some(self.store.commit(transaction).await?);
        }
        Ok(revision)
    }
}
