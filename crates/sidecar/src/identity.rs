//! Who this node is: its key, its addresses, its boot. Read once at start.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

use portolan_core::hash;
use portolan_core::name::{Label, NodeKey, cluster_label};

/// Where a connected UDP socket would send from tells the address of the default route; nothing is sent.
const SOMEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 0, 8), 9);

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
        let addresses = if told.addresses.is_empty() { own_addresses() } else { told.addresses };
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

/// The address of the default route, of each family.
fn own_addresses() -> Vec<IpAddr> {
    let v4 =
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|s| s.connect(SOMEWHERE).and_then(|()| s.local_addr()));
    let usable = |address: &IpAddr| !address.is_loopback() && !address.is_unspecified();
    v4.ok().map(|address| address.ip()).filter(usable).into_iter().collect()
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
