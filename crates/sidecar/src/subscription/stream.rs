//! Carries a subscription over one connection: requests up, messages down, and the view published after each.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use portolan_core::name::ServiceKey;
use portolan_core::view::View;
use portolan_proto::exchange;
use portolan_proto::wire::registry_client::RegistryClient;
use portolan_proto::wire::{self, subscribe_request, subscribe_response};
use portolan_runtime::published::Publisher;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{debug, warn};

use super::{Provenance, Subscription};
use crate::connection::SILENCE_MAX;

/// How many requests wait for the connection; each is small, and the sender waits when it is full.
const REQUESTS_QUEUED: usize = 64;
/// How many follow requests one message carries.
const FOLLOWS_BATCH: usize = 256;
/// How often this side says that it is alive.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// How long after a view came into use that is told: several that come in a row are told as one.
const TELL_AFTER: Duration = Duration::from_millis(20);
/// How many messages that have come are applied before their view is published.
const MESSAGES_AT_ONCE: usize = 256;
/// How long nodes may take to report to a registry with another store, before what it lacks counts as gone: as long as a
/// registry waits for the nodes that it knows.
const STRANGER_PATIENCE: Duration = Duration::from_secs(10);

/// Why a subscription ended. The connection is then made anew, to this registry or another.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscriptionError {
    /// The registry ended the call.
    #[error("subscribe to the registry's view")]
    Call(#[source] Box<tonic::Status>),
    /// The stream ended without a reason.
    #[error("the registry ended the subscription")]
    Ended,
    /// Nothing was heard for ten seconds, not even a heartbeat.
    #[error("the registry is silent on the subscription")]
    Silent,
}

/// Keeps the subscription over any number of connections, and publishes its view.
#[derive(Debug)]
pub(crate) struct Subscriber {
    state: Subscription,
    publisher: Publisher<View>,
    provenance: watch::Sender<Provenance>,
    asked: mpsc::Receiver<ServiceKey>,
    /// The index of the view that is in use.
    used: watch::Receiver<u64>,
    /// Whether the state is not published yet.
    is_news: bool,
}

impl Subscriber {
    /// A subscriber that begins with `state`, publishes to `publisher` and follows what is `asked`; and where the view
    /// comes from. Whoever uses the view says in `used` up to which index.
    pub(crate) fn new(
        state: Subscription,
        publisher: Publisher<View>,
        (asked, used): (mpsc::Receiver<ServiceKey>, watch::Receiver<u64>),
    ) -> (Self, watch::Receiver<Provenance>) {
        let (provenance, receiver) = watch::channel(state.provenance().clone());
        let mut subscriber = Subscriber { state, publisher, provenance, asked, used, is_news: true };
        subscriber.publish();
        (subscriber, receiver)
    }

    /// Runs over one connection until it fails.
    pub(crate) async fn run(&mut self, mut client: RegistryClient<Channel>, peer: wire::Peer) -> SubscriptionError {
        let (up, requests) = mpsc::channel(REQUESTS_QUEUED);
        self.state.connected();
        let hello = subscribe_request::Kind::Hello(wire::SubscribeHello { peer: Some(peer) });
        let follow = subscribe_request::Kind::Follow(names(self.state.followed()));
        for kind in [hello, follow] {
            // The queue is empty: neither send can fail.
            up.try_send(request(kind)).ok();
        }
        match timeout(SILENCE_MAX, client.subscribe(ReceiverStream::new(requests))).await {
            Ok(Ok(response)) => self.converse(&up, response.into_inner()).await,
            Ok(Err(status)) => SubscriptionError::Call(Box::new(status)),
            Err(_) => SubscriptionError::Silent,
        }
    }

    /// The connection ended: what is known stays, as stale.
    pub(crate) fn lost(&mut self) {
        self.is_news |= self.state.lost();
        self.publish();
    }

    /// Takes follow requests while there is no connection, so that they are told to the next one. Cancel-safe.
    pub(crate) async fn wait_offline(&mut self) {
        while let Some(key) = self.asked.recv().await {
            self.state.follow(&key);
        }
        std::future::pending().await
    }

    async fn converse(
        &mut self,
        up: &mpsc::Sender<wire::SubscribeRequest>,
        mut down: tonic::Streaming<wire::SubscribeResponse>,
    ) -> SubscriptionError {
        let mut beat = tokio::time::interval(HEARTBEAT_EVERY);
        let mut silent_at = Instant::now() + SILENCE_MAX;
        let (mut believe_at, mut tell_at, mut told) = (None, None, 0);
        let mut asked = Vec::new();
        loop {
            // Cancel-safe: `changed`, `recv_many`, `tick` and tonic's `message` lose nothing when another branch wins.
            let kinds = tokio::select! {
                message = next(&mut down) => match self.take_all(message, &mut down) {
                    Ok(answers) => {
                        silent_at = Instant::now() + SILENCE_MAX;
                        answers
                    }
                    Err(error) => return error,
                },
                // Nobody uses views any more: this sidecar ends.
                Ok(()) = self.used.changed() => {
                    tell_at = tell_at.or(Some(Instant::now() + TELL_AFTER));
                    Vec::new()
                }
                () = sleep_until(tell_at.unwrap_or(silent_at)), if tell_at.is_some() => {
                    tell_at = None;
                    let news = Some(self.applied()).filter(|applied| std::mem::replace(&mut told, *applied) != *applied);
                    news.map(heartbeat).into_iter().collect()
                }
                _ = self.asked.recv_many(&mut asked, FOLLOWS_BATCH) => self.follow(std::mem::take(&mut asked)),
                _ = beat.tick() => vec![heartbeat(self.applied())],
                () = sleep_until(believe_at.unwrap_or(silent_at)), if believe_at.is_some() => {
                    self.state.believe_stranger();
                    vec![subscribe_request::Kind::Resend(wire::Resend {})]
                }
                () = sleep_until(silent_at) => return SubscriptionError::Silent,
            };
            let in_a_while = || Instant::now() + STRANGER_PATIENCE;
            believe_at = self.state.has_stranger().then(|| believe_at.unwrap_or_else(in_a_while));
            for kind in kinds {
                // A registry that takes nothing for this long is as good as silent.
                if !matches!(timeout(SILENCE_MAX, up.send(request(kind))).await, Ok(Ok(()))) {
                    return SubscriptionError::Silent;
                }
            }
        }
    }

