//! What the store should hold of a service and does not: who owns its name, and its link.
//!
//! The catalog only says so. The steward writes it, expecting what the catalog saw, and it comes back by the watch.

use portolan_core::view::LinkMode;

use crate::store::record::{AddressRecord, LinkDecision, LinkRecord, Owner};

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
    /// There is none, or the one there is has nothing left: this one takes over. `since_ms` is the steward's to say.
    Take(Owner),
    /// It should say that the service is empty.
    Emptied,
    /// It should say no longer that the service is empty.
    Filled,
}

/// A virtual address as the store has it.
pub(crate) type RecordedAddress = Recorded<AddressRecord>;
