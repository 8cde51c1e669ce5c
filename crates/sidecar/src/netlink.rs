//! The kernel's network state that is ours: two nf_tables tables and two routes, spoken to over netlink.
//!
//! Everything is made by hand over plain sockets, so a node needs no `nft`, no `ip` and no C library. Only what bears our
//! name (tables `ip portolan` and `inet portolan-guard`) or our route protocol number is ever changed or removed. The tables
//! have no owner flag: they outlive a killed sidecar; the closed port behind the first refuses connections at once, and what
//! the second closes it opens by itself.
//!
//! Calls wait for the kernel only, which answers a netlink request before `send` returns: well under a millisecond.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use thiserror::Error;

mod closing;
mod expression;
mod flows;
pub mod guard;
mod message;
mod route;
mod rules;
mod socket;
pub mod table;
mod uplinks;
mod watch;

pub use flows::Flows;
pub use route::{Routes, remove_routes};
pub use rules::Rules;
pub use uplinks::uplinks;
pub use watch::Changes;

/// How often routes are looked at although no change was heard of.
const ROUTE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long changes are gathered before looking: our own are heard as well.
pub(crate) const SETTLE: Duration = Duration::from_millis(20);

/// Why the kernel's network state could not be read or changed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The right to change the network is missing.
    #[error(
        "{action}: the capability CAP_NET_ADMIN is missing; without it there are no virtual addresses and the sidecar's DNS address does not exist, so services are found by SRV or HTTP alone"
    )]
    NotPermitted {
        /// What was tried.
        action: &'static str,
    },
    /// The kernel has no such feature.
    #[error(
        "{action}: the kernel has no nf_tables with nat (Linux 5.9 or later, modules nf_tables, nft_nat, nft_reject)"
    )]
    Unsupported {
        /// What was tried.
        action: &'static str,
        /// What it answered.
        #[source]
        source: io::Error,
    },
    /// Any other refusal.
    #[error("{action}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// An answer that does not follow the format.
    #[error("{action}: the kernel's answer is not understood")]
    Malformed {
        /// What was tried.
        action: &'static str,
    },
}

impl NetlinkError {
    fn from_io(action: &'static str, source: io::Error) -> Self {
        use rustix::io::Errno;
        match Errno::from_io_error(&source) {
            Some(Errno::PERM | Errno::ACCESS) => NetlinkError::NotPermitted { action },
            Some(Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => {
                NetlinkError::Unsupported { action, source }
            }
            Some(_) | None => NetlinkError::Refused { action, source },
        }
    }

    /// Whether the kernel said that something to be changed or removed is not there.
    fn is_absent(&self) -> bool {
        use rustix::io::Errno;
        matches!(self, NetlinkError::Refused { source, .. }
            if matches!(Errno::from_io_error(source), Some(Errno::NOENT | Errno::SRCH)))
    }

    /// Whether the kernel said that something to be made is there already.
    fn is_present(&self) -> bool {
        use rustix::io::Errno;
        matches!(self, NetlinkError::Refused { source, .. } if Errno::from_io_error(source) == Some(Errno::EXIST))
    }
}

/// Makes `address` an address of this host, without putting it on an interface: a `local` route on `lo`.
///
/// # Errors
/// Without the right, or when the kernel refuses.
pub fn assert_dns_route(address: Ipv4Addr) -> Result<(), NetlinkError> {
    Routes { dns: address, range: None }.assert()
}

/// Keeps `routes` for ever, where there are no links to do so: looks when something changed, and every second.
pub async fn keep_routes(routes: Routes) {
    let mut changes = Changes::listen().ok();
    loop {
        let changed = async {
            match &mut changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        // The pause is the upper bound, and gathers changes that come in a row.
        tokio::time::timeout(ROUTE_CHECK_INTERVAL, changed).await.ok();
        tokio::time::sleep(SETTLE).await;
        if let Err(error) = routes.assert() {
            tracing::debug!("routes of the sidecar's addresses cannot be kept: {error}");
        }
    }
}

/// Removes our tables and our routes; what is not there is no error.
///
/// # Errors
/// Without the right, or when the kernel refuses.
pub fn cleanup() -> Result<(), NetlinkError> {
    table::Table::open()?.remove()?;
    guard::GuardTable::open()?.remove()?;
    remove_routes()
}
