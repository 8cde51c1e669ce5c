//! The registry program.

fn main() {}
