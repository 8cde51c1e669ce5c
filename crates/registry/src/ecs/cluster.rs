//! One cluster that the settings name, and how its events are told from those of others.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use portolan_core::name::{Label, cluster_label};
use portolan_core::refusal::shown;

/// How long after its last event a cluster still counts as one whose events come, milliseconds.
const EVENTS_FLOW_FOR_MS: u64 = 600_000;

/// A cluster as set.
#[derive(Debug)]
pub(super) struct Configured {
    /// A name or an ARN, as AWS is asked.
    pub(super) name: String,
    pub(super) label: Label,
    arn: OnceLock<String>,
    event_ms: AtomicU64,
}

impl Configured {
    /// # Errors
    /// When it is no cluster, in words for whoever set it.
    pub(super) fn parse(text: &str) -> Result<Configured, String> {
        let name = text.trim();
        let label = cluster_label(name).map_err(|error| format!("`{}` {error}", shown(name, 80)))?;
        let arn = OnceLock::new();
        if name.starts_with("arn:") {
            arn.get_or_init(|| name.to_owned());
        }
        Ok(Configured { name: name.to_owned(), label, arn, event_ms: AtomicU64::new(0) })
    }

    pub(super) fn arn(&self) -> Option<String> {
        self.arn.get().cloned()
    }

    /// Its ARN, or its name as long as that is not known.
    pub(super) fn known_as(&self) -> String {
        self.arn().unwrap_or_else(|| self.name.clone())
    }

    /// AWS says that this is its ARN.
    pub(super) fn learn_arn(&self, arn: &str) {
        self.arn.get_or_init(|| arn.to_owned());
    }

    /// Whether an ARN is this cluster's: by the whole of it where that is known, else by the name.
    pub(super) fn is(&self, cluster_arn: &str) -> bool {
        match self.arn.get() {
            Some(own) => own == cluster_arn,
            None => cluster_arn.rsplit_once(":cluster/").is_some_and(|(_, name)| name == self.name),
        }
    }

    /// An event of it came.
    pub(super) fn event_came(&self, now_ms: u64) {
        self.event_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether events of it came lately.
    pub(super) fn has_events(&self, now_ms: u64) -> bool {
        let at_ms = self.event_ms.load(Ordering::Relaxed);
        at_ms != 0 && now_ms.saturating_sub(at_ms) < EVENTS_FLOW_FOR_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_arn() {
        let prod = "arn:aws:ecs:eu-west-1:1:cluster/Prod";
        let elsewhere = "arn:aws:ecs:us-east-1:1:cluster/Prod";
        let by_name = Configured::parse(" Prod ").unwrap();
        assert_eq!(by_name.label.as_str(), "prod");
        assert!(by_name.is(prod) && by_name.is(elsewhere) && !by_name.is("arn:aws:ecs:eu-west-1:1:cluster/prod"));
        by_name.learn_arn(prod);
        assert!(by_name.is(prod) && !by_name.is(elsewhere));
        let by_arn = Configured::parse(prod).unwrap();
        assert!(by_arn.is(prod) && !by_arn.is(elsewhere) && by_arn.label == by_name.label);
        assert!(Configured::parse("addr").is_err() && Configured::parse("").is_err());
    }
}