    /// Up to which index what the connected registry told is in use.
    fn applied(&self) -> u64 {
        self.state.applied().min(*self.used.borrow())
    }

    /// Applies a message and those that have come with it, and publishes what they make together; returns what to answer.
    fn take_all(
        &mut self,
        first: Result<wire::SubscribeResponse, SubscriptionError>,
        down: &mut tonic::Streaming<wire::SubscribeResponse>,
    ) -> Result<Vec<subscribe_request::Kind>, SubscriptionError> {
        let mut answers = self.take(first?);
        let mut error = None;
        for _ in 1..MESSAGES_AT_ONCE {
            match next(down).now_or_never() {
                Some(Ok(message)) => answers.extend(self.take(message)),
                Some(Err(failed)) => error = Some(failed),
                None => break,
            }
            if error.is_some() {
                break;
            }
        }
        self.publish();
        error.map_or(Ok(answers), Err)
    }

    /// Applies a message; returns what to answer.
    fn take(&mut self, message: wire::SubscribeResponse) -> Vec<subscribe_request::Kind> {
        let answers = self.apply(message);
        self.state.heard(unix_ms());
        self.provenance.send_if_modified(|provenance| {
            let is_news = provenance != self.state.provenance();
            provenance.clone_from(self.state.provenance());
            is_news
        });
        answers
    }

    fn apply(&mut self, message: wire::SubscribeResponse) -> Vec<subscribe_request::Kind> {
        let readiness = self.state.view().readiness;
        match message.kind {
            Some(subscribe_response::Kind::Directory(directory)) => self.state.directory(directory),
            Some(subscribe_response::Kind::Set(set)) => self.state.set(&set),
            Some(subscribe_response::Kind::Heartbeat(heartbeat)) => {
                let index = self.state.view().index;
                self.state.heartbeat(heartbeat.index);
                if readiness == self.state.view().readiness && index == self.state.view().index {
                    return Vec::new();
                }
            }
            Some(subscribe_response::Kind::Digest(digest)) => {
                if self.state.agrees_with(&digest) {
                    return Vec::new();
                }
                warn!("the view differs from the registry's digest: asking for everything again");
                self.state.connected();
                return vec![subscribe_request::Kind::Resend(wire::Resend {})];
            }
            None => {
                debug!("a message of a kind that this version does not know was dropped");
                return Vec::new();
            }
        }
        self.is_news = true;
        Vec::new()
    }

    fn follow(&mut self, asked: Vec<ServiceKey>) -> Vec<subscribe_request::Kind> {
        let mut follow = Vec::new();
        let mut unfollow = Vec::new();
        for key in asked {
            let (is_new, oldest) = self.state.follow(&key);
            follow.extend(is_new.then_some(key));
            unfollow.extend(oldest);
        }
        let mut kinds = Vec::new();
        if !follow.is_empty() {
            kinds.push(subscribe_request::Kind::Follow(names(follow.iter())));
        }
        if !unfollow.is_empty() {
            self.is_news = true;
            self.publish();
            kinds.push(subscribe_request::Kind::Unfollow(names(unfollow.iter())));
        }
        kinds
    }

    /// Publishes the view if something changed.
    fn publish(&mut self) {
        if std::mem::take(&mut self.is_news) {
            self.publisher.publish(Arc::new(self.state.view().clone()));
        }
    }
}

/// The next message. Cancel-safe.
async fn next(
    down: &mut tonic::Streaming<wire::SubscribeResponse>,
) -> Result<wire::SubscribeResponse, SubscriptionError> {
    let message = down.message().await.map_err(|status| SubscriptionError::Call(Box::new(status)))?;
    message.ok_or(SubscriptionError::Ended)
}

fn heartbeat(index: u64) -> subscribe_request::Kind {
    subscribe_request::Kind::Heartbeat(wire::Heartbeat { index })
}

fn unix_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

fn request(kind: subscribe_request::Kind) -> wire::SubscribeRequest {
    wire::SubscribeRequest { kind: Some(kind) }
}

fn names<'a>(keys: impl Iterator<Item = &'a ServiceKey>) -> wire::ServiceNames {
    wire::ServiceNames { names: keys.map(exchange::service_name_out).collect() }
}
