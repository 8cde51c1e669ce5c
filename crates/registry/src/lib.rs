//! The registry: sources are heard, the store keeps, the catalog decides, surfaces answer.
//!
//! ```text
//! sidecars (grpc: Register) ─┐
//! AWS (ecs), operators ──────┴─> intake ──> store ──> catalog ──view──> DNS, http, grpc: Subscribe
//!                                               ▲          │
//!                                               └─steward──┘ (names and links that have to be kept)
//! ```

pub mod app;
pub mod catalog;
pub mod clock;
pub mod deadlines;
pub mod ecs;
pub mod external;
mod grpc;
pub mod http;
pub mod intake;
mod neighbours;
pub mod orders;
pub mod presence;
mod releases;
pub mod settings;
pub mod store;
#[cfg(test)]
mod testing;
