//! Series of single links, endpoints and clients for `/metrics`, read from the link table when somebody looks: what is gone
//! from the table is gone from the series, and what was never used has none.

use std::cmp::Reverse;
use std::fmt;

use portolan_core::name::ServiceKey;
use portolan_runtime::published::Reader;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

use super::figures::{EndpointStatus, LinkStatus};
use super::table::Table;

/// Links, endpoints and pairs of client and service that have series, each: those with the most connections. A node's clients
/// use some tens; a registry of a Prometheus that scrapes a thousand nodes is not to hold millions.
const SHOWN_MAX: usize = 500;

/// The series of a table.
#[derive(Debug)]
pub(super) struct Series(pub(super) Reader<Table>);

/// The labels of one series.
type Labels = Vec<(&'static str, String)>;

/// What a name stands for: its text for people, and its value for each thing of that kind.
type Figure<T> = (&'static str, &'static str, MetricType, fn(&T) -> u64);

const OF_LINKS: [Figure<LinkStatus>; 5] = [
    ("service_connections", "Connections accepted, by service", MetricType::Counter, |link| link.total),
    ("service_connections_open", "Connections that are open, by service", MetricType::Gauge, |link| link.open as u64),
    ("service_relayed_bytes", "Relayed, both ways, by service", MetricType::Counter, |link| link.bytes),
    ("service_connect_failures", "Attempts that failed, by service", MetricType::Counter, |link| link.failures),
    ("service_refused", "Connections refused for a limit, by service", MetricType::Counter, |link| link.limited),
];

const OF_ENDPOINTS: [Figure<EndpointStatus>; 7] = [
    ("endpoint_connections", "Connections, by endpoint", MetricType::Counter, |endpoint| endpoint.total),
    ("endpoint_connections_open", "Connections that are open, by endpoint", MetricType::Gauge, |endpoint| {
        endpoint.open as u64
    }),
    ("endpoint_relayed_bytes", "Relayed, both ways, by endpoint", MetricType::Counter, |endpoint| endpoint.bytes),
    (
        "endpoint_failures",
        "Connects that failed and connections reset unanswered, by endpoint",
        MetricType::Counter,
        |e| e.failures,
    ),
    ("endpoint_ejections", "Ejections, by endpoint", MetricType::Counter, |endpoint| endpoint.ejections),
    ("endpoint_ejected", "Whether it is ejected, by endpoint", MetricType::Gauge, |endpoint| {
        u64::from(endpoint.ejected_ms > 0)
    }),
    ("endpoint_connect_microseconds", "How long connecting takes, by endpoint", MetricType::Gauge, |endpoint| {
        endpoint.connect_us
    }),
];

impl Collector for Series {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encode(&self.0.peek().status(Instant::now()), encoder)
    }
}

fn encode(links: &[LinkStatus], mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let used = links.iter().filter(|link| link.total > 0).map(|link| (named(&link.service), link, link.total));
    encode_all(&mut encoder, &OF_LINKS, &most(used))?;
    let endpoints = links.iter().flat_map(|link| link.endpoints.iter().map(move |endpoint| (link, endpoint)));
    let used = endpoints.filter(|(_, endpoint)| endpoint.total + endpoint.failures > 0).map(|(link, endpoint)| {
        let mut labels = named(&link.service);
        labels.push(("endpoint", endpoint.address.to_string()));
        labels.push(("protocol", endpoint.protocol.as_str().to_owned()));
        (labels, endpoint, endpoint.total)
    });
    encode_all(&mut encoder, &OF_ENDPOINTS, &most(used))?;
    let pairs = links.iter().flat_map(|link| link.clients.iter().map(move |client| (link, client)));
    let pairs = pairs.map(|(link, client)| {
        let mut labels = named(&link.service);
        let client_of = |part: fn(&ServiceKey) -> String| client.service.as_ref().map(part).unwrap_or_default();
        labels.push(("client_cluster", client_of(|key| key.cluster.to_string())));
        labels.push(("client_service", client_of(|key| key.service.to_string())));
        (labels, &client.total, client.total)
    });
    let of_pairs: [Figure<u64>; 1] =
        [("client_connections", "Connections accepted, by client and service", MetricType::Counter, |total| *total)];
    encode_all(&mut encoder, &of_pairs, &most(pairs))
}

