//! The double on the wire: one listener for ECS, EC2, SQS and STS, told apart by what a request says of itself.
//!
//! It runs on a thread of its own, so that tests without a runtime use it, and ends when it is dropped. It checks that a
//! request is signed for the right service, not the signature.

mod body;
mod ecs;
mod md5;
mod query;
mod reply;
mod request;
mod sqs;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Double;
use crate::namespace::Namespace;
use reply::{Fate, Reply};
use request::{Request, Service};

/// How many connections there are at once. More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_000;

/// A listening double.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    end: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start(aws: &Double) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen for AWS calls")?;
        Self::start_on(aws, listener)
    }

    /// Listens on a node's address: reached from there and from every node beside it.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start_in(aws: &Double, node: &Namespace) -> anyhow::Result<Self> {
        let listener = node.inside(|| TcpListener::bind((node.address, 0)))?.context("listen for AWS calls")?;
        Self::start_on(aws, listener)
    }

    /// As [`Server::start`], on a listener of the caller's.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn start_on(aws: &Double, listener: TcpListener) -> anyhow::Result<Self> {
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let aws = aws.clone();
        let serving = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    _ = serve(&aws, listener) => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("ecs-double".into()).spawn(serving)?;
        Ok(Server { addr, end: Some(end), thread: Some(thread) })
    }

    /// For `--endpoint-url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The URL of a queue, as this endpoint names it.
    pub fn queue_url(&self, name: &str) -> String {
        format!("http://{}/{}/{name}", self.addr, super::world::ACCOUNT)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // Its panics were printed where they happened.
            thread.join().ok();
        }
    }
}

/// Accepts for ever; every connection ends with it.
async fn serve(aws: &Double, listener: TcpListener) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true).ok();
        let aws = aws.clone();
        connections.spawn(async move {
            let service = service_fn(|request| exchange(&aws, request));
            // Errors are the faults that were asked for, and clients that go away.
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

/// An error closes the connection without an answer.
async fn exchange(
    aws: &Double,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<body::Body>, Closed> {
    let request = Request::read(request).await.ok_or(Closed)?;
    let reply = match request.check() {
        Err(refused) => refused,
        Ok(()) => match request.service {
            Service::Ecs => ecs::answer(aws, &request),
            Service::Sqs => sqs::answer(aws, &request).await,
            Service::Ec2 | Service::Sts => query::answer(aws, &request),
            Service::Unknown => Reply::text(404, "this is the ECS double: it speaks ECS, EC2, SQS and STS\n"),
        },
    };
    match reply.fate {
        Fate::Close => Err(Closed),
        Fate::Never => std::future::pending().await,
        Fate::After(delay) => {
            if delay > Duration::ZERO {
                tokio::time::sleep(delay).await;
            }
            Ok(reply.into_response())
        }
    }
}

/// The connection is to be closed.
#[derive(Debug, thiserror::Error)]
#[error("the double closes the connection")]
struct Closed;
