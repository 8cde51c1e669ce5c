//! Links: where they lead, how much goes through, and who connects.

use std::collections::BTreeSet;
use std::io::{self, Write};

use portolan_registry::http::api::LinkPort;

use super::{Cell, Screen, Table, Tone};
use crate::commands::links::{ClientState, EndpointState, LinkList, LinkState};

/// The links of this node.
pub(crate) fn links<W: Write>(screen: &mut Screen<W>, links: &LinkList) -> io::Result<()> {
    if links.links.is_empty() {
        return screen.line("no links");
    }
    let mut table = Table::new(&[
        "SERVICE",
        "CLUSTER",
        "VIRTUAL ADDRESS",
        "MODE",
        "PLANE",
        "PORTS",
        "ENDPOINTS",
        "OPEN",
        "TOTAL",
        "LED",
        "FAILURES",
    ]);
    for link in &links.links {
        let port = |p: &LinkPort| format!("{}/{}:{}", p.port, p.protocol, p.container_port);
        let ports: Vec<String> = link.ports.iter().map(port).collect();
        let failed = link.failures.saturating_add(link.led_failures);
        let failures = if failed == 0 { Tone::Plain } else { Tone::Doubtful };
        let plane = if link.plane_reason.is_none() { Tone::Plain } else { Tone::Doubtful };
        table.row(vec![
            link.service.as_str().into(),
            link.cluster.as_str().into(),
            link.address.to_string().into(),
            link.mode.as_str().into(),
            Cell::toned(link.plane.as_str(), plane),
            ports.join(" ").into(),
            link.endpoints.to_string().into(),
            link.open.to_string().into(),
            link.total.to_string().into(),
            link.led_total.to_string().into(),
            Cell::toned(failed.to_string(), failures),
        ]);
    }
    screen.table(&table)?;
    // One reason for all, because it is the node's.
    let reasons: BTreeSet<&str> = links.links.iter().filter_map(|link| link.plane_reason.as_deref()).collect();
    reasons.into_iter().try_for_each(|reason| screen.line(&format!("plane ebpf cannot be had: {reason}")))
}

/// The endpoints of one link as this node met them, and who connected; nothing where nobody did.
pub(crate) fn link<W: Write>(screen: &mut Screen<W>, link: &LinkState) -> io::Result<()> {
    if !link.met.is_empty() {
        screen.line("")?;
        let mut table =
            Table::new(&["ENDPOINT", "NEAR", "WEIGHT", "OPEN", "TOTAL", "BYTES", "CONNECT", "FAILURES", "EJECTED"]);
        link.met.iter().for_each(|endpoint| table.row(row(endpoint)));
        screen.table(&table)?;
    }
    if !link.clients.is_empty() {
        screen.line("")?;
        let mut table = Table::new(&["CLIENT", "CLUSTER", "CONNECTIONS"]);
        for ClientState { cluster, service, total } in &link.clients {
            let name = |name: &Option<String>| Cell::plain(name.as_deref().unwrap_or("-"));
            table.row(vec![name(service), name(cluster), total.to_string().into()]);
        }
        screen.table(&table)?;
    }
    Ok(())
}

fn row(endpoint: &EndpointState) -> Vec<Cell> {
    let doubtful = |count: u64| if count == 0 { Tone::Plain } else { Tone::Doubtful };
    let ejected = match (endpoint.ejections, endpoint.ejected_ms) {
        (0, _) => "-".to_owned(),
        (count, 0) => format!("{count} times"),
        (count, left_ms) => format!("{count} times, {} s more", left_ms.div_ceil(1000)),
    };
    let address = match endpoint.protocol.as_str() {
        "" | "tcp" => endpoint.address.to_string(),
        other => format!("{}/{other}", endpoint.address),
    };
    vec![
        address.into(),
        endpoint.nearness.as_str().into(),
        endpoint.weight.to_string().into(),
        endpoint.open.to_string().into(),
        endpoint.total.to_string().into(),
        endpoint.bytes.to_string().into(),
        format!("{} us", endpoint.connect_us).into(),
        Cell::toned(endpoint.failures.to_string(), doubtful(endpoint.failures)),
        Cell::toned(ejected, doubtful(endpoint.ejected_ms)),
    ]
}
