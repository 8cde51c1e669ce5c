//! Subscribe: tells one sidecar the directory and the sets it follows, as the catalog changes.
//!
//! A sidecar that takes nothing for ten seconds is let go; until then it costs one kept view, whatever happens meanwhile.

use std::time::Duration;

use portolan_proto::node_report::node_key;
use portolan_proto::release::FEATURE_APPLIED;
use portolan_proto::wire::{self, subscribe_request, subscribe_response::Kind};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tonic::{Status, Streaming};
use tracing::debug;

use super::outbox::Outbox;
use super::{HEARTBEAT_EVERY, Joined, SILENCE_MAX};
use crate::releases::{Following, Releases};

/// How often both sides compare what the sidecar should hold.
const DIGEST_EVERY: Duration = Duration::from_secs(30);

pub(super) type Down = mpsc::Sender<Result<wire::SubscribeResponse, Status>>;

/// Serves one subscription until either side ends it.
pub(super) async fn converse(joined: Joined, mut requests: Streaming<wire::SubscribeRequest>, down: Down) {
    let Joined { mut catalog, releases, .. } = joined;
    let (mut outbox, mut following) = (Outbox::default(), releases.follow(None, false));
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
                    take(request, (&mut outbox, &mut following), &releases);
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
        // Where the update ends: a peer that tells what it has in use says that it has come so far.
        let is_end_told = is_complete || (following.can_tell() && !messages.is_empty());
        messages.extend(is_end_told.then_some(Kind::Heartbeat(wire::Heartbeat { index: newest.view.index })));
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

fn take(request: wire::SubscribeRequest, (outbox, following): (&mut Outbox, &mut Following), releases: &Releases) {
    match request.kind {
        Some(subscribe_request::Kind::Hello(hello)) => {
            let peer = hello.peer.unwrap_or_default();
            let can_tell = peer.features.iter().any(|feature| feature == FEATURE_APPLIED);
            *following = releases.follow(node_key(&peer.cluster, &peer.node).ok(), can_tell);
            following.follows(outbox.followed().clone());
        }
        Some(subscribe_request::Kind::Follow(names)) => {
            outbox.follow(&names.names);
            following.follows(outbox.followed().clone());
        }
        Some(subscribe_request::Kind::Unfollow(names)) => {
            outbox.unfollow(&names.names);
            following.follows(outbox.followed().clone());
        }
        Some(subscribe_request::Kind::Resend(_)) => outbox.resend(),
        Some(subscribe_request::Kind::Heartbeat(heartbeat)) => following.applied(heartbeat.index),
        None => {}
    }
}
