//! The registry: sources are heard, the store keeps, the catalog decides, surfaces answer.

pub mod catalog;
pub mod clock;
mod grpc;
pub mod http;
pub mod store;
