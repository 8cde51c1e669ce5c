//! Containers of the stand-in, started and ended as a user or the ECS agent does.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use crate::dockerd::Engine;
use crate::{image, namespace};

/// A container. Dropping it does nothing: it ends with its engine.
#[derive(Debug, Clone)]
pub struct Container {
    engine: Arc<Engine>,
    /// Docker's id, 64 hexadecimal digits.
    pub id: String,
}

/// What the ECS agent labels a container with (agent 1.105.1, `docker_task_engine.go`), and how it names it.
#[derive(Debug, Clone)]
pub struct EcsTask {
    /// The cluster: a name or an ARN.
    pub cluster: String,
    /// Task definition family.
    pub family: String,
    /// Task definition revision.
    pub version: u32,
    /// The container's name in the task definition.
    pub container: String,
    /// 32 hexadecimal digits.
    pub task_id: String,
}

impl EcsTask {
    /// A task of a family whose only container has the family's name, with a fresh task id.
    pub fn new(cluster: &str, family: &str) -> Self {
        let task_id = format!("{:032x}", rand::random::<u128>());
        EcsTask { cluster: cluster.into(), family: family.into(), version: 1, container: family.into(), task_id }
    }

    /// As it stands in the task's label.
    pub fn arn(&self) -> String {
        let cluster = self.cluster.rsplit('/').next().unwrap_or_default();
        format!("arn:aws:ecs:eu-central-1:123456789012:task/{cluster}/{}", self.task_id)
    }

    /// Arguments of `docker run`: the name and the five labels.
    pub fn options(&self) -> Vec<String> {
        let (family, version, container) = (&self.family, self.version, &self.container);
        let (label, suffix) = ("--label=com.amazonaws.ecs", format!("{:020x}", rand::random::<u64>()));
        vec![
            format!("--name=ecs-{family}-{version}-{}-{suffix}", container.replace(|c: char| !c.is_alphanumeric(), "")),
            format!("{label}.task-arn={}", self.arn()),
            format!("{label}.container-name={container}"),
            format!("{label}.task-definition-family={family}"),
            format!("{label}.task-definition-version={version}"),
            format!("{label}.cluster={}", self.cluster),
        ]
    }
}

impl Engine {
    /// Starts a container of the stand-in (`docker run -d`); `options` go to docker, `args` to the stand-in.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn run(self: &Arc<Self>, options: &[&str], args: &[&str]) -> anyhow::Result<Container> {
        let all = [&["run", "--detach"], options, &[image::STANDIN], args].concat();
        Ok(Container { id: self.docker(&all)?, engine: self.clone() })
    }

    /// As [`Engine::run`], but only creates it (`docker create`).
    ///
    /// # Errors
    /// When docker refuses.
    pub fn create(self: &Arc<Self>, options: &[&str], args: &[&str]) -> anyhow::Result<Container> {
        let all = [&["create"], options, &[image::STANDIN], args].concat();
        Ok(Container { id: self.docker(&all)?, engine: self.clone() })
    }

    /// Starts a container of an ECS task, labelled as the agent does.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn run_task(self: &Arc<Self>, task: &EcsTask, options: &[&str], args: &[&str]) -> anyhow::Result<Container> {
        let labels = task.options();
        let all: Vec<&str> = labels.iter().map(String::as_str).chain(options.iter().copied()).collect();
        self.run(&all, args)
    }

    /// A task of the service `elasticsearch` in `cluster`: port 9200 on a host port of Docker's choice.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn run_elasticsearch(self: &Arc<Self>, cluster: &str) -> anyhow::Result<Container> {
        self.run_task(&EcsTask::new(cluster, "elasticsearch"), &["-p", "0:9200"], &["elasticsearch"])
    }
}

impl Container {
    /// Its engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Its host name inside, by which the stand-in names itself: the first 12 digits of the id.
    pub fn host_name(&self) -> &str {
        &self.id[..12]
    }

    /// Any docker command that ends with the container: `docker(&["pause"])`, `docker(&["stop", "-t", "1"])`.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn docker(&self, args: &[&str]) -> anyhow::Result<String> {
        self.engine.docker(&[args, &[&self.id]].concat())
    }

    /// One value by a template of `docker inspect`, such as `{{.State.Status}}`.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn inspect(&self, template: &str) -> anyhow::Result<String> {
        self.docker(&["inspect", "--format", template])
    }

    /// The host port that Docker gave to a TCP port of the container.
    ///
    /// # Errors
    /// When it is not published.
    pub fn port(&self, container_port: u16) -> anyhow::Result<u16> {
        let template = format!("{{{{(index (index .NetworkSettings.Ports \"{container_port}/tcp\") 0).HostPort}}}}");
        self.inspect(&template)?.parse().with_context(|| format!("port {container_port} is not published"))
    }

    /// Its address on its bridge.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn address(&self) -> anyhow::Result<String> {
        self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }

    /// Its first process, as the host sees it.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.inspect("{{.State.Pid}}")?.parse().context("read the process id")
    }

    /// `docker kill`: SIGKILL.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.docker(&["kill"]).map(drop)
    }

    /// `docker rm -f`.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn remove(&self) -> anyhow::Result<()> {
        self.docker(&["rm", "--force"]).map(drop)
    }

    /// `docker stop -t SECONDS`: the stop signal, and SIGKILL after that time. The stand-in serves until then.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn stop(&self, seconds: u32) -> anyhow::Result<()> {
        self.docker(&["stop", "-t", &seconds.to_string()]).map(drop)
    }

    /// `docker stop -t 1`, then `docker rm`: as ECS ends a task, with a short grace.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn remove_after_stop(&self) -> anyhow::Result<()> {
        self.stop(1)?;
        self.docker(&["rm"]).map(drop)
    }

    /// Runs the stand-in once more inside the container.
    ///
    /// # Errors
    /// When docker refuses or it fails.
    pub fn exec(&self, args: &[&str]) -> anyhow::Result<String> {
        self.engine.docker(&[&["exec", &self.id, "/standin"], args].concat())
    }

    /// Calls `work` on a thread in its network, as a process of the container would see it.
    ///
    /// # Errors
    /// When it does not run, or `work` panics.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        namespace::inside_of(&self.network()?, work)
    }

    /// The file that stands for its network namespace.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn network(&self) -> anyhow::Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/ns/net", self.pid()?)))
    }

    /// What it printed.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn logs(&self) -> anyhow::Result<String> {
        self.docker(&["logs"])
    }
}
