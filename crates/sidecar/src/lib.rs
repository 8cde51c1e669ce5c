//! The sidecar: two roads that meet only in `app`.
//!
//! ```text
//! docker ──> health ──> registration ══Register══> registry
//! registry ══Subscribe══> subscription ──view──┬──> dns     (containers ask)
//!                                              └──> links   (containers connect)
//! ```
//!
//! - [`docker`], [`health`], [`registration`], `register`: the road up, what this node sees of its containers.
//! - [`subscription`], [`links`], [`follow`], [`snapshot`]: the road down, what the registry tells of all.
//! - `connection`: both calls on one connection. `overlay`: own evidence over the view. [`standby`]: one at a time;
//!   [`keeper`]: never none; [`sockets`]: what they hand on.
//! - [`guard`]: host ports that a death freed, closed to other hosts for a time.
//! - `owners`: who owns a port now, asked of other nodes while no registry is in reach, and answered to them.
//! - `prober`: tries connections for the registry, which asks about nodes that fell silent.
//! - [`netlink`]: the kernel's rules and routes. [`identity`], [`settings`], [`inspect`], `admin`: for people.

mod admin;
pub mod app;
mod connection;
pub mod docker;
pub mod follow;
pub mod guard;
pub mod health;
pub mod identity;
pub mod inspect;
pub mod keeper;
pub mod links;
pub mod netlink;
mod node_dns;
mod overlay;
mod owners;
mod prober;
mod register;
pub mod registration;
pub mod settings;
pub mod snapshot;
pub mod sockets;
pub mod standby;
pub mod subscription;
