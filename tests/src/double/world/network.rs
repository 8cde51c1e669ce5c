//! Ports and addresses, as Docker and the VPC give them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use portolan_registry::ecs::api::{Attachment, ContainerDefinition, NetworkBinding, PortMapping};

use super::definition::{Definition, ports_of};

/// Linux's ephemeral ports, from which Docker takes host ports.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// Where the addresses of tasks begin.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([10, 1, 0, 10]);

/// Where the addresses of machines begin that no test named.
const FIRST_HOST_ADDRESS: u32 = u32::from_be_bytes([10, 2, 0, 10]);

/// The host ports of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPorts {
    taken: BTreeSet<u16>,
    next: u16,
}

impl Default for HostPorts {
    fn default() -> Self {
        // The agent keeps these for itself and for Docker.
        HostPorts { taken: [22, 2375, 2376, 51678, 51679].into(), next: *EPHEMERAL.start() }
    }
}

impl HostPorts {
    /// All that are taken.
    pub fn taken(&self) -> impl Iterator<Item = u16> {
        self.taken.iter().copied()
    }

    /// Whether these ports are free.
    pub fn fit(&self, ports: &[u16]) -> bool {
        ports.iter().all(|port| !self.taken.contains(port))
    }

    /// Takes ports that the definition fixes.
    pub fn reserve(&mut self, ports: &[u16]) {
        self.taken.extend(ports);
    }

    /// Gives ports back.
    pub fn free(&mut self, ports: &[u16]) {
        self.taken.retain(|port| !ports.contains(port));
    }

    /// As many free ports as `count` in a row, taken; the next ones, so that a freed port is given again late.
    fn take(&mut self, count: u16) -> u16 {
        for _ in EPHEMERAL {
            let first = self.next;
            let fits = EPHEMERAL.end() - first >= count - 1;
            self.next = if first == *EPHEMERAL.end() || !fits { *EPHEMERAL.start() } else { first + 1 };
            if fits && (first..first + count).all(|port| !self.taken.contains(&port)) {
                self.taken.extend(first..first + count);
                self.next = if first + count > *EPHEMERAL.end() { *EPHEMERAL.start() } else { first + count };
                return first;
            }
        }
        // More tasks than ports on one instance: the double goes on, with a port that two have.
        self.next
    }

    /// The bindings of one container, as the agent reports them once it runs.
    pub fn bind(&mut self, network_mode: &str, container: &ContainerDefinition) -> Vec<NetworkBinding> {
        let mut bindings = Vec::new();
        for mapping in &container.port_mappings {
            match network_mode {
                "bridge" | "" => bindings.extend(both_families(&self.published(mapping))),
                "host" => bindings.extend(self.own(mapping)),
                _ => {}
            }
        }
        bindings
    }

    fn published(&mut self, mapping: &PortMapping) -> NetworkBinding {
        let binding = NetworkBinding { protocol: mapping.protocol.clone(), ..NetworkBinding::default() };
        if let Some((first, last)) = mapping.container_port_range.as_deref().and_then(ports_of) {
            let count = last - first + 1;
            let host = self.take(count);
            let container_port_range = mapping.container_port_range.clone();
            let host_port_range = Some(format!("{host}-{}", host + count - 1));
            return NetworkBinding { container_port_range, host_port_range, ..binding };
        }
        let host_port = mapping.host_port.filter(|port| *port != 0).unwrap_or_else(|| self.take(1));
        self.taken.insert(host_port);
        NetworkBinding { container_port: mapping.container_port, host_port: Some(host_port), ..binding }
    }

    fn own(&mut self, mapping: &PortMapping) -> Option<NetworkBinding> {
        let port = mapping.container_port?;
        self.taken.insert(port);
        Some(NetworkBinding {
            bind_ip: "0.0.0.0".to_owned(),
            protocol: mapping.protocol.clone(),
            container_port: Some(port),
            host_port: Some(port),
            ..NetworkBinding::default()
        })
    }
}

/// The host ports that a definition fixes.
pub fn fixed_ports(definition: &Definition) -> Vec<u16> {
    if definition.has_own_interface() {
        return Vec::new();
    }
    let mappings = definition.said.container_definitions.iter().flat_map(|container| &container.port_mappings);
    mappings.filter_map(|mapping| mapping.host_port.filter(|port| *port != 0)).collect()
}

/// The host ports of bindings.
pub fn host_ports(bindings: &[NetworkBinding]) -> BTreeSet<u16> {
    let ranges = bindings.iter().filter_map(|binding| ports_of(binding.host_port_range.as_deref()?));
    bindings.iter().filter_map(|binding| binding.host_port).chain(ranges.flat_map(|(a, b)| a..=b)).collect()
}

/// Docker binds every port twice.
fn both_families(binding: &NetworkBinding) -> [NetworkBinding; 2] {
    ["0.0.0.0", "::"].map(|bind_ip| NetworkBinding { bind_ip: bind_ip.to_owned(), ..binding.clone() })
}

/// The address of the task interface with this number.
pub fn task_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_ADDRESS + number % 0xFFFF)
}

/// The address of the machine with this number.
pub fn host_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_HOST_ADDRESS + number % 0xFFFF)
}

/// An interface that is about to be attached.
pub fn interface(id: &str, address: Ipv4Addr) -> Attachment {
    let [_, _, c, d] = address.octets();
    let details = [
        ("subnetId", "subnet-0123456789abcdef0".to_owned()),
        ("networkInterfaceId", format!("eni-0{:016x}", address.to_bits())),
        ("macAddress", format!("0a:00:00:00:{c:02x}:{d:02x}")),
        ("privateDnsName", format!("ip-{}.eu-central-1.compute.internal", address.to_string().replace('.', "-"))),
        ("privateIPv4Address", address.to_string()),
    ];
    Attachment {
        id: id.to_owned(),
        kind: "ElasticNetworkInterface".to_owned(),
        status: "PRECREATED".to_owned(),
        details: details.map(|(name, value)| (name.to_owned(), value)).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_ports_are_given_again_last() {
        let mut ports = HostPorts::default();
        let first = ports.take(1);
        ports.free(&[first]);
        assert_eq!((first, ports.take(1)), (32_768, 32_769));
        // Two of the ephemeral ones are the agent's.
        for _ in 0..28_228 {
            ports.take(1);
        }
        assert_eq!(ports.take(1), first);
    }

    #[test]
    fn a_range_is_in_one_piece_and_bound_twice() {
        let definition = Definition::bridge("a").range("5000-5003").port(80).udp().on_host_port(8080);
        let mut ports = HostPorts::default();
        assert!(ports.fit(&fixed_ports(&definition)));
        let bindings = ports.bind("bridge", &definition.said.container_definitions[0]);
        let shown: Vec<_> =
            bindings.iter().map(|binding| (binding.bind_ip.as_str(), binding.host_port_range.as_deref())).collect();
        let range = Some("32768-32771");
        assert_eq!(shown, [("0.0.0.0", range), ("::", range), ("0.0.0.0", None), ("::", None)]);
        assert_eq!(host_ports(&bindings), [8080, 32_768, 32_769, 32_770, 32_771].into());
        assert!(!ports.fit(&fixed_ports(&definition)), "8080 is taken");
    }
}
