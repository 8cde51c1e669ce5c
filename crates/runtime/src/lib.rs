//! What every Portolan program needs around its domain.
//!
//! - [`jobs`]: every task has a name and an owner, and ends on shutdown.
//! - [`published`]: one writer hands whole immutable values to many readers that never wait.
//! - [`settings`]: flags, environment, file and defaults become a struct, or an error that teaches.
//!
//! This crate knows nothing of services, DNS or Docker.

pub mod jobs;
pub mod published;
pub mod settings;
