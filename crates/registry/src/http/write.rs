//! Writing: an operator's word goes in through the intake, and is answered once the catalog has it, so that whoever
//! wrote reads what he wrote.
//!
//! One write at a time: what was looked at before still holds when it is written.

use std::sync::Arc;
use std::time::Duration;

use portolan_runtime::http::Problem;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tracing::error;

use super::Surface;
use crate::catalog::Catalog;
use crate::intake::statement::Statement;

/// How long a write waits for those before it. Each takes the time of a durable commit: milliseconds.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// How long a write waits until it shows.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

impl Surface {
    /// Waits for this write's turn; it lasts as long as the permit.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let turn = timeout(TURN_WITHIN, self.writers.acquire()).await;
        let busy = || Problem::unavailable("too many writes are under way; try again in a few seconds");
        turn.ok().and_then(Result::ok).ok_or_else(busy)
    }

    /// Keeps a statement; returns the first catalog that has it.
    pub(super) async fn write(&self, statement: Statement) -> Result<Arc<Catalog>, Problem> {
        let at_ms = self.shown.clock.now().unix_ms;
        let kept = self.intake.state(vec![statement], at_ms).await.map_err(|error| {
            let error = anyhow::Error::from(error);
            error!("an operator's word cannot be kept: {error:#}");
            Problem::unavailable("the store did not take it; nothing may have changed: look, and try again")
        })?;
        let revision = kept.unwrap_or_default();
        let mut catalog = self.shown.catalog.clone();
        let shown = timeout(SHOWN_WITHIN, catalog.wait_for(|catalog| catalog.revision >= revision)).await;
        let late = || Problem::unavailable("it is kept and will show, but not yet: this registry is behind its store");
        shown.ok().flatten().ok_or_else(late)
    }
}
