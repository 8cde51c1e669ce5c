//! Real containers for the double's tasks: what the ECS agent does on an instance, with a private Docker engine.
//!
//! It does only what it is told: [`Docker::settle`] brings every engine where ECS wants it and tells ECS what became of
//! it. Nothing runs beside the test, so a test sees each state for as long as it likes.

mod options;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use portolan_registry::ecs::api;
use serde_json::Value;

use super::handles::{Cluster, Node, Task};
use super::world::task::Status;
use super::world::{Exit, Ran, last_part, task};
use super::{Double, Pace};
use crate::container::Container;
use crate::dockerd::Engine;
use options::{Piece, Role, pieces};

/// More rounds than any test needs: tasks that crash at once are started again and again.
const ROUNDS_MAX: usize = 50;

/// How long a container has between SIGTERM and SIGKILL. ECS gives 30 s; the stand-in uses all that it gets.
const STOP_SECONDS: u32 = 1;

/// Engines on which the double's tasks really run.
#[derive(Debug)]
pub struct Docker {
    aws: Double,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the container instance's ARN.
    engines: HashMap<String, Arc<Engine>>,
    /// By the task's ARN.
    running: HashMap<String, Vec<Run>>,
    /// How many host ports were given to ranges.
    range_ports: u16,
}

/// A container that runs, or did.
#[derive(Debug, Clone)]
struct Run {
    name: String,
    container: Container,
}

impl Docker {
    /// From now on tasks do nothing by themselves.
    pub fn new(aws: &Double) -> Self {
        aws.pace(Pace::ByHand);
        Docker { aws: aws.clone(), state: Mutex::default() }
    }

    /// Registers an engine's node with a cluster, as an EC2 instance at its address.
    pub fn join(&self, cluster: &Cluster, engine: &Arc<Engine>) -> Node {
        let node = cluster.instance(&engine.node().address.to_string());
        self.lock().engines.insert(node.arn.clone(), engine.clone());
        node
    }

    /// Starts what ECS wants here, reports what ended, and stops what ECS does not want, until nothing is left to do.
    ///
    /// # Errors
    /// When Docker refuses, or no end comes.
    pub fn settle(&self) -> anyhow::Result<()> {
        for _ in 0..ROUNDS_MAX {
            let mut has_changed = false;
            for (task, now) in self.tasks() {
                let runs = self.lock().running.contains_key(&task.arn);
                has_changed |= match (now.is_wanted(), runs) {
                    (true, true) => self.report(&task)?,
                    (true, false) => self.start(&task).map(|()| true)?,
                    (false, _) => self.stop(&task).map(|()| true)?,
                };
            }
            if !has_changed {
                return Ok(());
            }
        }
        anyhow::bail!("tasks do not come to rest in {ROUNDS_MAX} rounds")
    }

    /// Starts a task's containers and says that they run.
    ///
    /// # Errors
    /// When Docker refuses, or its instance has no engine.
    pub fn start(&self, task: &Task) -> anyhow::Result<()> {
        let now = task.look().context("ECS has forgotten the task")?;
        let engine = self.engine_of(&now)?;
        let (mut runs, mut ran) = (Vec::<Run>::new(), Vec::new());
        for piece in pieces(&now, &mut self.lock().range_ports) {
            let network = piece.joins.as_ref().and_then(|name| runs.iter().find(|run| run.name == *name));
            let options = piece.options(network.map(|run| run.container.id.as_str()));
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let args: Vec<&str> = piece.args.iter().map(String::as_str).collect();
            let container =
                engine.run(&options, &args).with_context(|| format!("start {} of {}", piece.name, task.arn))?;
            let holder = network.map_or(&container, |run| &run.container);
            ran.extend(said(&piece, &container, holder, &now)?);
            runs.push(Run { name: piece.name, container });
        }
        self.lock().running.insert(task.arn.clone(), runs);
        task.runs(&ran);
        Ok(())
    }