fn named(service: &ServiceKey) -> Labels {
    vec![("cluster", service.cluster.to_string()), ("service", service.service.to_string())]
}

/// Those with the most connections.
fn most<'a, T>(all: impl Iterator<Item = (Labels, &'a T, u64)>) -> Vec<(Labels, &'a T)> {
    let mut all: Vec<_> = all.collect();
    if all.len() > SHOWN_MAX {
        all.sort_by_key(|(_, _, total)| Reverse(*total));
        all.truncate(SHOWN_MAX);
    }
    all.into_iter().map(|(labels, value, _)| (labels, value)).collect()
}

fn encode_all<T>(
    encoder: &mut DescriptorEncoder<'_>,
    figures: &[Figure<T>],
    things: &[(Labels, &T)],
) -> Result<(), fmt::Error> {
    if things.is_empty() {
        return Ok(());
    }
    for (name, help, kind, value) in figures {
        let mut described = encoder.encode_descriptor(name, help, None, *kind)?;
        for (labels, thing) in things {
            let series = described.encode_family(labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value(thing)).encode(series)?,
                _ => ConstGauge::new(value(thing)).encode(series)?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use portolan_core::endpoint::Protocol;
    use portolan_core::name::Label;
    use prometheus_client::registry::Registry;

    use super::super::figures::ClientStatus;
    use super::*;

    fn shown(links: &[LinkStatus]) -> String {
        #[derive(Debug)]
        struct Fixed(Vec<LinkStatus>);
        impl Collector for Fixed {
            fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
                encode(&self.0, encoder)
            }
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Fixed(links.to_vec())));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn link(name: &'static str, total: u64) -> LinkStatus {
        let service = ServiceKey { cluster: Label::fixed("prod"), service: Label::fixed(name) };
        let endpoint = EndpointStatus {
            address: "10.0.0.1:32768".parse().unwrap(),
            protocol: Protocol::Tcp,
            nearness: "az".to_owned(),
            weight: 1,
            open: 1,
            total,
            bytes: 5,
            failures: 2,
            ejections: 1,
            ejected_ms: 10,
            connect_us: 200,
        };
        let clients =
            vec![ClientStatus { service: Some(service.clone()), total: 3 }, ClientStatus { service: None, total: 1 }];
        let (endpoints, clients) = if total > 0 { (vec![endpoint], clients) } else { (Vec::new(), Vec::new()) };
        let (ports, address) = (Vec::new(), [198, 18, 0, 1].into());
        LinkStatus {
            service,
            address,
            plane: None,
            ports,
            endpoints,
            clients,
            open: 1,
            total,
            failures: 2,
            limited: 0,
            bytes: 5,
        }
    }

    #[test]
    fn what_was_used_has_series_and_nothing_else() {
        let text = shown(&[link("a", 4), link("unused", 0)]);
        for expected in [
            r#"service_connections_total{cluster="prod",service="a"} 4"#,
            r#"service_connections_open{cluster="prod",service="a"} 1"#,
            r#"endpoint_connections_total{cluster="prod",service="a",endpoint="10.0.0.1:32768",protocol="tcp"} 4"#,
            r#"endpoint_ejected{cluster="prod",service="a",endpoint="10.0.0.1:32768",protocol="tcp"} 1"#,
            r#"client_connections_total{cluster="prod",service="a",client_cluster="prod",client_service="a"} 3"#,
            r#"client_connections_total{cluster="prod",service="a",client_cluster="",client_service=""} 1"#,
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(!text.contains("unused"), "{text}");
        assert_eq!(text.matches("# TYPE endpoint_connections counter").count(), 1, "{text}");
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let text = shown(&vec![link("a", 4); 2 * SHOWN_MAX]);
        assert_eq!(text.matches("\nendpoint_ejections_total{").count(), SHOWN_MAX);
    }
}
