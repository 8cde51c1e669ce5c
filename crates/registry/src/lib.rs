//! The registry: sources are heard, the store keeps, the catalog decides, surfaces answer.

mod grpc;

pub mod http;