    /// Ends a task that ECS does not want: SIGTERM, after a second SIGKILL, and then ECS is told.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn stop(&self, task: &Task) -> anyhow::Result<()> {
        let runs = self.lock().running.remove(&task.arn).unwrap_or_default();
        while task.look().is_some_and(|now| now.status < Status::Stopping && now.next_status().is_some()) {
            task.step();
        }
        let stopped: anyhow::Result<Vec<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = runs.iter().map(|run| scope.spawn(|| run.container.stop(STOP_SECONDS))).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("stopping panicked"))?).collect()
        });
        stopped?;
        let exits: Vec<Exit> = runs.iter().map(exit_of).collect::<anyhow::Result<_>>()?;
        task.exited(&exits);
        while task.look().is_some_and(|now| now.next_status().is_some()) {
            task.step();
        }
        Ok(())
    }

    /// A container of a task that runs, by its name in the task definition.
    ///
    /// # Errors
    /// When it does not run here.
    pub fn container(&self, task: &Task, name: &str) -> anyhow::Result<Container> {
        let state = self.lock();
        let runs = state.running.get(&task.arn).with_context(|| format!("{} does not run here", task.arn))?;
        let run = runs.iter().find(|run| run.name == name);
        Ok(run.with_context(|| format!("no container {name} in {}", task.arn))?.container.clone())
    }

    /// Tells ECS of a container that ended by itself. Says whether there was one.
    fn report(&self, task: &Task) -> anyhow::Result<bool> {
        let runs = self.lock().running.get(&task.arn).cloned().unwrap_or_default();
        for run in runs {
            if run.container.inspect("{{.State.Running}}")? == "false" {
                let exit = exit_of(&run)?;
                task.exited(std::slice::from_ref(&exit));
                task.container_exits(&run.name, exit.code);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The tasks on instances with an engine that have not ended.
    fn tasks(&self) -> Vec<(Task, Arc<task::Task>)> {
        let mut instances: Vec<String> = self.lock().engines.keys().cloned().collect();
        instances.sort();
        let arns = instances.iter().flat_map(|instance| self.aws.with(|state| state.world.tasks_on(instance)));
        arns.filter_map(|arn| Some((self.aws.task(&arn), self.aws.task(&arn).look()?))).collect()
    }

    fn engine_of(&self, task: &task::Task) -> anyhow::Result<Arc<Engine>> {
        let instance = task.said.container_instance_arn.as_deref().context("the task is on no instance")?;
        let engine = self.lock().engines.get(instance).cloned();
        engine.with_context(|| format!("instance {} has no engine", last_part(instance)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exit_of(run: &Run) -> anyhow::Result<Exit> {
    let state = run.container.inspect("{{.State.ExitCode}} {{.State.OOMKilled}}")?;
    let (code, is_out_of_memory) = state.split_once(' ').with_context(|| format!("read {state:?}"))?;
    let reason = "OutOfMemoryError: Container killed due to memory usage";
    Ok(Exit {
        container: run.name.clone(),
        code: code.parse().with_context(|| format!("read {state:?}"))?,
        reason: (is_out_of_memory == "true").then(|| reason.to_owned()),
    })
}

/// What the agent reports of a container: nothing of those that are its own. `holder` is the container that has the
/// network.
fn said(piece: &Piece, container: &Container, holder: &Container, task: &task::Task) -> anyhow::Result<Option<Ran>> {
    if piece.role == Role::Pause {
        return Ok(None);
    }
    let network_bindings = match task.definition.said.network_mode.as_str() {
        "host" => piece.mappings.iter().filter_map(own).collect(),
        "bridge" => published(piece, &serde_json::from_str(&holder.inspect("{{json .NetworkSettings.Ports}}")?)?),
        _ => Vec::new(),
    };
    let address = if task.definition.has_own_interface() { Some(holder.address()?) } else { None };
    let (runtime_id, name) = (container.id.clone(), piece.name.clone());
    Ok(Some(Ran { container: name, runtime_id, network_bindings, address }))
}

fn own(mapping: &api::PortMapping) -> Option<api::NetworkBinding> {
    let port = Some(mapping.container_port?);
    let (bind_ip, protocol) = ("0.0.0.0".to_owned(), mapping.protocol.clone());
    Some(api::NetworkBinding { bind_ip, protocol, container_port: port, host_port: port, ..Default::default() })
}

/// One binding for each port, or range, and each address that Docker bound.
fn published(piece: &Piece, ports: &Value) -> Vec<api::NetworkBinding> {
    let bound = |port: &str, protocol: &str| {
        let all = ports[format!("{port}/{protocol}")].as_array().cloned().unwrap_or_default();
        let text = |binding: &Value, name: &str| binding[name].as_str().unwrap_or_default().to_owned();
        all.iter().map(|binding| (text(binding, "HostIp"), text(binding, "HostPort"))).collect::<Vec<_>>()
    };
    let mut bindings = Vec::new();
    for mapping in &piece.mappings {
        let protocol = mapping.protocol.clone();
        match (&mapping.container_port_range, mapping.container_port) {
            (Some(range), _) => {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let ends = bound(first, &protocol).into_iter().zip(bound(last, &protocol));
                bindings.extend(ends.map(|((bind_ip, first), (_, last))| api::NetworkBinding {
                    bind_ip,
                    protocol: protocol.clone(),
                    container_port_range: Some(range.clone()),
                    host_port_range: Some(format!("{first}-{last}")),
                    ..api::NetworkBinding::default()
                }));
            }
            (None, Some(port)) => {
                let all = bound(&port.to_string(), &protocol).into_iter();
                bindings.extend(all.map(|(bind_ip, host_port)| api::NetworkBinding {
                    bind_ip,
                    protocol: protocol.clone(),
                    container_port: Some(port),
                    host_port: host_port.parse().ok(),
                    ..api::NetworkBinding::default()
                }));
            }
            (None, None) => {}
        }
    }
    bindings
}
