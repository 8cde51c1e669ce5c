//! Services, nodes, links and the registry itself.

use std::io::{self, Write};

use portolan_registry::http::api::{NodeList, Service, ServiceList, StateCounts, Status};

use super::{Cell, Screen, Table, Tone, age};
use crate::locate::{Registry, SidecarStatus};

/// The registry about itself, and whether a sidecar runs here.
pub(crate) fn status<W: Write>(
    screen: &mut Screen<W>,
    status: &Status,
    registry: &Registry,
    sidecar: Option<&SidecarStatus>,
) -> io::Result<()> {
    let since = age(Some(&status.started), screen.now);
    let mut table = Table::indented(0);
    let mut row = |name: &str, value: Cell| table.row(vec![Cell::toned(name, Tone::Strong), value]);
    row("registry", format!("{} ({})", registry.server, registry.how.text()).into());
    row("version", format!("{}, running for {since}", status.version).into());
    row("zone", status.zone.as_str().into());
    row("readiness", Cell::word(&status.readiness));
    row("index", format!("{}, epoch {}", status.index, status.epoch).into());
    row("services", format!("{} in {} clusters", status.services, status.clusters).into());
    row("nodes", format!("{}, {} silent", status.nodes, status.silent_nodes).into());
    row("endpoints", counts(&status.endpoints).into());
    for line in status.aws.iter().flat_map(|aws| super::aws::lines(aws, screen.now)) {
        row("aws", line);
    }
    let local = match sidecar {
        None => "none on this machine".to_owned(),
        Some(sidecar) => {
            let led = match (&sidecar.ebpf_problem, sidecar.ebpf_services) {
                (Some(problem), _) => format!("; plane ebpf cannot be had: {problem}"),
                (None, 0) => String::new(),
                (None, count) => format!("; the kernel leads {count} services"),
            };
            let hears = if sidecar.is_registry_connected { "connected" } else { "not connected" };
            format!(
                "version {}, node {}, view {}, {hears} to a registry{led}",
                sidecar.version, sidecar.node, sidecar.readiness
            )
        }
    };
    row("sidecar", local.into());
    screen.table(&table)
}

/// The services.
pub(crate) fn services<W: Write>(screen: &mut Screen<W>, list: &ServiceList) -> io::Result<()> {
    if list.services.is_empty() {
        return screen.line("no services");
    }
    let mut table = Table::new(&["SERVICE", "CLUSTER", "ENDPOINTS", "PORTS", "VIRTUAL ADDRESS"]);
    for service in &list.services {
        let tone = if service.endpoints.usable > 0 { Tone::Good } else { Tone::Doubtful };
        table.row(vec![
            service.service.as_str().into(),
            service.cluster.as_str().into(),
            Cell::toned(counts(&service.endpoints), tone),
            if service.ports.is_empty() { "-".into() } else { service.ports.join(" ").into() },
            service.virtual_address.map_or("-".into(), |address| address.to_string().into()),
        ]);
    }
    screen.table(&table)
}

/// One service and its endpoints.
pub(crate) fn service<W: Write>(screen: &mut Screen<W>, service: &Service) -> io::Result<()> {
    screen.cells(&[Cell::toned(&service.dns_name, Tone::Strong), format!("index {}", service.index).into()])?;
    if let Some(link) = &service.link {
        let ports: Vec<String> =
            link.ports.iter().map(|p| format!("{}/{} to {}", p.port, p.protocol, p.container_port)).collect();
        screen.line(&format!("virtual address {} ({}), ports {}", link.address, link.mode, ports.join(", ")))?;
    }
    if service.endpoints.is_empty() {
        return screen.line("no endpoints");
    }
    let mut table = Table::new(&["STATE", "FOR", "ADDRESS", "CONTAINER PORT", "CONTAINER", "NODE", "TASK", "TAGS"]);
    for endpoint in &service.endpoints {
        let id = &endpoint.id;
        let name = endpoint.port_name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let tags = if endpoint.tags.is_empty() { "-".to_owned() } else { endpoint.tags.join(",") };
        table.row(vec![
            Cell::word(&endpoint.state),
            age(endpoint.since.as_deref(), screen.now).into(),
            std::net::SocketAddr::new(endpoint.address, endpoint.port).to_string().into(),
            format!("{}/{}{name}", id.container_port, id.protocol).into(),
            id.container.as_str().into(),
            id.node.as_str().into(),
            id.task_id.as_ref().map(|task| first(task, 12)).into(),
            tags.into(),
        ]);
    }
    screen.table(&table)
}

/// The nodes.
pub(crate) fn nodes<W: Write>(screen: &mut Screen<W>, list: &NodeList) -> io::Result<()> {
    if list.nodes.is_empty() {
        return screen.line("no nodes");
    }
    let mut table =
        Table::new(&["NODE", "CLUSTER", "SIDECAR", "FOR", "CONTAINERS", "REFUSED", "ADDRESSES", "AZ", "VERSION"]);
    for node in &list.nodes {
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        table.row(vec![
            node.node.as_str().into(),
            node.cluster.as_str().into(),
            Cell::word(&node.sidecar),
            age(node.since.as_deref(), screen.now).into(),
            node.containers.to_string().into(),
            node.refused.to_string().into(),
            if addresses.is_empty() { "-".into() } else { addresses.join(" ").into() },
            node.az.as_deref().into(),
            node.version.as_deref().into(),
        ]);
    }
    screen.table(&table)
}

/// `2 usable, 1 draining`: only what there is.
fn counts(counts: &StateCounts) -> String {
    let all = [
        (counts.usable, "usable"),
        (counts.unverified, "unverified"),
        (counts.draining, "draining"),
        (counts.unusable, "unusable"),
        (counts.starting, "starting"),
    ];
    let present: Vec<String> = all.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if present.is_empty() { "none".to_owned() } else { present.join(", ") }
}

/// The first characters of an identifier.
pub(super) fn first(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}
