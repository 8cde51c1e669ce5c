//! The sidecar and the registry: are they there, and would they answer well.

use portolan_registry::http::api::{AwsDenied, Status};

use super::Check;
use crate::arguments::Common;
use crate::client::{Answer, Client, ClientError};
use crate::commands::Failure;
use crate::locate::{self, Registry, SidecarStatus};
use crate::show;

/// Where nobody says which zone it is.
const ZONE_DEFAULT: &str = "ecs.internal.";

/// What was found of both.
pub(super) struct Programs {
    /// The sidecar of this machine.
    pub(super) sidecar: Option<SidecarStatus>,
    /// The registry that would be asked, and what it says.
    registry: Registry,
    status: Result<Answer<Status>, ClientError>,
    /// The zone.
    pub(super) zone: String,
}

/// Asks both.
pub(super) async fn look(client: &Client, common: &Common) -> Result<Programs, Failure> {
    // An address that is none is the command line's fault, and no finding.
    locate::sidecar(common)?;
    let sidecar = locate::sidecar_status(client, common).await;
    let registry = locate::registry(client, common).await?;
    let status = client.get::<Status>(&registry.server, "/api/status").await;
    let zone = status.as_ref().map_or(ZONE_DEFAULT, |answer| answer.value.zone.as_str()).to_owned();
    Ok(Programs { sidecar, registry, status, zone })
}

impl Programs {
    /// Whether a registry answers.
    pub(super) fn has_registry(&self) -> bool {
        self.status.is_ok()
    }

    /// Both as checks, and what AWS denies the registry.
    pub(super) fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.sidecar_check(), self.registry_check()];
        checks.extend(self.sidecar.as_ref().and_then(plane_check));
        let aws = self.status.iter().filter_map(|answer| answer.value.aws.as_ref());
        checks.extend(aws.flat_map(|aws| &aws.denied).map(denied_check));
        checks
    }

    fn sidecar_check(&self) -> Check {
        let Some(sidecar) = &self.sidecar else {
            let fix = "start `portolan-sidecar`, or `portolan dev` on a single machine; `--sidecar URL` names another address";
            return Check::failed("sidecar", "none answers on this machine", fix);
        };
        let found = format!("version {}, node {}, view {}", sidecar.version, sidecar.node, sidecar.readiness);
        if let Some(reason) = &sidecar.refused {
            return Check::failed("sidecar", format!("the registry refuses this node: {reason}"), "mend what it names");
        }
        if !sidecar.is_registry_connected {
            let fix = "see whether the registry runs, and setting `registry` of the sidecar";
            return Check::warning("sidecar", format!("{found}, no registry hears it"), fix);
        }
        if sidecar.dns.is_none() || !sidecar.has_links {
            let lacks = if sidecar.dns.is_none() { "no DNS for containers" } else { "no links" };
            let fix = "run it as root or with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE, on the host's network; its log says more";
            return Check::warning("sidecar", format!("{found}, {lacks}"), fix);
        }
        Check::ok("sidecar", found)
    }

    fn registry_check(&self) -> Check {
        let place = format!("{} ({})", self.registry.server, self.registry.how.text());
        match &self.status {
            Ok(answer) if answer.value.readiness == "loading" => {
                let fix = "wait a moment; if it stays so, its log says why";
                Check::failed("registry", format!("{place} has not loaded its store"), fix)
            }
            Ok(answer) => {
                let status = &answer.value;
                let known = format!("{} services, {} nodes", status.services, status.nodes);
                Check::ok("registry", format!("{place}, version {}, {}, {known}", status.version, status.readiness))
            }
            Err(error) => {
                let fix = "start `portolan-registry`, or name one by `--registry URL` or PORTOLAN_REGISTRY";
                Check::failed("registry", format!("{place}: {}", show::chain(error)), fix)
            }
        }
    }
}

/// Whether the kernel leads what it was asked to lead; nothing where nobody asked.
fn plane_check(sidecar: &SidecarStatus) -> Option<Check> {
    match (&sidecar.ebpf_problem, sidecar.ebpf_services) {
        (Some(problem), _) => {
            let fix = "mend what it names; until then these services go through the relay";
            Some(Check::warning("plane ebpf", problem, fix))
        }
        (None, 0) => None,
        (None, count) => Some(Check::ok("plane ebpf", format!("the kernel leads {count} services"))),
    }
}

/// The registry's role is not the one that this command runs as, and only the registry takes messages from its queue.
fn denied_check(denied: &AwsDenied) -> Check {
    let AwsDenied { action, without, .. } = denied;
    let fix = format!("allow `{action}` to the registry's role; it heals by itself");
    Check::warning("registry's rights", format!("`{action}` is denied: {without}"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn a_plane_that_cannot_be_had_is_a_warning_with_the_reason() {
        let check = |ebpf_services, problem: Option<&str>| {
            let ebpf_problem = problem.map(str::to_owned);
            plane_check(&SidecarStatus { ebpf_services, ebpf_problem, ..SidecarStatus::default() })
        };
        assert_eq!(check(0, None), None, "nobody asked for it");
        assert_eq!(check(2, None).map(|check| check.outcome), Some(Outcome::Ok));
        let denied = check(0, Some("no cgroup")).map(|check| (check.outcome, check.found));
        assert_eq!(denied, Some((Outcome::Warning, "no cgroup".to_owned())));
    }

    #[test]
    fn what_the_registry_may_not_is_a_warning_that_names_it() {
        let denied = AwsDenied {
            action: "sqs:ReceiveMessage".to_owned(),
            since: "2026-01-02T03:04:05Z".to_owned(),
            without: "changes are seen by listing alone".to_owned(),
            message: "no".to_owned(),
        };
        let check = denied_check(&denied);
        let expected = "`sqs:ReceiveMessage` is denied: changes are seen by listing alone";
        assert_eq!((check.outcome, check.found.as_str()), (Outcome::Warning, expected));
        assert!(check.fix.is_some_and(|fix| fix.contains("allow `sqs:ReceiveMessage`")));
    }
}
