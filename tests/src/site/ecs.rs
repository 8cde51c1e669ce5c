//! A lab whose first node is a container instance: ECS is the double on the wire, and its tasks are real containers.
//!
//! The programs are started apart from it, so that a test may first say what AWS has and how it misbehaves. They are to end
//! before it does: hold them in variables, or fields, that are dropped first.

use std::process::Output;
use std::sync::Arc;

use anyhow::Context;

use super::{ADMIN, CLUSTER, REGISTRY_HTTP, is_ready, start_sidecar};
use crate::double::{Cluster, Docker, Double, Events, Node, Server};
use crate::janitor::{self, Kind};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::programs::{self, Program};
use portolan_registry::clock::Clock;

/// Credentials that the double takes, and nothing that leads to the real AWS.
const VARIABLES: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_EC2_METADATA_DISABLED", "true")];

/// The double's region.
const REGION: &str = "eu-central-1";

/// AWS and one container instance.
#[derive(Debug)]
pub struct EcsLab {
    /// AWS on the wire, beside the nodes.
    pub server: Server,
    /// Its tasks as containers.
    pub docker: Docker,
    /// AWS.
    pub aws: Double,
    /// The cluster [`CLUSTER`].
    pub cluster: Cluster,
    /// The first node as ECS knows it.
    pub instance: Node,
    /// The queue of events.
    pub events: Events,
    /// Where it all is.
    pub lab: Lab,
}

impl EcsLab {
    /// Makes everything but the programs. AWS lives in real time.
    ///
    /// # Errors
    /// When a part refuses.
    pub fn start(seed: u64) -> anyhow::Result<Self> {
        let lab = Lab::start()?;
        let aws = Double::with_clock(seed, Clock::system());
        let events = aws.queue("events");
        let (docker, cluster) = (Docker::new(&aws), aws.cluster(CLUSTER));
        let instance = docker.join(&cluster, &lab.engine);
        let server = Server::start_in(&aws, lab.network.outside())?;
        Ok(EcsLab { server, docker, aws, cluster, instance, events, lab })
    }

    /// The first node.
    pub fn node(&self) -> &Arc<Namespace> {
        &self.lab.node
    }

    /// Starts the registry on the first node and waits until it is ready.
    ///
    /// # Errors
    /// When it refuses or is not ready in time.
    pub fn start_registry(&self) -> anyhow::Result<Program> {
        let data = janitor::folder(&janitor::unique("registry"), Kind::Folder)?;
        let (data, endpoint) = (format!("--data-dir={}", data.display()), self.endpoint());
        let (clusters, region) = (format!("--aws-clusters={CLUSTER}"), format!("--aws-region={REGION}"));
        let queue = format!("--aws-queue={}", self.server.queue_url("events"));
        let args = [data.as_str(), "--log-format=text", &clusters, &region, &endpoint, &queue];
        let mut registry = Program::start_with(&self.lab.node, "portolan-registry", &args, &VARIABLES)?;
        registry.listening("grpc")?;
        is_ready(&self.lab.node, REGISTRY_HTTP)?;
        Ok(registry)
    }

    /// Starts the sidecar of the first node, under the key that ECS knows the node by, and waits until it is ready.
    ///
    /// # Errors
    /// When it refuses or is not ready in time.
    pub fn start_sidecar(&self) -> anyhow::Result<Program> {
        let node = format!("--node={}", self.instance.id());
        let sidecar = start_sidecar(&self.lab.node, &self.lab.engine.socket(), &[&node])?;
        is_ready(&self.lab.node, ADMIN)?;
        Ok(sidecar)
    }

    /// Runs `portolan` on the first node with credentials, to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn portolan(&self, args: &[&str]) -> anyhow::Result<Output> {
        let program = programs::path("portolan")?.to_string_lossy().into_owned();
        let mut command = self.lab.node.command(&program);
        command.args(args).envs(VARIABLES).env("NO_COLOR", "1").env_remove("PORTOLAN_REGISTRY");
        command.output().with_context(|| format!("run portolan {args:?}"))
    }

    /// As [`EcsLab::portolan`], of `doctor` with the arguments that lead it to this AWS, and its JSON.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn doctor(&self) -> anyhow::Result<Output> {
        let endpoint = self.endpoint();
        let socket = format!("--docker-socket={}", self.lab.engine.socket().display());
        let (cluster, region) = (format!("--cluster={CLUSTER}"), format!("--aws-region={REGION}"));
        self.portolan(&["doctor", "--output=json", &socket, &cluster, &region, &endpoint])
    }

    fn endpoint(&self) -> String {
        format!("--aws-endpoint={}", self.server.url())
    }
}
