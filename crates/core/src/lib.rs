//! The domain of Portolan as pure values and functions: what a name is, what each witness said, and what follows from it.
//!
//! ```text
//! labels ──> evidence ──rules──> endpoint ──> view <── lookup (a DNS name's meaning)
//!                                               │
//!                                               └──selection──> what a client gets
//! ```
//!
//! This crate never opens a socket, reads a clock, draws a random number or starts a task: time and randomness are
//! arguments. It knows no other crate of ours, no wire format and no DNS message.

pub mod ecs;
pub mod endpoint;
pub mod evidence;
pub mod hash;
pub mod labels;
pub mod lookup;
pub mod name;
pub mod naming;
pub mod neighbours;
pub mod reach;
pub mod refusal;
pub mod rules;
pub mod selection;
pub mod view;
pub mod virtual_address;
