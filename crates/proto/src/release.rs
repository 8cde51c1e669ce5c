//! The registry's word that nobody is led to a former endpoint any more, so that its host port may go to another service.

use portolan_core::endpoint::{EndpointKey, Protocol, Run};

use crate::node_report::{protocol_in, protocol_out};
use crate::wire;

/// A sidecar with it keeps freed host ports closed, and is told when they may open.
pub const FEATURE: &str = "release";

/// A follower with it says of every update when it is in use there.
pub const FEATURE_APPLIED: &str = "applied";

/// How many endpoints one message names.
pub const ENDPOINTS_MAX: usize = 1_000;

/// A former endpoint of the node that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Docker's id.
    pub container_id: String,
    /// Which run.
    pub run: Run,
    /// The port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The only one that may have its host port, as it is of the same service; else anybody.
    pub heir: Option<Heir>,
}

/// A run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heir {
    /// Docker's id.
    pub container_id: String,
    /// Which run.
    pub run: Run,
}

impl Released {
    /// The word about `key`.
    pub fn of(key: &EndpointKey, heir: Option<Heir>) -> Released {
        Released {
            container_id: key.container_id.clone(),
            run: key.run,
            container_port: key.container_port,
            protocol: key.protocol,
            heir,
        }
    }
}

/// As a message.
pub fn released_out(released: &[Released]) -> wire::Released {
    let endpoint = |released: &Released| wire::ReleasedEndpoint {
        container_id: released.container_id.clone(),
        run: released.run.0,
        container_port: released.container_port.into(),
        protocol: protocol_out(released.protocol).into(),
        heir_container_id: released.heir.as_ref().map(|heir| heir.container_id.clone()).unwrap_or_default(),
        heir_run: released.heir.as_ref().map_or(0, |heir| heir.run.0),
    };
    wire::Released { endpoints: released.iter().map(endpoint).collect() }
}

/// From a message. What cannot be meant is left out: the ports of those open by time.
pub fn released_in(message: wire::Released) -> Vec<Released> {
    let endpoint = |endpoint: wire::ReleasedEndpoint| {
        let heir = Heir { container_id: endpoint.heir_container_id, run: Run(endpoint.heir_run) };
        Some(Released {
            protocol: protocol_in(endpoint.protocol).ok()?,
            container_port: u16::try_from(endpoint.container_port).ok()?,
            run: Run(endpoint.run),
            container_id: endpoint.container_id,
            heir: Some(heir).filter(|heir| !heir.container_id.is_empty()),
        })
    };
    message.endpoints.into_iter().take(ENDPOINTS_MAX).filter_map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_went_and_loses_what_cannot_be_meant() {
        let heir = Heir { container_id: "b".repeat(64), run: Run(8) };
        let released = |protocol, heir| Released {
            container_id: "a".repeat(64),
            run: Run(7),
            container_port: 9200,
            protocol,
            heir,
        };
        let all = [released(Protocol::Tcp, None), released(Protocol::Udp, Some(heir))];
        assert_eq!(released_in(released_out(&all)), all);
        let mut message = released_out(&all);
        message.endpoints[0].container_port = 65_536;
        message.endpoints[1].protocol = 9;
        assert_eq!(released_in(message), []);
    }
}
