//! The gRPC surface: Register hears sidecars, Subscribe tells them.
//!
//! Register writes through the intake; Subscribe reads the catalog. Neither knows the store.

mod outbox;
mod register;
mod subscribe;

use std::sync::Arc;
use std::time::Duration;

use portolan_proto::wire::registry_server::{Registry, RegistryServer};
use portolan_proto::{MESSAGE_BYTES_MAX, TOLD_BYTES_MAX, wire};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tracing::error;

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::intake::Intake;
use crate::neighbours::switchboard::Switchboard;
use crate::releases::Releases;

/// How often the registry says that it is alive.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// A peer that says nothing, or takes nothing, for this long is let go.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How many calls are served at once: two for each of 10,000 nodes, and room for those that come anew.
const CALLS_MAX: usize = 24_000;
/// How many messages wait for a peer; the sender waits when it is full.
const QUEUED_MAX: usize = 64;

/// What the surface joins.
#[derive(Debug, Clone)]
pub(crate) struct Surface {
    jobs: Jobs,
    joined: Joined,
    calls: Arc<Semaphore>,
}

/// What it leads to.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    pub(crate) intake: Arc<Intake>,
    pub(crate) catalog: Reader<Catalog>,
    pub(crate) switchboard: Switchboard,
    pub(crate) releases: Releases,
    pub(crate) clock: Clock,
    /// Of the HTTP surface: told to sidecars, for those who look for it on their nodes.
    pub(crate) http_port: u16,
}

impl Surface {
    pub(crate) fn new(jobs: Jobs, joined: Joined) -> Self {
        Surface { jobs, joined, calls: Arc::new(Semaphore::new(CALLS_MAX)) }
    }

    /// Serves `listener` until shutdown.
    pub(crate) fn serve(self, listener: TcpListener) {
        let jobs = self.jobs.clone();
        let service = RegistryServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(TOLD_BYTES_MAX);
        let incoming = accepted(listener);
        jobs.start("grpc", async move {
            let mut server = tonic::transport::Server::builder();
            if let Err(error) = server.add_service(service).serve_with_incoming(incoming).await {
                error!("serve gRPC: {error}");
            }
        });
    }
}

/// The connections of `listener`, with their options set here, for the server's own settings do not reach sockets that it did
/// not open itself. Without no-delay a view that follows an acknowledgement waits 40 ms for the sidecar's delayed ACK.
fn accepted(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(SILENCE_MAX))
}

#[tonic::async_trait]
impl Registry for Surface {
    type RegisterStream = ReceiverStream<Result<wire::RegisterResponse, Status>>;
    type SubscribeStream = ReceiverStream<Result<wire::SubscribeResponse, Status>>;

    async fn register(
        &self,
        request: Request<Streaming<wire::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let permit = self.calls.clone().try_acquire_owned().map_err(|_| too_many())?;
        let (down, response) = mpsc::channel(QUEUED_MAX);
        let conversation = register::converse(self.joined.clone(), down, request.into_inner());
        self.jobs.start_work("register", async move {
            conversation.await;
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(response)))
    }

    async fn subscribe(
        &self,
        request: Request<Streaming<wire::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let permit = self.calls.clone().try_acquire_owned().map_err(|_| too_many())?;
        let (down, response) = mpsc::channel(QUEUED_MAX);
        let conversation = subscribe::converse(self.joined.clone(), request.into_inner(), down);
        self.jobs.start_work("subscribe", async move {
            conversation.await;
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(response)))
    }
}

fn too_many() -> Status {
    Status::resource_exhausted("this registry serves as many sidecars as it can: try another")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn no_accepted_socket_holds_small_messages_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut incoming = accepted(listener);
        let _client = TcpStream::connect(addr).await.unwrap();
        let socket = incoming.next().await.unwrap().unwrap();
        assert!(socket.nodelay().unwrap());
    }
}
