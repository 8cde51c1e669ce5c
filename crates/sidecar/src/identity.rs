//! Who this node is: its key, its addresses, its boot. Read once at start.

use std::net::IpAddr;
use std::path::Path;

use portolan_core::hash;
use portolan_core::name::{Label, NodeKey, cluster_label};
use portolan_runtime::address;

/// The identity of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its key.
    pub node: NodeKey,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Its host name, if that is a name.
    pub host_name: Option<Label>,
    /// Addresses that other nodes can reach, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
    /// Availability zone.
    pub az: Option<String>,
}

/// Why a node does not know itself.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A setting cannot be meant.
    #[error("setting `{setting}` {reason}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// No address of this machine can be reached from elsewhere.
    #[error("find an address of this machine: it has no default route; set `address`")]
    NoAddress,
}

/// What settings say of a node.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Setting `cluster`.
    pub cluster: Option<String>,
    /// Setting `node`.
    pub node: Option<String>,
    /// Setting `address`.
    pub addresses: Vec<IpAddr>,
    /// Setting `az`.
    pub az: Option<String>,
}

impl Identity {
    /// Works out who this node is from what it was told, and else from the machine.
    ///
    /// # Errors
    /// When a setting cannot be meant, or no address is found.
    pub fn find(told: Told) -> Result<Identity, IdentityError> {
        let cluster = told.cluster.as_deref().unwrap_or("local");
        let cluster = cluster_label(cluster).map_err(|error| setting("cluster", &error))?;
        let node = match &told.node {
            Some(node) => Label::sanitise(node).map_err(|error| setting("node", &error))?,
            None => machine_label(),
        };
        let addresses = match told.addresses {
            none if none.is_empty() => address::of_default_route().into_iter().collect(),
            told => told,
        };
        if addresses.is_empty() {
            return Err(IdentityError::NoAddress);
        }
        Ok(Identity {
            node: NodeKey { cluster, node },
            boot_id: read("/proc/sys/kernel/random/boot_id").unwrap_or_else(|| "unknown".to_owned()),
            host_name: read("/proc/sys/kernel/hostname").and_then(|name| Label::sanitise(&name).ok()),
            addresses,
            az: told.az,
        })
    }
}

fn setting(setting: &'static str, error: &impl ToString) -> IdentityError {
    IdentityError::Setting { setting, reason: error.to_string() }
}

/// A stable name of the machine: a hash of its machine id, which must not be shown (machine-id(5)), else the host name.
fn machine_label() -> Label {
    let id = read("/etc/machine-id").or_else(|| read("/proc/sys/kernel/hostname")).unwrap_or_default();
    let digest = hash::stable(&[b"portolan node", id.as_bytes()]);
    Label::parse(&format!("m-{digest:016x}")).expect("a letter, a hyphen and 16 hexadecimal digits are a label")
}

fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new(path)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cluster: &str) -> Told {
        Told {
            cluster: Some(cluster.into()),
            node: Some("I-0ABC".into()),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            az: None,
        }
    }

    #[test]
    fn takes_what_it_was_told_and_refuses_what_cannot_be_meant() {
        let identity = Identity::find(told("Prod")).unwrap();
        assert_eq!(identity.node.to_string(), "i-0abc.prod");
        let error = Identity::find(told("node")).unwrap_err();
        assert_eq!(error.to_string(), "setting `cluster` `node` is reserved; choose another name");
    }

    #[test]
    fn a_machine_has_the_same_name_each_time() {
        assert_eq!(machine_label(), machine_label());
    }
}
