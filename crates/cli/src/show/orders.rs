//! Orders, declared services, and what a wait came to.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use portolan_registry::http::api::{External, ExternalList, Order, OrderList};

use super::service::first;
use super::{Cell, Screen, Table, Tone, age};

/// As much of an id as people read.
const ID_CHARACTERS: usize = 12;

/// Every order.
pub(crate) fn orders<W: Write>(screen: &mut Screen<W>, list: &OrderList) -> io::Result<()> {
    if list.orders.is_empty() {
        return screen.line("nothing is drained or evicted, and no link is off");
    }
    let mut table = Table::new(&["ORDER", "KIND", "OF", "FOR", "ENDPOINTS", "REASON"]);
    for order in &list.orders {
        let target = if matches!(order.kind.as_str(), "node" | "service") {
            &order.target
        } else {
            first(&order.target, ID_CHARACTERS)
        };
        table.row(vec![
            order.order.as_str().into(),
            order.kind.as_str().into(),
            target.into(),
            age(Some(&order.since), screen.now).into(),
            order.endpoints.to_string().into(),
            Some(order.reason.as_str()).filter(|reason| !reason.is_empty()).into(),
        ]);
    }
    screen.table(&table)
}

/// What was ordered just now.
pub(crate) fn ordered<W: Write>(screen: &mut Screen<W>, order: &Order) -> io::Result<()> {
    let (done, then) = match order.order.as_str() {
        "evict" => ("evicted", "out of every answer"),
        "unlink" => ("off its link", "answered by their own addresses; the virtual address leads to them still"),
        _ => ("drained", "out of answers while anything better is left; open links finish"),
    };
    let endpoints =
        if order.endpoints == 1 { "1 endpoint".to_owned() } else { format!("{} endpoints", order.endpoints) };
    screen.line(&format!("{} {} is {done}: {endpoints} {then}", order.kind, order.target))
}

/// What was taken back just now.
pub(crate) fn undone<W: Write>(screen: &mut Screen<W>, order: &Order) -> io::Result<()> {
    let done = match order.order.as_str() {
        "evict" => "evicted",
        "unlink" => "off its link",
        _ => "drained",
    };
    let since = age(Some(&order.since), screen.now);
    let reason = if order.reason.is_empty() { String::new() } else { format!(" ({})", order.reason) };
    screen.line(&format!("{} {} is back; it was {done} for {since}{reason}", order.kind, order.target))
}

/// The declared services.
pub(crate) fn externals<W: Write>(screen: &mut Screen<W>, list: &ExternalList) -> io::Result<()> {
    if list.services.is_empty() {
        return screen.line("no service is declared");
    }
    let mut table = Table::new(&["SERVICE", "CLUSTER", "ENDPOINTS", "ADDRESSES", "FAILING", "UNRESOLVED"]);
    for service in &list.services {
        let failing = if service.failing == 0 { Tone::Plain } else { Tone::Bad };
        let unresolved = service.unresolved.join(" ");
        table.row(vec![
            service.service.as_str().into(),
            service.cluster.as_str().into(),
            service.endpoints.to_string().into(),
            service.places.to_string().into(),
            Cell::toned(service.failing.to_string(), failing),
            if unresolved.is_empty() { "-".into() } else { Cell::toned(unresolved, Tone::Bad) },
        ]);
    }
    screen.table(&table)
}

/// One declared service, and where its endpoints are.
pub(crate) fn external<W: Write>(screen: &mut Screen<W>, service: &External) -> io::Result<()> {
    let declaration = &service.declaration;
    let check = match &declaration.check {
        Some(check) => format!("checked every {}", check.interval.as_deref().unwrap_or("10s")),
        None => "not checked".to_owned(),
    };
    screen.cells(&[
        Cell::toned(format!("{}.{}", service.service, service.cluster), Tone::Strong),
        format!("declared for {}, {check}", age(Some(&service.since), screen.now)).into(),
    ])?;
    let mut table = Table::new(&["HOST", "PORT", "ADDRESSES"]);
    for endpoint in &declaration.endpoints {
        let protocol = endpoint.protocol.as_deref().unwrap_or("tcp");
        let name = endpoint.port_name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let is_here = |place: &&portolan_registry::http::api::ExternalPlace| {
            (&place.host, place.port, place.protocol.as_str()) == (&endpoint.host, endpoint.port, protocol)
        };
        let places = service.places.iter().filter(is_here).map(|place| {
            let check = place.check.as_ref().map(|check| format!(" {check}")).unwrap_or_default();
            format!("{}{check}", SocketAddr::new(place.address, place.port))
        });
        let mut places: Vec<String> = places.collect();
        if service.unresolved.contains(&endpoint.host) {
            places.push("(not resolved)".to_owned());
        }
        let places = match endpoint.host.parse::<IpAddr>() {
            _ if !places.is_empty() => places.join(", "),
            // An address is its own place, before anybody looked at it.
            Ok(address) if declaration.check.is_some() => {
                format!("{} (not checked yet)", SocketAddr::new(address, endpoint.port))
            }
            Ok(address) => SocketAddr::new(address, endpoint.port).to_string(),
            Err(_) => "(not resolved yet)".to_owned(),
        };
        table.row(vec![
            endpoint.host.as_str().into(),
            format!("{}/{protocol}{name}", endpoint.port).into(),
            places.into(),
        ]);
    }
    screen.table(&table)
}
