//! Answers DNS questions from a view.
//!
//! ```text
//! packet ──wire──> question ──answer──> reply ──wire──> packet
//!                     │  │
//!                     │  └─ in the directory only: ask to follow, wait for the view
//!                     └─ outside the zone: forward (a node only)
//! ```
//!
//! - [`authority`]: the settings of the zone.
//! - [`wire`]: messages.
//! - [`answer`]: the one function that decides what a name answers.
//!
//! This crate never talks to a registry or to Docker: whoever follows services and knows containers is handed in.

pub mod answer;
pub mod authority;
pub mod wire;
