//! The sidecar: two roads that meet only in `app`.
//!
//! ```text
//! docker ──> health ──> registration ══Register══> registry
//! registry ══Subscribe══> subscription ──view──┬──> dns     (containers ask)
//!                                              └──> links   (containers connect)
//! ```

pub mod docker;
pub mod follow;
pub mod health;
pub mod inspect;
pub mod registration;
