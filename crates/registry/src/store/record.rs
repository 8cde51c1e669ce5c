//! Our own small values in the store, as JSON with a version.
//!
//! JSON, because a person reads them in an export, and a field that an older version does not know is passed over
//! rather than refused. A node's report is not among them: it is kept as the bytes that came.

use std::net::Ipv4Addr;

use bytes::Bytes;
use portolan_core::name::{Label, ServiceKey};
pub use portolan_core::naming::NameSource;
use portolan_core::view::LinkMode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version that this build writes and reads.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    value: T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// `value` as bytes, no more than it takes: the store's log keeps them.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let versioned = Versioned { v: VERSION, value };
    let bytes = serde_json::to_vec(&versioned).expect("our records hold nothing that JSON cannot");
    bytes.into_boxed_slice().into()
}

/// The value in `bytes`; `None` when it is not one that this version reads.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    // Read twice: what is read as a flattened field is first built as anything it could be, which costs several times as much.
    let Version { v } = serde_json::from_slice(bytes).ok()?;
    if v == VERSION { serde_json::from_slice(bytes).ok() } else { None }
}

/// Whether a node speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The boot id of the sidecar that holds the node's key.
    pub boot_id: String,
    /// Since when it speaks or spoke, Unix milliseconds.
    pub since_ms: u64,
    /// Its silence, if it does not.
    pub silence: Option<Silence>,
}

/// A node's silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// When it fell silent, Unix milliseconds.
    pub since_ms: u64,
    /// Whether its deadline passed.
    pub passage: Option<Passage>,
}

/// The passage of a silence's deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Services whose endpoints here are kept all the same, because too many would go at once.
    pub held: Vec<ServiceKey>,
}

/// Who may use a service's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// By what the name was chosen.
    pub source: NameSource,
    /// The task definition family of the first container, when it had one.
    pub family: Option<Label>,
    /// The ECS service as ECS has it, when the name came from one: two of them may have one label.
    #[serde(default)]
    pub ecs_service: Option<String>,
    /// Since when, Unix milliseconds.
    pub since_ms: u64,
    /// Since when the service has no endpoint, Unix milliseconds.
    pub empty_since_ms: Option<u64>,
}

/// A service's link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Whether its names answer the virtual address.
    pub mode: LinkMode,
    /// By what that was decided.
    pub decided_by: LinkDecision,
    /// Its virtual address. `None`: direct by label before it had one, or none was left.
    pub address: Option<Ipv4Addr>,
    /// Since when, Unix milliseconds.
    pub since_ms: u64,
}

/// What decided a link's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkDecision {
    /// `auto`, at the first endpoint whose host port is dynamic or differs from its container port.
    Auto,
    /// Label `portolan.link`.
    Label,
    /// A sidecar brought it to a registry whose store was empty.
    Adopted,
    /// No virtual address was left.
    Exhausted,
}

/// Whose a virtual address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    /// The service that has or had it.
    pub service: ServiceKey,
    /// When it was freed, Unix milliseconds; `None` while it is in use.
    pub freed_at_ms: Option<u64>,
}

/// Up to which number sessions may have been given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The highest.
    pub reserved: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_version_only_and_passes_over_unknown_fields() {
        let record = SessionRecord { reserved: 7 };
        assert_eq!(&encode(&record)[..], br#"{"v":1,"reserved":7}"#);
        assert_eq!(decode(&encode(&record)), Some(record.clone()));
        assert_eq!(decode(br#"{"v":1,"reserved":7,"new":[]}"#), Some(record));
        assert_eq!(decode::<SessionRecord>(br#"{"v":2,"reserved":7}"#), None);
        assert_eq!(decode::<SessionRecord>(b"\xff"), None);
    }
}
