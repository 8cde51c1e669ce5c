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
mod hostile;
mod loops;
mod malformed;
mod ready;
mod search;
mod served;
mod sizes;
mod source;
mod spelling;
mod stale;
mod started;
mod upstream;
mod upstreams;
mod worst;
