//! What every Portolan program needs around its domain.
//!
//! - [`jobs`]: every task has a name and an owner, and ends on shutdown.
//! - [`published`]: one writer hands whole immutable values to many readers that never wait.
//!
//! This crate knows nothing of services, DNS or Docker.

pub mod jobs;
pub mod published;
