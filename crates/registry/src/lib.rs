//! The registry: sources are heard, the store keeps, the catalog decides, surfaces answer.

pub mod catalog;
pub mod clock;
pub mod http;
pub mod store;
