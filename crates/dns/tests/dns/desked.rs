//! A server and one worker's desk, asked without sockets: by anybody, at any time, as often as one likes.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use portolan_core::view::View;
use portolan_dns::gate::{Beginning, Gate, GateSettings};
use portolan_dns::server::{Desk, Packet, Role, Server, Step};
use portolan_dns::wire::Transport;
use portolan_runtime::published::published;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::fixture;
use crate::served::query;

/// A service with one IPv4 address.
pub(crate) const NAME: &str = "web.prod.ecs.internal.";

/// A gate with a secret that is none.
pub(crate) fn gate(settings: GateSettings) -> Gate {
    Gate::new(settings, [7; 32], Beginning { at: Instant::now(), unix_seconds: 1_700_000_000 })
}

/// The server and the desk.
pub(crate) struct Desked {
    pub(crate) server: Server,
    desk: Desk,
    metrics: Registry,
    start: Instant,
}

impl Desked {
    /// A registry with that view.
    pub(crate) fn of(view: View) -> Desked {
        let mut desked = Desked::registry(None);
        desked.server.view = published(view).1;
        desked
    }

    pub(crate) fn new(role: Role, allow: Option<&str>, answers_per_second: u32) -> Desked {
        let mut metrics = Registry::default();
        let allow = allow.map(|networks| networks.split(',').map(|network| network.parse().unwrap()).collect());
        let server = Server {
            view: published(fixture::view()).1,
            authority: fixture::authority(),
            role,
            gate: gate(GateSettings { allow, answers_per_second }),
            metrics: portolan_dns::metrics::Metrics::new(&mut metrics),
        };
        Desked { server, desk: Desk::new(1), metrics, start: Instant::now() }
    }

    /// With the usual limit.
    pub(crate) fn registry(allow: Option<&str>) -> Desked {
        Desked::new(Role::Registry, allow, 200)
    }

    /// What comes back at once; `None` for silence.
    pub(crate) fn ask(&mut self, (peer, way): (&str, Transport), octets: &[u8], after: Duration) -> Option<Vec<u8>> {
        let peer: IpAddr = peer.parse().unwrap();
        let packet = Packet { octets, peer, transport: way, at: self.start + after };
        let mut reply = Vec::new();
        let step = match way {
            Transport::Udp => self.server.begin_at(&mut self.desk, packet, &mut reply),
            Transport::Tcp => self.server.begin(packet, &mut reply),
        };
        match step {
            Step::Send => Some(reply),
            Step::Drop => None,
            Step::Wait(_) => panic!("nothing here has to wait"),
        }
    }

    /// The code that `peer` gets for [`NAME`].
    pub(crate) fn code(&mut self, peer: &str, way: Transport) -> ResponseCode {
        let asked = query(NAME, "A").to_vec().unwrap();
        Message::from_vec(&self.ask((peer, way), &asked, Duration::ZERO).unwrap()).unwrap().metadata.response_code
    }

    /// The metrics.
    pub(crate) fn shown(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        text
    }
}
