//! The wire between sidecar and registry: the messages, and their conversion to and from the values of the core.
//!
//! - [`wire`]: the generated bindings. They never travel inward.
//! - [`node_report`]: a node's evidence as bytes.
//! - [`exchange`]: directories, service sets and their digests.
//! - [`ownership`]: who owns a host port now, asked by one node of another.
//! - [`probe`]: where a node is asked to try a connection, and what it met.
//! - [`release`]: which former endpoints nobody is led to any more.
//!
//! What comes from the wire is input: a value that cannot be meant is refused with its field, and the rest goes on.

use portolan_core::refusal::shown;

pub mod exchange;
pub mod node_report;
pub mod ownership;
pub mod probe;
pub mod release;

/// The generated bindings of `proto/portolan/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod wire {
    // Included, not a module file: rustfmt must leave it as the generator wrote it.
    include!("gen/portolan.v1.rs");
}

/// What this build can do, told in every hello, so that older and newer peers find what they share.
pub const FEATURES: &[&str] = &[probe::FEATURE, release::FEATURE, release::FEATURE_APPLIED];

/// The longest message that a registry takes, in bytes: a node of a few thousand containers with long labels.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// The longest message that a registry sends and a sidecar takes, in bytes: the set of a service that runs on each of 10,000
/// nodes is longer than any report, and sets are sent whole.
pub const TOLD_BYTES_MAX: usize = 64 << 20;

/// A field of a message that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {reason}")]
pub struct FieldError {
    /// The field, as the .proto file names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// A reason repeats what a peer wrote, which may be as long as a message.
const REASON_CHARACTERS_MAX: usize = 200;

pub(crate) fn wrong(field: &'static str, reason: impl std::fmt::Display) -> FieldError {
    FieldError { field, reason: shown(&reason.to_string(), REASON_CHARACTERS_MAX) }
}
