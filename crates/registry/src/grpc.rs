//! The gRPC surface: Register hears sidecars, Subscribe tells them.
mod outbox;
