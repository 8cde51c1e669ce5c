//! How much may be asked upstream.

use std::time::Duration;

use tokio::time::Instant;

/// Upstream questions a second: half of what a VPC resolver takes from one interface.
const PER_SECOND: u32 = 500;

/// Counts upstream questions within each second.
#[derive(Debug, Default)]
pub(super) struct Budget {
    since: Option<Instant>,
    used: u32,
}

impl Budget {
    /// Whether one more may be sent.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.used) = (Some(now), 0);
        }
        let is_granted = self.used < PER_SECOND;
        self.used += u32::from(is_granted);
        is_granted
    }
}
