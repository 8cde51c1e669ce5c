//! What every Portolan program needs around its domain.
//!
//! - [`address`]: the machine's own.
//! - [`http`]: a listener that is safe to leave open to a browser on the same machine; errors as problem documents.
//! - [`jobs`]: every task has a name and an owner, and ends on shutdown.
//! - [`logging`]: log lines on standard error, for people or for machines.
//! - [`metrics`]: what `/metrics` shows, with the process's own figures.
//! - [`published`]: one writer hands whole immutable values to many readers that never wait.
//! - [`settings`]: flags, environment, file and defaults become a struct, or an error that teaches.
//!
//! This crate knows nothing of services, DNS or Docker.

pub mod address;
pub mod http;
pub mod jobs;
pub mod logging;
pub mod metrics;
pub mod published;
pub mod settings;
