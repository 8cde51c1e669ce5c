//! Probes: where a registry asks a node to try a connection, and what the node met there.

use std::net::SocketAddr;

use portolan_core::neighbours::Met;

use crate::node_report::port_number;
use crate::{FieldError, wire, wrong};

/// The name under which a sidecar says that it can be asked. One that does not is never asked.
pub const FEATURE: &str = "probe";

/// The most targets of one probe.
pub const TARGETS_MAX: usize = 256;

/// The most controls of one probe.
pub const CONTROLS_MAX: usize = 4;

/// Connections to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Returned with the result.
    pub id: u64,
    /// The places in question, at most [`TARGETS_MAX`].
    pub targets: Vec<SocketAddr>,
    /// Endpoints of nodes that speak, at most [`CONTROLS_MAX`].
    pub controls: Vec<SocketAddr>,
}

/// What the node met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// The probe's.
    pub id: u64,
    /// In the order of the targets. Of those that are missing nothing is known.
    pub met: Vec<Met>,
    /// Whether any control was reached.
    pub is_control_reached: bool,
}

/// A probe, to the wire.
pub fn probe_out(probe: &Probe) -> wire::Probe {
    let places = |places: &[SocketAddr]| places.iter().map(place_out).collect();
    wire::Probe { id: probe.id, targets: places(&probe.targets), controls: places(&probe.controls) }
}

/// A probe, from the wire.
///
/// # Errors
/// The field that cannot be meant. A probe is taken whole, because results follow its order.
pub fn probe_in(probe: wire::Probe) -> Result<Probe, FieldError> {
    Ok(Probe {
        id: probe.id,
        targets: places_in("targets", TARGETS_MAX, &probe.targets)?,
        controls: places_in("controls", CONTROLS_MAX, &probe.controls)?,
    })
}

/// A result, to the wire.
pub fn result_out(result: &ProbeResult) -> wire::ProbeResult {
    let met = result.met.iter().map(|met| met_out(*met).into()).collect();
    wire::ProbeResult { id: result.id, met, is_control_reached: result.is_control_reached }
}

/// A result, from the wire. A word that this version does not know says nothing.
pub fn result_in(result: &wire::ProbeResult) -> ProbeResult {
    let met = result.met.iter().take(TARGETS_MAX).map(|met| met_in(*met)).collect();
    ProbeResult { id: result.id, met, is_control_reached: result.is_control_reached }
}

fn place_out(place: &SocketAddr) -> wire::Place {
    wire::Place { address: place.ip().to_string(), port: place.port().into() }
}

fn places_in(field: &'static str, places_max: usize, places: &[wire::Place]) -> Result<Vec<SocketAddr>, FieldError> {
    if places.len() > places_max {
        return Err(wrong(field, format_args!("has {} places; at most {places_max} are taken", places.len())));
    }
    let place = |place: &wire::Place| {
        let address = place.address.parse().map_err(|_| wrong(field, "has a place without an IP address"))?;
        Ok(SocketAddr::new(address, port_number(field, place.port)?))
    };
    places.iter().map(place).collect()
}

fn met_out(met: Met) -> wire::Met {
    match met {
        Met::Connected => wire::Met::Connected,
        Met::Refused => wire::Met::Refused,
        Met::TimedOut => wire::Met::TimedOut,
        Met::Unreachable => wire::Met::Unreachable,
        Met::Nothing => wire::Met::Unspecified,
    }
}

fn met_in(met: i32) -> Met {
    match wire::Met::try_from(met).unwrap_or_default() {
        wire::Met::Connected => Met::Connected,
        wire::Met::Refused => Met::Refused,
        wire::Met::TimedOut => Met::TimedOut,
        wire::Met::Unreachable => Met::Unreachable,
        wire::Met::Unspecified => Met::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        let targets = ["10.0.0.1:80", "[2001:db8::1]:65535"].map(|place| place.parse().unwrap());
        Probe { id: 7, targets: targets.to_vec(), controls: vec!["10.0.0.2:1".parse().unwrap()] }
    }

    #[test]
    fn both_survive_the_wire() {
        assert_eq!(probe_in(probe_out(&probe())).unwrap(), probe());
        let met = vec![Met::Connected, Met::Refused, Met::TimedOut, Met::Unreachable, Met::Nothing];
        let result = ProbeResult { id: 7, met, is_control_reached: true };
        assert_eq!(result_in(&result_out(&result)), result);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_field() {
        let check = |change: fn(&mut wire::Probe), field: &str| {
            let mut sent = probe_out(&probe());
            change(&mut sent);
            assert_eq!(probe_in(sent).unwrap_err().field, field);
        };
        check(|probe| probe.targets[0].address = "localhost".to_owned(), "targets");
        check(|probe| probe.targets[1].port = 70_000, "targets");
        check(|probe| probe.targets = vec![probe.targets[0].clone(); TARGETS_MAX + 1], "targets");
        check(|probe| probe.controls[0].address.clear(), "controls");
        check(|probe| probe.controls = vec![probe.controls[0].clone(); CONTROLS_MAX + 1], "controls");
    }

    #[test]
    fn an_unknown_word_says_nothing() {
        let sent = wire::ProbeResult { id: 1, met: vec![1, 99, 2], is_control_reached: false };
        assert_eq!(result_in(&sent).met, [Met::Connected, Met::Nothing, Met::Refused]);
    }
}
