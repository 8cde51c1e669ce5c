//! The sidecar: two roads that meet only in `app`.
//!
//! ```text
//! docker ──> health ──> registration ══Register══> registry
//! registry ══Subscribe══> subscription ──view──┬──> dns     (containers ask)
//!                                              └──> links   (containers connect)
//! ```

mod connection;
pub mod docker;
pub mod follow;
pub mod health;
pub mod identity;
pub mod inspect;
mod overlay;
mod register;
pub mod registration;
pub mod snapshot;
pub mod standby;
pub mod subscription;
