//! Task definitions, written as a test thinks of them.

use std::collections::BTreeMap;

use portolan_registry::ecs::api::{ContainerDefinition, PortMapping, TaskDefinition};

/// A task definition. It begins empty; whatever is said goes to the container, and then the port, that was named last.
///
/// `Definition::bridge("web").port(80).named("http")` has one container, `web`, whose port 80 gets a host port by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// As AWS describes it. ARN and revision come when it is registered.
    pub said: TaskDefinition,
    /// Whether its containers have a health check.
    pub is_checked: bool,
    /// What the stand-in plays in a real container, by the container's name.
    pub plays: BTreeMap<String, Vec<String>>,
}

impl Definition {
    /// Network mode `bridge`.
    pub fn bridge(family: &str) -> Self {
        Self::new(family, "bridge")
    }

    /// Network mode `host`: container ports are the host's.
    pub fn host(family: &str) -> Self {
        Self::new(family, "host")
    }

    /// Network mode `awsvpc`: every task has an interface of its own.
    pub fn awsvpc(family: &str) -> Self {
        Self::new(family, "awsvpc")
    }

    fn new(family: &str, network_mode: &str) -> Self {
        let said = TaskDefinition {
            family: family.to_owned(),
            network_mode: network_mode.to_owned(),
            ..TaskDefinition::default()
        };
        Definition { said, is_checked: false, plays: BTreeMap::new() }
    }

    /// Another container. Without one, the first has the family's name.
    #[must_use]
    pub fn container(mut self, name: &str) -> Self {
        let container = ContainerDefinition { name: name.to_owned(), ..ContainerDefinition::default() };
        self.said.container_definitions.push(container);
        self
    }

    /// A TCP port; in bridge mode Docker chooses the host port.
    #[must_use]
    pub fn port(mut self, container_port: u16) -> Self {
        let host_port = if self.said.network_mode == "bridge" { 0 } else { container_port };
        let mapping = PortMapping {
            protocol: "tcp".to_owned(),
            container_port: Some(container_port),
            host_port: Some(host_port),
            ..PortMapping::default()
        };
        self.last_container().port_mappings.push(mapping);
        self
    }

    /// A range of TCP ports, such as `5000-5003`.
    #[must_use]
    pub fn range(mut self, container_ports: &str) -> Self {
        let mapping = PortMapping {
            protocol: "tcp".to_owned(),
            container_port_range: Some(container_ports.to_owned()),
            ..PortMapping::default()
        };
        self.last_container().port_mappings.push(mapping);
        self
    }

    /// The last port has this host port.
    #[must_use]
    pub fn on_host_port(self, host_port: u16) -> Self {
        self.with_port(|port| port.host_port = Some(host_port))
    }

    /// The last port has this name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        self.with_port(|port| port.name = Some(name.to_owned()))
    }

    /// The last port is for UDP.
    #[must_use]
    pub fn udp(self) -> Self {
        self.with_port(|port| port.protocol = "udp".to_owned())
    }

    /// The last port speaks this: `http`, `http2`, `grpc`.
    #[must_use]
    pub fn speaks(self, app_protocol: &str) -> Self {
        self.with_port(|port| port.app_protocol = Some(app_protocol.to_owned()))
    }

    /// A Docker label of the last container.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.last_container().docker_labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable in the environment of the last container.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.last_container().environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its containers have a health check.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.is_checked = true;
        self
    }

    /// What the stand-in plays in place of the last container, when it really runs: `&["elasticsearch"]`.
    #[must_use]
    pub fn plays(mut self, args: &[&str]) -> Self {
        let name = self.last_container().name.clone();
        self.plays.insert(name, args.iter().map(|&arg| arg.to_owned()).collect());
        self
    }

    /// Whether its tasks have an interface of their own.
    pub fn has_own_interface(&self) -> bool {
        self.said.network_mode == "awsvpc"
    }

    /// The revision that its family has next.
    pub(super) fn registered(mut self, arn: String, revision: u64) -> Self {
        self.last_container();
        self.said.task_definition_arn = arn;
        self.said.revision = revision;
        self
    }

    fn last_container(&mut self) -> &mut ContainerDefinition {
        let family = &self.said.family;
        if self.said.container_definitions.is_empty() {
            let only = ContainerDefinition { name: family.clone(), ..ContainerDefinition::default() };
            self.said.container_definitions.push(only);
        }
        self.said.container_definitions.last_mut().expect("one was just made, if there was none")
    }

    fn with_port(mut self, change: impl FnOnce(&mut PortMapping)) -> Self {
        let port = self.last_container().port_mappings.last_mut().expect("a port comes before what is said of it");
        change(port);
        self
    }
}

/// First and last port of a range such as `5000-5003`.
pub fn ports_of(range: &str) -> Option<(u16, u16)> {
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}
