//! A cluster that is never left alone: operations by chance, for tests that compare what Portolan knows with what is true.

use rand::RngExt;
use rand::rngs::StdRng;

use super::handles::Cluster;
use super::world::World;
use super::world::task::Status;

/// What can happen.
#[derive(Debug, Clone, Copy)]
enum Operation {
    StopTask,
    Crash,
    Health,
    Scale,
    Deploy,
    Redeploy,
    Drain,
    Replace,
    LoseAgent,
}

const OPERATIONS: [Operation; 9] = [
    Operation::StopTask,
    Operation::Crash,
    Operation::Health,
    Operation::Scale,
    Operation::Deploy,
    Operation::Redeploy,
    Operation::Drain,
    Operation::Replace,
    Operation::LoseAgent,
];

/// The most tasks that a service is scaled to.
const TASKS_MAX: u32 = 12;

impl Cluster {
    /// One thing happens in the cluster; which one follows from the double's seed and what happened before.
    pub fn stir(&self) {
        self.aws.with(|state| stir(&mut state.world, &self.arn));
    }

    /// As [`Cluster::stir`], so often at once.
    pub fn stir_times(&self, times: usize) {
        (0..times).for_each(|_| self.stir());
    }
}

fn stir(world: &mut World, cluster: &str) {
    let mut random = world.chance();
    let tasks = world.tasks_of(cluster);
    let of_cluster = |arn: &&String| arn.split('/').nth(1) == cluster.rsplit('/').next();
    let live = world.services.iter().filter(|(_, service)| service.said.status == "ACTIVE").map(|(arn, _)| arn);
    let services: Vec<String> = live.filter(of_cluster).cloned().collect();
    let present = world.instances.iter().filter(|(_, instance)| instance.said.status != "INACTIVE");
    let instances: Vec<String> = present.map(|(arn, _)| arn).filter(of_cluster).cloned().collect();
    let (task, service, instance) =
        (pick(&mut random, &tasks), pick(&mut random, &services), pick(&mut random, &instances));
    match (OPERATIONS[random.random_range(0..OPERATIONS.len())], task, service, instance) {
        (Operation::StopTask, Some(task), ..) => world.stop_task(task, "UserInitiated", "stirred"),
        (Operation::Crash, Some(task), ..) if runs(world, task) => {
            world.container_exits(task, None, random.random_range(0..256));
        }
        (Operation::Health, Some(task), ..) => {
            let health = ["HEALTHY", "UNHEALTHY", "UNKNOWN"][random.random_range(0..3)];
            world.change_task(task, |task| task.set_health(health));
        }
        (Operation::Scale, _, Some(service), _) => world.scale(service, random.random_range(0..=TASKS_MAX)),
        (Operation::Deploy, _, Some(service), _) => {
            if let Some(now) = world.services.get(service).cloned() {
                let next = world.define((*now.definition).clone());
                world.deploy(service, Some(&next));
            }
        }
        (Operation::Redeploy, _, Some(service), _) => world.deploy(service, None),
        (Operation::Drain, .., Some(instance)) => toggle(world, instance),
        (Operation::Replace, .., Some(instance)) => replace(world, cluster, instance),
        (Operation::LoseAgent, .., Some(instance)) => {
            world.change_instance(instance, |instance| instance.said.agent_connected ^= true);
        }
        _ => {}
    }
}

fn runs(world: &World, task: &str) -> bool {
    world.tasks.get(task).is_some_and(|task| task.status == Status::Running)
}

fn toggle(world: &mut World, instance: &str) {
    let is_active = world.instances.get(instance).is_some_and(|instance| instance.said.status == "ACTIVE");
    world.set_instance_status(instance, if is_active { "DRAINING" } else { "ACTIVE" });
}

/// As an Auto Scaling group does: another one comes, then this one goes.
fn replace(world: &mut World, cluster: &str, instance: &str) {
    let Some(now) = world.instances.get(instance).cloned() else { return };
    match now.az() {
        Some(az) => {
            let address = world.next_host_address();
            world.register_instance(cluster, &az, &[&address.to_string()]);
        }
        None => drop(world.register_external(cluster)),
    }
    world.terminate_instance(instance);
}

fn pick<'a>(random: &mut StdRng, from: &'a [String]) -> Option<&'a String> {
    from.get(random.random_range(0..from.len().max(1)))
}
