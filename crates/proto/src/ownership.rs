//! Who owns a host port now: the question that a follower without a registry asks the owner's node, and the answer.

use portolan_core::endpoint::{EndpointKey, Protocol, Run};
use prost::Message;

use crate::node_report::{port_number, protocol_in, protocol_out};
use crate::{FieldError, wire, wrong};

/// How many ports one question is about.
pub const PORTS_MAX: usize = 1_000;

/// The longest question and the longest answer, in octets: a thousand ports of some ninety each.
pub const OCTETS_MAX: usize = 128 * 1024;

/// A port that somebody was told a run of a container has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnedPort {
    /// Docker's id.
    pub container_id: String,
    /// Which run.
    pub run: Run,
    /// The port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port of the host.
    pub host_port: u16,
}

impl OwnedPort {
    /// Of the endpoint `key`, which was told to be at `host_port`.
    pub fn of(key: &EndpointKey, host_port: u16) -> OwnedPort {
        OwnedPort {
            container_id: key.container_id.clone(),
            run: key.run,
            container_port: key.container_port,
            protocol: key.protocol,
            host_port,
        }
    }
}

/// A question as octets.
pub fn question_out(ports: &[OwnedPort]) -> Vec<u8> {
    let port = |port: &OwnedPort| wire::OwnedPort {
        container_id: port.container_id.clone(),
        run: port.run.0,
        container_port: port.container_port.into(),
        protocol: protocol_out(port.protocol).into(),
        host_port: port.host_port.into(),
    };
    wire::OwnsRequest { ports: ports.iter().map(port).collect() }.encode_to_vec()
}

/// A question from octets.
///
/// # Errors
/// The field that cannot be meant. A question is taken whole, because the answer follows its order.
pub fn question_in(octets: &[u8]) -> Result<Vec<OwnedPort>, FieldError> {
    let request = wire::OwnsRequest::decode(octets).map_err(|error| wrong("ports", error))?;
    if request.ports.len() > PORTS_MAX {
        return Err(wrong("ports", format_args!("are {}; at most {PORTS_MAX} are taken", request.ports.len())));
    }
    let port = |port: wire::OwnedPort| {
        Ok(OwnedPort {
            run: Run(port.run),
            container_port: port_number("container_port", port.container_port)?,
            protocol: protocol_in(port.protocol)?,
            host_port: port_number("host_port", port.host_port)?,
            container_id: port.container_id,
        })
    };
    request.ports.into_iter().map(port).collect()
}

/// An answer as octets; `None`: the node does not know its containers yet.
pub fn answer_out(owned: Option<Vec<bool>>) -> Vec<u8> {
    wire::OwnsResponse { is_complete: owned.is_some(), owned: owned.unwrap_or_default() }.encode_to_vec()
}

/// The answer to a question about so many `ports`. `None`: the node does not know, or what it says cannot be meant.
pub fn answer_in(octets: &[u8], ports: usize) -> Option<Vec<bool>> {
    let response = wire::OwnsResponse::decode(octets).ok()?;
    (response.is_complete && response.owned.len() == ports).then_some(response.owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16) -> OwnedPort {
        OwnedPort {
            container_id: "a".repeat(64),
            run: Run(u64::MAX),
            container_port: 65_535,
            protocol: Protocol::Udp,
            host_port: number,
        }
    }

    #[test]
    fn questions_and_answers_come_back_as_they_went() {
        let most: Vec<OwnedPort> = (1..=1_000).map(port).collect();
        let octets = question_out(&most);
        assert!(octets.len() <= OCTETS_MAX, "{}", octets.len());
        assert_eq!(question_in(&octets), Ok(most.clone()));
        assert_eq!(answer_in(&answer_out(Some(vec![true, false])), 2), Some(vec![true, false]));
        assert!(question_in(&question_out(&[&most[..], &[port(1)]].concat())).is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_no_question_and_no_answer() {
        assert!(question_in(&[0xff]).is_err());
        let mut request = wire::OwnsRequest::decode(&question_out(&[port(1)])[..]).unwrap();
        request.ports[0].host_port = 65_536;
        assert!(question_in(&request.encode_to_vec()).is_err());
        for octets in [answer_out(None), answer_out(Some(vec![true])), vec![0xff], Vec::new()] {
            assert_eq!(answer_in(&octets, 2), None, "{octets:?}");
        }
    }
}
