//! The DNS crate from outside: answers as text, real sockets asked by dig and kdig, and forwarding to a resolver of the
//! test's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod addresses;
mod answers;
mod compliance;
mod desked;
mod differential;
mod fixture;
mod forwarding;
mod gate;
mod malformed;
mod ready;
mod served;
mod sizes;
mod source;
mod started;
mod worst;
