//! Subscribe: tells one sidecar the directory and the sets it follows, as the catalog changes.
//!
//! A sidecar that takes nothing for ten seconds is let go; until then it costs one kept view, whatever happens meanwhile.

use std::time::Duration;

use portolan_proto::wire::{self, subscribe_request, subscribe_response::Kind};
use portolan_runtime::published::Reader;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tonic::{Status, Streaming};
use tracing::debug;

use super::outbox::Outbox;
use super::{HEARTBEAT_EVERY, SILENCE_MAX};
use crate::catalog::Catalog;

/// How often both sides compare what the sidecar should hold.
const DIGEST_EVERY: Duration = Duration::from_secs(30);

pub(super) type Down = mpsc::Sender<Result<wire::SubscribeResponse, Status>>;

/// Serves one subscription until either side ends it.
pub(super) async fn converse(
    mut catalog: Reader<Catalog>,
    mut requests: Streaming<wire::SubscribeRequest>,
    down: Down,
) {
    let mut outbox = Outbox::default();
    let mut beat = interval(HEARTBEAT_EVERY);
    let mut digest = interval(DIGEST_EVERY);
    digest.reset();
    let mut silent_at = Instant::now() + SILENCE_MAX;
    loop {
        // Cancel-safe: `message`, `changed` and `tick` lose nothing when another branch wins.
        let extra = tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    silent_at = Instant::now() + SILENCE_MAX;
                    take(&mut outbox, request);
                    None
                }
                Ok(None) => return,
                Err(status) => {
                    debug!("a subscription ended: {status}");
                    return;
                }
            },
            is_open = catalog.changed() => {
                if !is_open {
                    return;
                }
                None
            }
            _ = beat.tick() => Some(Kind::Heartbeat(wire::Heartbeat { index: catalog.peek().view.index })),
            _ = digest.tick() => outbox.digest(),
            () = sleep_until(silent_at) => return,
        };
        // A digest and a heartbeat speak of what was sent before them, so the update goes first.
        let newest = catalog.load();
        let mut messages = outbox.update(&newest.view, &newest.epoch);
        let is_complete =
            messages.iter().any(|kind| matches!(kind, Kind::Directory(directory) if directory.is_complete));
        messages.extend(is_complete.then_some(Kind::Heartbeat(wire::Heartbeat { index: newest.view.index })));
        messages.extend(match extra {
            Some(Kind::Digest(_)) => outbox.digest(),
            extra => extra,
        });
        for kind in messages {
            let message = Ok(wire::SubscribeResponse { kind: Some(kind) });
            if !matches!(timeout(SILENCE_MAX, down.send(message)).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

fn take(outbox: &mut Outbox, request: wire::SubscribeRequest) {
    match request.kind {
        Some(subscribe_request::Kind::Follow(names)) => outbox.follow(&names.names),
        Some(subscribe_request::Kind::Unfollow(names)) => outbox.unfollow(&names.names),
        Some(subscribe_request::Kind::Resend(_)) => outbox.resend(),
        Some(subscribe_request::Kind::Hello(_) | subscribe_request::Kind::Heartbeat(_)) | None => {}
    }
}
