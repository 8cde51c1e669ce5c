//! The gRPC health protocol (grpc/doc/health-checking.md): one call for the whole server, over plain HTTP/2.

use std::net::SocketAddr;

use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::machine::Outcome;
use super::probe::PROBE_MAX;

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// An answer has two octets; more is no health answer.
const ANSWER_OCTETS_MAX: usize = 1024;

/// `grpc.health.v1.HealthCheckRequest`; the empty service is the whole server.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(enumeration = "Status", tag = "1")]
    status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum Status {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
}

pub(super) async fn probe(address: SocketAddr) -> Outcome {
    match timeout(PROBE_MAX, status(address)).await {
        Ok(Some(Status::Serving)) => Outcome::Passed,
        Ok(Some(Status::Unknown | Status::NotServing) | None) | Err(_) => Outcome::Failed,
    }
}

/// What the server says of itself; nothing where it does not speak the protocol.
async fn status(address: SocketAddr) -> Option<Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    let mut client = Grpc::new(endpoint.connect().await.ok()?).max_decoding_message_size(ANSWER_OCTETS_MAX);
    client.ready().await.ok()?;
    let codec: ProstCodec<Request, Response> = ProstCodec::default();
    let request = tonic::Request::new(Request::default());
    let answer = client.unary(request, PathAndQuery::from_static(CHECK), codec).await.ok()?;
    Status::try_from(answer.into_inner().status).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::task::{Context, Poll};
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::body::Body;
    use tonic::codegen::{BoxFuture, Service, http};
    use tonic::server::{Grpc as Server, NamedService, UnaryService};

    /// A health service that says `status` of the whole server.
    #[derive(Clone)]
    struct Health(Status);

    impl UnaryService<Request> for Health {
        type Response = Response;
        type Future = Ready<Result<tonic::Response<Response>, tonic::Status>>;
        fn call(&mut self, request: tonic::Request<Request>) -> Self::Future {
            assert_eq!(request.into_inner().service, "");
            ready(Ok(tonic::Response::new(Response { status: self.0.into() })))
        }
    }

    impl Service<http::Request<Body>> for Health {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let service = self.clone();
            Box::pin(async move {
                assert_eq!(request.uri().path(), CHECK);
                let codec: ProstCodec<Response, Request> = ProstCodec::default();
                Ok(Server::new(codec).unary(service, request).await)
            })
        }
    }

    impl NamedService for Health {
        const NAME: &'static str = "grpc.health.v1.Health";
    }

    #[tokio::test]
    async fn passes_when_a_server_says_that_it_serves() {
        for (said, expected) in [(Status::Serving, Outcome::Passed), (Status::NotServing, Outcome::Failed)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tonic::transport::Server::builder().add_service(Health(said));
            let serve = server.serve_with_incoming(TcpListenerStream::new(listener));
            let outcome = tokio::select! {
                outcome = probe(address) => outcome,
                ended = serve => panic!("{ended:?}"),
            };
            assert_eq!(outcome, expected, "{said:?}");
        }
    }

    #[tokio::test]
    async fn fails_on_what_is_no_grpc_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let talk = async {
            let (stream, _) = listener.accept().await.unwrap();
            stream.try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        };
        let (outcome, ()) = tokio::join!(probe(address), talk);
        assert_eq!(outcome, Outcome::Failed);
    }
}
