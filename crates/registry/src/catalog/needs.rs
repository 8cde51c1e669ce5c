//! What the store should hold and does not: who owns a service's name, its link, and the names that containers keep.
//!
//! The catalog only says so. The steward writes it, expecting what the catalog saw, and it comes back by the watch.

use portolan_core::name::Label;
use portolan_core::view::LinkMode;

use super::weigh::Weighed;
use crate::store::evidence::NameRecord;
use crate::store::record::{AddressRecord, LinkDecision, LinkRecord, NameSource, Owner};

/// A record and the revision that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded<T> {
    pub(crate) revision: u64,
    pub(crate) value: T,
}

/// What is stored of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) owner: Option<Recorded<Owner>>,
    pub(crate) link: Option<Recorded<LinkRecord>>,
}

/// What should be stored of a service instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// What the store held when this was found out.
    pub(crate) records: Records,
    /// The owner it should have.
    pub(crate) owner: Option<OwnerNeed>,
    /// The link it should have.
    pub(crate) link: Option<(LinkMode, LinkDecision)>,
}

/// What is wrong with the owner record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnerNeed {
    /// There is none, or the one there is has nothing left: this one takes over, once the steward finds that it waited
    /// long enough. `since_ms` is the steward's to say.
    Take(Owner),
    /// It should say that the service is empty.
    Emptied,
    /// It should say no longer that the service is empty.
    Filled,
}

/// Names that the store should hold of the containers of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NameNeeds {
    /// Those to store now, with the containers' ids.
    pub(crate) given: Vec<(String, NameRecord)>,
    /// Those of containers that ECS has not told of, to store once they have waited long enough: id, since when in Unix
    /// milliseconds, name.
    pub(crate) waiting: Vec<(String, u64, NameRecord)>,
    /// Ids of the tasks, with their clusters, that ECS has not told of and that containers are to be named by.
    pub(crate) tasks: Vec<(Label, String)>,
}

/// Who asks for a service's name.
#[derive(Clone, Copy)]
pub(super) struct Claimants<'a> {
    /// Containers, and declared endpoints.
    pub(super) weighed: &'a [Weighed<'a>],
    /// Whether an operator declared the service, found or not.
    pub(super) is_declared: bool,
}

/// A virtual address as the store has it.
pub(crate) type RecordedAddress = Recorded<AddressRecord>;

/// What the store should hold of a service of which this was found out.
pub(super) fn of(claimants: Claimants<'_>, records: &Records) -> Option<Need> {
    let owner = owner_need(claimants, records);
    let stored = records.owner.as_ref().map(|owner| owner.value.clone());
    let owning = match &owner {
        Some(OwnerNeed::Take(owner)) => Some(owner.clone()),
        Some(OwnerNeed::Emptied | OwnerNeed::Filled) | None => stored,
    };
    let link = owning.and_then(|owning| link_need(claimants.weighed, &owning, records));
    let is_needed = owner.is_some() || link.is_some();
    is_needed.then(|| Need { records: records.clone(), owner, link })
}

/// The owner by declaration, else by the container that runs longest; among equals by the order of the keys.
pub(super) fn earliest(claimants: Claimants<'_>) -> Option<Owner> {
    if claimants.is_declared {
        return Some(declared());
    }
    let live = claimants.weighed.iter().filter(|w| w.is_live());
    live.min_by_key(|w| (w.candidate.key.run, &w.candidate.key)).map(Weighed::owner)
}

/// The owner of a service that an operator declared.
pub(super) fn declared() -> Owner {
    Owner { source: NameSource::External, family: None, ecs_service: None, since_ms: 0, empty_since_ms: None }
}

/// Whether `claim` may use a name that belongs to `owner`: it comes from the same ECS service or family, or was chosen the
/// same way. Names by label are chosen by a person, so those join whatever else asks by label. Of two ECS services that
/// have one label neither is the other, whatever family they run.
pub(super) fn may_join(owner: &Owner, claim: &Owner) -> bool {
    if let (Some(owning), Some(claiming)) = (&owner.ecs_service, &claim.ecs_service) {
        return owning == claiming;
    }
    let is_same_family = owner.family.is_some() && owner.family == claim.family;
    is_same_family || rank(owner.source) == rank(claim.source)
}

fn rank(source: NameSource) -> u8 {
    match source {
        NameSource::Label | NameSource::RegistratorPort | NameSource::Registrator => 0,
        NameSource::EcsService => 1,
        NameSource::Compose => 2,
        NameSource::Family => 3,
        NameSource::Container => 4,
        NameSource::External => 5,
    }
}

fn owner_need(claimants: Claimants<'_>, records: &Records) -> Option<OwnerNeed> {
    let Some(stored) = &records.owner else { return earliest(claimants).map(OwnerNeed::Take) };
    let is_used = claimants.weighed.iter().any(|w| w.is_live() && may_join(&stored.value, &w.owner()))
        || claimants.is_declared && may_join(&stored.value, &declared());
    match (is_used, earliest(claimants), stored.value.empty_since_ms) {
        (true, _, Some(_)) => Some(OwnerNeed::Filled),
        (true, _, None) | (false, None, Some(_)) => None,
        (false, Some(next), Some(_)) => Some(OwnerNeed::Take(next)),
        (false, _, None) => Some(OwnerNeed::Emptied),
    }
}

fn link_need(weighed: &[Weighed<'_>], owner: &Owner, records: &Records) -> Option<(LinkMode, LinkDecision)> {
    let live: Vec<_> = weighed.iter().filter(|w| w.is_live() && may_join(owner, &w.owner())).collect();
    let labelled = live.iter().filter_map(|w| Some((&w.candidate.key, w.claim.container.link.mode?)));
    // Containers that disagree: the youngest run is what its owner meant last.
    let label = labelled.max_by_key(|(key, _)| (key.run, *key)).map(|(_, mode)| mode);
    let stored = records.link.as_ref().map(|link| (link.value.mode, link.value.decided_by));
    let is_moved = |w: &&Weighed<'_>| w.claim.port().is_some_and(|p| p.is_dynamic || p.host_port != p.container_port);
    match (label, stored) {
        (_, Some((_, LinkDecision::Exhausted))) => None,
        (Some(wish), Some((mode, _))) if wish == mode => None,
        (Some(wish), _) => Some((wish, LinkDecision::Label)),
        (None, None | Some((LinkMode::Direct, _))) => {
            live.iter().any(is_moved).then_some((LinkMode::Vip, LinkDecision::Auto))
        }
        (None, Some((LinkMode::Vip, _))) => None,
    }
}
