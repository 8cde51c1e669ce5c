//! Answers DNS questions from a view.
//!
//! ```text
//! packet ──gate, wire──> question ──answer──> reply ──wire──> packet
//!                           │  │
//!                           │  └─ in the directory only: ask to follow, wait for the view
//!                           └─ outside the zone: forward (a node only)
//! ```
//!
//! - [`authority`]: the settings of the zone.
//! - [`wire`]: encodes and decodes messages.
//! - [`answer`]: the one function that decides what a name answers.
//! - [`gate`]: who may ask, and how often.
//! - [`server`]: from a packet to its reply, with the waits; `table`: replies that are ready.
//! - [`listen`]: binds UDP and TCP, and serves both.
//! - [`forward`]: everything outside the zone, on a node.
//! - [`upstreams`]: the host's resolvers.
//! - [`metrics`]: counts of questions by outcome.
//! - [`resolution`]: that function's answers as one value for people.
//!
//! This crate never talks to a registry or to Docker: whoever follows services and knows containers is handed in.

pub mod answer;
pub mod authority;
pub mod forward;
pub mod gate;
pub mod listen;
pub mod metrics;
pub mod resolution;
pub mod server;
mod table;
mod tcp;
mod udp;
pub mod upstreams;
pub mod wire;
