//! What a client would get.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use portolan_registry::http::api::Resolution;

use super::{Cell, Screen, Table, Tone};

/// What a client would get, and who says so.
pub(crate) fn resolution<W: Write>(screen: &mut Screen<W>, found: &Resolution, who: &str) -> io::Result<()> {
    screen.cells(&[Cell::toned(&found.name, Tone::Strong), Cell::word(&found.status)])?;
    screen.cells(&[
        Cell::toned(format!("answered by {who}"), Tone::Faint),
        Cell::toned(format!("(index {}, {}, TTL {} s)", found.index, found.readiness, found.ttl_seconds), Tone::Faint),
    ])?;
    if let Some(note) = &found.note {
        screen.cells(&[Cell::toned("note:", Tone::Doubtful), note.as_str().into()])?;
    }
    let mut table = Table::indented(0);
    for address in &found.addresses {
        let kind = if address.is_ipv4() { "A   " } else { "AAAA" };
        let is_virtual = found.virtual_address.map(IpAddr::V4) == Some(*address);
        let remark = if is_virtual { "virtual address: links lead from it to the endpoints" } else { "" };
        table.row(trimmed(vec![kind.into(), address.to_string().into(), remark.into()]));
    }
    screen.table(&table)?;
    let mut table = Table::indented(0);
    for record in &found.srv {
        let place = [record.container.as_deref(), record.node.as_deref().map(|_| "on"), record.node.as_deref()];
        table.row(trimmed(vec![
            "SRV ".into(),
            SocketAddr::new(record.address, record.port).to_string().into(),
            Cell::word(record.state.as_deref().unwrap_or("")),
            format!("weight {}", record.weight).into(),
            place.into_iter().flatten().collect::<Vec<_>>().join(" ").into(),
        ]));
    }
    screen.table(&table)?;
    found.pointers.iter().try_for_each(|name| screen.line(&format!("PTR   {name}")))
}

/// Without empty cells at the end, so that no line ends in spaces.
fn trimmed(mut cells: Vec<Cell>) -> Vec<Cell> {
    while cells.last().is_some_and(|cell| cell.text().is_empty()) {
        cells.pop();
    }
    cells
}
