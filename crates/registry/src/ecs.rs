//! The ECS source: asks AWS which tasks run where, and states it. The second witness.
//!
//! ```text
//! api (AWS, or a double) ──pages──> sweep ──┐
//! SQS ──events──────────────────────────────┴──> knowledge ──statements──> intake
//! ```
//!
//! A listing counts only when every page of it came; a failed or partial one changes nothing. An event is a hint, applied by
//! version. It decides nothing about endpoints, and nothing of it runs unless `aws.clusters` is set.

pub mod api;
pub mod aws;
