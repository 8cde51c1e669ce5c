//! What witnesses other than sidecars, and operators, state: one value for one key, or that there is none any more.
//!
//! Each job states only what is its own: the ECS source what ECS said, `neighbours` what they met, `external` where declared
//! endpoints are, operators through the HTTP surface their orders and declarations. Whoever states sees that it is news.

use bytes::Bytes;
use portolan_core::ecs::EcsReport;
use portolan_core::name::{Label, NodeKey, ServiceKey};

use super::Intake;
use crate::store::evidence::{
    AbsenceRecord, AloneRecord, ClusterRecord, ExternalRecord, FamilyRecord, OrderRecord, ProbeRecord, ResolvedRecord,
    ServiceRecord,
};
use crate::store::record::encode;
use crate::store::{CommitError, Key, Target, Transaction, WRITES_MAX};

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

impl Intake {
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
