//! Follow requests: whoever needs the endpoints of a service asks for them here; the subscription passes it on.
//!
//! Asking never waits. The queue is bounded; when it is full the request is dropped, and the asker's own time-out
//! (200 ms for a DNS question) makes the client ask again.

use std::sync::Arc;
use std::time::Duration;

use portolan_core::name::ServiceKey;
use portolan_core::view::{Service, View};
use portolan_dns::server::Follow;
use portolan_runtime::published::Reader;
use tokio::sync::mpsc;

/// How many requests may wait for the subscription.
const REQUESTS_MAX: usize = 1024;

/// The asking end.
#[derive(Debug, Clone)]
pub struct Follows {
    requests: mpsc::Sender<ServiceKey>,
}

/// A queue of follow requests: the asking end, and the end that the subscription reads.
pub fn follows() -> (Follows, mpsc::Receiver<ServiceKey>) {
    let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
    (Follows { requests }, receiver)
}

impl Follows {
    /// Asks that `key` be followed. Never waits.
    pub fn ask(&self, key: &ServiceKey) {
        // A full queue drops the request: the asker times out and its client asks again.
        self.requests.try_send(key.clone()).ok();
    }

    /// The service with its endpoints, followed first where needed. `None`: unknown, or not known within `patience`.
    pub async fn followed(&self, view: &Reader<View>, key: &ServiceKey, patience: Duration) -> Option<Arc<Service>> {
        let known = |view: &View| view.service(key).filter(|s| s.known_endpoints().is_some()).cloned();
        let now = view.load();
        if let Some(service) = known(&now) {
            return Some(service);
        }
        now.service(key)?;
        self.ask(key);
        let mut view = view.clone();
        let found = tokio::time::timeout(patience, view.wait_for(|view| known(view).is_some())).await;
        known(found.ok().flatten()?.as_ref())
    }
}

impl Follow for Follows {
    fn ask(&self, key: &ServiceKey) {
        Follows::ask(self, key);
    }
}
