//! Harness, end-to-end tests and benchmarks.
