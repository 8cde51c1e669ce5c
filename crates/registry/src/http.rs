//! The HTTP surface: what the catalog knows, as JSON, as it changes and why.
//!
//! - [`api`]: the shapes of the answers. The `portolan` command reads the same types.

pub mod api;
