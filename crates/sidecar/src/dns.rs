//! The node's DNS: what the dns crate needs to know of this node.

use std::collections::HashMap;
use std::net::IpAddr;

use portolan_core::name::{Label, ServiceKey};
use portolan_dns::server::{Clients, Follow};
use portolan_runtime::published::Reader;

use crate::follow::Follows;

/// Whose container an address belongs to, as it is published by who watches the containers.
#[derive(Debug)]
pub(crate) struct ContainerClusters {
    /// The cluster of the container behind each address.
    pub(crate) clusters: Reader<HashMap<IpAddr, Label>>,
}

impl Clients for ContainerClusters {
    fn cluster_of(&self, address: IpAddr) -> Option<Label> {
        self.clusters.peek().get(&address).cloned()
    }
}

impl Follow for Follows {
    fn ask(&self, key: &ServiceKey) {
        Follows::ask(self, key);
    }
}
