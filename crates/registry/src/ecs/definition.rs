//! Task definitions: what the registry needs of one, and a bounded cache of them. A revision never changes, so one that was
//! read once is asked for again only after it fell out of the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_core::endpoint::Protocol;
use portolan_core::labels::{self, Declaration};
use portolan_core::name::Label;
use portolan_core::refusal::Refusal;

use super::api::{self, CallError};
use super::facts::{PORTS_MAX, ports, read_protocol};

/// How many are kept. Those of live tasks stay with the tasks, so this is for tasks to come.
const KEPT_MAX: usize = 2_000;
/// How many are asked for at once; more wait until the next listing names them again.
const WANTED_MAX: usize = 10_000;
/// When one that could not be had is asked for again: after a failure; after a denial, which the caller remembers as long, so
/// that many cost one call; when it is not there.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
const AFTER_DENIAL: Duration = Duration::from_secs(30);
const AFTER_ABSENCE: Duration = Duration::from_secs(300);
const CONTAINERS_MAX: usize = 64;
/// Enough to find the mistake.
const REFUSALS_MAX: usize = 8;

/// What is needed of a task definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) mode: Mode,
    /// By their names.
    pub(super) containers: BTreeMap<String, DefinedContainer>,
}

/// Whose network its containers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Docker's bridge; also what ECS calls `default`, which is NAT on Windows.
    Bridge,
    /// The host's.
    Host,
    /// The task's own interface.
    Awsvpc,
    /// None.
    None,
}

/// One container of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DefinedContainer {
    pub(super) declaration: Declaration,
    /// In the order of port and protocol.
    pub(super) mappings: BTreeMap<(u16, Protocol), Mapping>,
    pub(super) refusals: Vec<Refusal>,
}

/// What a port mapping says of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) name: Option<Label>,
    /// `None`: Docker chooses.
    pub(super) host_port: Option<u16>,
}

impl Definition {
    pub(super) fn read(definition: &api::TaskDefinition) -> Definition {
        let mode = match definition.network_mode.as_str() {
            "host" => Mode::Host,
            "awsvpc" => Mode::Awsvpc,
            "none" => Mode::None,
            _ => Mode::Bridge,
        };
        let containers = definition.container_definitions.iter().take(CONTAINERS_MAX);
        Definition { mode, containers: containers.map(|own| (own.name.clone(), read_container(own))).collect() }
    }
}

fn read_container(container: &api::ContainerDefinition) -> DefinedContainer {
    let texts = container.docker_labels.iter().map(|(key, text)| (key.as_str(), text.as_str()));
    let variables: Vec<String> = container.environment.iter().map(|(name, text)| format!("{name}={text}")).collect();
    let declaration = labels::parse(texts, variables.iter().map(String::as_str));
    let (mut mappings, mut refusals) = (BTreeMap::new(), Vec::new());
    for mapping in &container.port_mappings {
        // A port without its name is better than none.
        let name = match mapping.name.as_deref().filter(|name| !name.is_empty()).map(Label::sanitise).transpose() {
            Ok(name) => name,
            Err(error) => {
                refusals.push(Refusal::new("port mapping", format!("its name {error}")));
                None
            }
        };
        if let Err(reason) = read_mapping(mapping, name.as_ref(), &mut mappings) {
            refusals.push(Refusal::new("port mapping", reason));
        }
    }
    refusals.truncate(REFUSALS_MAX);
    DefinedContainer { declaration, mappings, refusals }
}

fn read_mapping(
    mapping: &api::PortMapping,
    name: Option<&Label>,
    into: &mut BTreeMap<(u16, Protocol), Mapping>,
) -> Result<(), String> {
    let protocol = read_protocol(&mapping.protocol)?;
    let host_port = mapping.host_port.filter(|port| *port != 0);
    // One name cannot be that of many ports.
    for (at, port) in ports(mapping.container_port, mapping.container_port_range.as_deref())?.into_iter().enumerate() {
        let name = name.filter(|_| at == 0);
        if into.len() >= PORTS_MAX {
            return Err(format!("more than {PORTS_MAX} ports"));
        }
        into.entry((port, protocol)).or_insert_with(|| Mapping { name: name.cloned(), host_port });
    }
    Ok(())
}

/// What is known of a task's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// It is being asked for.
    NotYet,
    /// This.
    Read(Arc<Definition>),
    /// It cannot be had: the task is told without it.
    Refused,
}

/// The cache.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    read: BTreeMap<String, (Arc<Definition>, u64)>,
    /// Counts uses, for the order of the cache.
    uses: u64,
    wanted: BTreeSet<String>,
    /// Those that could not be had: until when they are left alone, Unix milliseconds, and whether they were refused.
    failed: BTreeMap<String, (u64, bool)>,
}

