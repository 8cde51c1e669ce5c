//! The registry: sources are heard, the store keeps, the catalog decides, surfaces answer.

pub mod catalog;
pub mod clock;
pub mod deadlines;
mod grpc;
pub mod intake;
pub mod presence;
pub mod store;
#[cfg(test)]
mod testing;
