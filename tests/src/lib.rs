//! The test harness: real parts, real namespaces, a real Docker engine, and our own programs as a user runs them.
//!
//! ```text
//! Lab (a bridge in a namespace of its own, 10.77.0.1)
//!  ├── Node "a" 10.77.0.11 ── Engine (private dockerd) ── containers of the stand-in image
//!  ├── Node "b" 10.77.0.12 ── Program (portolan-sidecar)
//!  └── ...
//! ```
//!
//! [`double`] is AWS, with its faults: in process, on the wire, and with real containers on a lab's engines.
//!
//! A test begins with [`needs!`], makes a [`lab::Lab`], and waits with [`wait::eventually`] for states, never for time.
//! Nothing here touches the machine's own network, Docker engine or resolver. What a test leaves behind, even when it is
//! killed, is taken away by the [`janitor`].

pub mod asking;
pub mod cgroup;
pub mod command;
pub mod container;
pub mod dig;
pub mod dockerd;
pub mod documented;
pub mod double;
pub mod http;
pub mod image;
pub mod janitor;
pub mod lab;
pub mod namespace;
pub mod parts;
pub mod process;
pub mod programs;
pub mod report;
pub mod resolved;
pub mod site;
pub mod surfaces;
pub mod synthetic;
pub mod talk;
pub mod tidy;
pub mod wait;
pub mod watch;
pub mod wire;
