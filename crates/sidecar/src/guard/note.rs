//! What the kernel keeps with a closed port, so that the next sidecar knows whose it was: text that a person can read as well.
//!
//! `portolan: production/elasticsearch had it as port 9200 of 0123456789ab, run 1732243123000000000`, and `, it seems` where
//! only the registry knows the service.

use portolan_core::endpoint::Run;
use portolan_core::name::{Label, ServiceKey};

use super::ports::Occupant;

/// As much of a container's id as people see.
const ID_DIGITS: usize = 12;
const UNCERTAIN: &str = ", it seems";

pub(super) fn write(was: &Occupant) -> String {
    let Occupant { service, container_id, run, container_port, .. } = was;
    let id = container_id.get(..ID_DIGITS).unwrap_or(container_id);
    let end = if was.is_certain { "" } else { UNCERTAIN };
    let (cluster, service) = (&service.cluster, &service.service);
    format!("portolan: {cluster}/{service} had it as port {container_port} of {id}, run {}{end}", run.0)
}

/// `None`: it is no note of ours.
pub(super) fn read(note: &str) -> Option<Occupant> {
    let rest = note.strip_prefix("portolan: ")?;
    let (rest, is_certain) = rest.strip_suffix(UNCERTAIN).map_or((rest, true), |rest| (rest, false));
    let (name, rest) = rest.split_once(" had it as port ")?;
    let (port, rest) = rest.split_once(" of ")?;
    let (id, run) = rest.split_once(", run ")?;
    let (cluster, service) = name.split_once('/')?;
    let label = |text: &str| Label::parse(text).ok();
    Some(Occupant {
        service: ServiceKey { cluster: label(cluster)?, service: label(service)? },
        is_certain,
        container_id: Some(id).filter(|id| !id.is_empty())?.to_owned(),
        run: Run(run.parse().ok()?),
        container_port: port.parse().ok()?,
        was_announced: true,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label(text: &str) -> Label {
        Label::parse(text).unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_anything_else_is_not_ours() {
        let longest = "a".repeat(63);
        for (cluster, service, is_certain) in [("prod", "db-1", true), (&longest, &longest, false)] {
            let was = Occupant {
                service: ServiceKey { cluster: label(cluster), service: label(service) },
                is_certain,
                container_id: "0123456789ab".to_owned(),
                run: Run(u64::MAX),
                container_port: 65_535,
                was_announced: true,
            };
            let note = write(&was);
            assert!(note.len() <= 250, "{} octets", note.len());
            assert_eq!(read(&note), Some(was));
        }
        for bad in ["", "portolan: ", "portolan: a/b had it as port x of c, run 1", "a/b had it as port 1 of c, run 1"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".*") {
            read(&text);
            read(&format!("portolan: {text}"));
        }
    }
}