impl Definitions {
    /// What is known of `arn`. What is not is asked for.
    pub(super) fn find(&mut self, arn: &str, now_ms: u64) -> Known {
        self.uses += 1;
        if let Some((definition, used)) = self.read.get_mut(arn) {
            *used = self.uses;
            return Known::Read(definition.clone());
        }
        let (until_ms, is_refused) = self.failed.get(arn).copied().unwrap_or((0, false));
        if now_ms >= until_ms && self.wanted.len() < WANTED_MAX {
            self.wanted.insert(arn.to_owned());
        }
        if is_refused { Known::Refused } else { Known::NotYet }
    }

    /// What is known of `arn`, without asking.
    pub(super) fn peek(&self, arn: &str) -> Known {
        self.read.get(arn).map_or(Known::NotYet, |(definition, _)| Known::Read(definition.clone()))
    }

    /// One to ask for now.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<String> {
        let due = |arn: &&String| self.failed.get(*arn).is_none_or(|(until_ms, _)| now_ms >= *until_ms);
        let arn = self.wanted.iter().find(due).cloned()?;
        self.wanted.remove(&arn);
        Some(arn)
    }

    /// It came.
    pub(super) fn learn(&mut self, arn: &str, definition: &api::TaskDefinition) {
        self.failed.remove(arn);
        // A task that was heard of while it was asked for wanted it again.
        self.wanted.remove(arn);
        self.uses += 1;
        self.read.insert(arn.to_owned(), (Arc::new(Definition::read(definition)), self.uses));
        if self.read.len() > KEPT_MAX {
            let oldest = self.read.iter().min_by_key(|(_, (_, used))| *used).map(|(arn, _)| arn.clone());
            oldest.map(|arn| self.read.remove(&arn));
        }
    }

    /// It did not come. Whether [`Definitions::find`] says something else of it now.
    pub(super) fn miss(&mut self, arn: &str, error: &CallError, now_ms: u64) -> bool {
        let (wait, is_refused) = match error {
            CallError::Denied { .. } => (AFTER_DENIAL, true),
            CallError::NotFound { .. } => (AFTER_ABSENCE, true),
            CallError::Throttled { .. } | CallError::Failed { .. } => (AFTER_FAILURE, false),
        };
        let until_ms = now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        if self.failed.len() >= WANTED_MAX {
            self.failed.pop_first();
        }
        let before = self.failed.insert(arn.to_owned(), (until_ms, is_refused));
        if self.wanted.len() < WANTED_MAX {
            self.wanted.insert(arn.to_owned());
        }
        before.is_some_and(|(_, was_refused)| was_refused) != is_refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arn(number: usize) -> String {
        format!("arn:aws:ecs:eu-west-1:1:task-definition/web:{number}")
    }

    #[test]
    fn asks_once_keeps_what_came_and_forgets_what_was_used_longest_ago() {
        let mut definitions = Definitions::default();
        assert_eq!(definitions.find(&arn(0), 1), Known::NotYet);
        assert_eq!(definitions.find(&arn(0), 1), Known::NotYet);
        assert_eq!(definitions.next(1), Some(arn(0)));
        assert_eq!(definitions.next(1), None);
        assert_eq!(definitions.find(&arn(0), 1), Known::NotYet, "it is being asked for");
        for number in 0..=KEPT_MAX {
            definitions.learn(&arn(number), &api::TaskDefinition::default());
            assert!(matches!(definitions.find(&arn(0), 1), Known::Read(_)));
            assert_eq!(definitions.next(1), None, "what came is not asked for again");
        }
        assert_eq!(definitions.find(&arn(1), 1), Known::NotYet);
        assert_eq!(definitions.next(1), Some(arn(1)));
    }

    #[test]
    fn waits_after_a_failure_and_goes_without_after_a_refusal() {
        let mut definitions = Definitions::default();
        definitions.find(&arn(0), 0);
        definitions.next(0);
        assert!(!definitions.miss(&arn(0), &CallError::Failed { action: "x", message: String::new() }, 0));
        assert_eq!((definitions.next(9_999), definitions.find(&arn(0), 9_999)), (None, Known::NotYet));
        assert_eq!(definitions.next(10_000), Some(arn(0)));
        assert!(definitions.miss(&arn(0), &CallError::Denied { action: "x", message: String::new() }, 10_000));
        assert_eq!((definitions.find(&arn(0), 10_001), definitions.next(10_001)), (Known::Refused, None));
        assert_eq!(definitions.next(40_000), Some(arn(0)));
        let is_news = definitions.miss(&arn(0), &CallError::NotFound { action: "x", message: String::new() }, 40_000);
        assert_eq!((is_news, definitions.find(&arn(0), 40_001)), (false, Known::Refused));
        assert_eq!((definitions.next(339_999), definitions.next(340_000)), (None, Some(arn(0))));
    }
}
