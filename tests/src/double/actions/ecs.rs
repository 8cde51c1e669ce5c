//! Calls to ECS.

use std::sync::Arc;

use portolan_registry::ecs::api::{self, Described, Page};

use super::lens::Asked;
use super::{Refusal, invalid};
use crate::double::State;
use crate::double::world::definition::Definition;
use crate::double::world::instance::Instance;
use crate::double::world::service::Service;
use crate::double::world::task::Task;
use crate::double::world::{arn, last_part};

/// How many one describe call takes: tasks and container instances; services; clusters.
pub const MAX_DESCRIBED: (usize, usize, usize) = (100, 10, 100);

/// What ListTasks and ListContainerInstances filter by.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// `desiredStatus`, or of instances `status`.
    pub status: Option<String>,
    /// `containerInstance`.
    pub instance: Option<String>,
    /// `family`.
    pub family: Option<String>,
    /// `serviceName`.
    pub service: Option<String>,
    /// `startedBy`.
    pub started_by: Option<String>,
    /// `launchType`.
    pub launch_type: Option<String>,
}

impl Filter {
    fn takes_task(&self, task: &Task) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found.is_some_and(|found| last_part(found) == last_part(wanted)))
        };
        task.said.desired_status == self.status.as_deref().unwrap_or("RUNNING")
            && is(&self.instance, task.said.container_instance_arn.as_deref())
            && is(&self.family, Some(&task.definition.said.family))
            && is(&self.service, task.service.as_deref())
            && is(&self.launch_type, Some(&task.said.launch_type))
            && self.started_by.as_deref().is_none_or(|by| task.started_by.as_deref() == Some(by))
    }

    fn takes_instance(&self, instance: &Instance) -> bool {
        let status = &instance.said.status;
        self.status.as_ref().map_or(status != "INACTIVE", |wanted| status == wanted)
    }
}

impl State {
    /// DescribeClusters. None named is the default one.
    pub fn describe_clusters(&mut self, names: &[String]) -> Result<Described<api::Cluster>, Refusal> {
        let names = if names.is_empty() { &["default".to_owned()] } else { names };
        let mut described = Described { items: Vec::new(), failures: Vec::new() };
        for name in names {
            match self.world.find_cluster(name) {
                Some(cluster) => described.items.push(cluster.clone()),
                None => described.failures.push((arn("cluster", &[last_part(name)]), "MISSING".to_owned())),
            }
        }
        Ok(described)
    }

    /// ListClusters.
    pub fn list_clusters(&mut self, asked: &Asked) -> Result<Page, Refusal> {
        let (mut lens, world) = self.lens("ecs:ListClusters");
        lens.page(asked, |_, after, count| {
            let arns = world.clusters.values().map(|cluster| &cluster.cluster_arn);
            arns.filter(|arn| after.is_none_or(|after| arn.as_str() > after)).take(count).cloned().collect()
        })
    }

    /// ListTasks.
    pub fn list_tasks(&mut self, cluster: &str, filter: &Filter, asked: &Asked) -> Result<Page, Refusal> {
        let cluster = self.known_cluster(cluster)?;
        let is_listed = |task: &Task| task.said.cluster_arn == cluster && filter.takes_task(task);
        let (mut lens, world) = self.lens("ecs:ListTasks");
        lens.list(&world.tasks, asked, is_listed)
    }

    /// ListContainerInstances. Without a status it is every one but INACTIVE.
    pub fn list_container_instances(&mut self, cluster: &str, filter: &Filter, asked: &Asked) -> Result<Page, Refusal> {
        let cluster = self.known_cluster(cluster)?;
        let is_listed = |instance: &Instance| instance.cluster == cluster && filter.takes_instance(instance);
        let (mut lens, world) = self.lens("ecs:ListContainerInstances");
        lens.list(&world.instances, asked, is_listed)
    }

    /// ListServices.
    pub fn list_services(&mut self, cluster: &str, asked: &Asked) -> Result<Page, Refusal> {
        let cluster = self.known_cluster(cluster)?;
        let is_listed = |service: &Service| service.cluster == cluster && service.said.status != "INACTIVE";
        // AWS's own default is 10 services on a page.
        let asked = Asked { results_max: asked.results_max.or(Some(10)), ..asked.clone() };
        let (mut lens, world) = self.lens("ecs:ListServices");
        lens.list(&world.services, &asked, is_listed)
    }

    /// DescribeTasks.
    pub fn describe_tasks(&mut self, cluster: &str, names: &[String]) -> Result<Described<Arc<Task>>, Refusal> {
        let arns = self.arns(("task", MAX_DESCRIBED.0), cluster, names)?;
        let (mut lens, world) = self.lens("ecs:DescribeTasks");
        Ok(lens.describe(&world.tasks, &arns))
    }

    /// DescribeContainerInstances.
    pub fn describe_container_instances(
        &mut self,
        cluster: &str,
        names: &[String],
    ) -> Result<Described<Arc<Instance>>, Refusal> {
        let arns = self.arns(("container-instance", MAX_DESCRIBED.0), cluster, names)?;
        let (mut lens, world) = self.lens("ecs:DescribeContainerInstances");
        Ok(lens.describe(&world.instances, &arns))
    }

    /// DescribeServices.
    pub fn describe_services(&mut self, cluster: &str, names: &[String]) -> Result<Described<Arc<Service>>, Refusal> {
        let arns = self.arns(("service", MAX_DESCRIBED.1), cluster, names)?;
        let (mut lens, world) = self.lens("ecs:DescribeServices");
        Ok(lens.describe(&world.services, &arns))
    }

    /// DescribeTaskDefinition.
    pub fn describe_task_definition(&mut self, name: &str) -> Result<Arc<Definition>, Refusal> {
        let found = self.world.find_definition(name).cloned();
        found.ok_or_else(|| Refusal::NotFound {
            code: "ClientException",
            message: "Unable to describe task definition.".to_owned(),
        })
    }

    /// StopTask.
    pub fn stop_task(&mut self, cluster: &str, name: &str, reason: &str) -> Result<Arc<Task>, Refusal> {
        let arns = self.arns(("task", 1), cluster, &[name.to_owned()])?;
        self.world.stop_task(&arns[0], "UserInitiated", reason);
        self.world.tasks.get(&arns[0]).cloned().ok_or_else(|| invalid("The referenced task was not found."))
    }

    /// UpdateContainerInstancesState.
    pub fn update_container_instances_state(
        &mut self,
        (cluster, names): (&str, &[String]),
        status: &str,
    ) -> Result<Described<Arc<Instance>>, Refusal> {
        if !["ACTIVE", "DRAINING"].contains(&status) {
            return Err(invalid("Container instance status should be one of [ACTIVE,DRAINING]"));
        }
        let arns = self.arns(("container-instance", MAX_DESCRIBED.1), cluster, names)?;
        arns.iter().for_each(|arn| self.world.set_instance_status(arn, status));
        self.describe_container_instances(cluster, names)
    }

    /// UpdateService: `desiredCount`, `taskDefinition`, `forceNewDeployment`.
    pub fn update_service(
        &mut self,
        (cluster, name): (&str, &str),
        desired_count: Option<u32>,
        definition: Option<&str>,
    ) -> Result<Arc<Service>, Refusal> {
        let arns = self.arns(("service", 1), cluster, &[name.to_owned()])?;
        let missing =
            || Refusal::NotFound { code: "ServiceNotFoundException", message: "Service not found.".to_owned() };
        self.world.services.get(&arns[0]).ok_or_else(missing)?;
        if let Some(desired_count) = desired_count {
            self.world.scale(&arns[0], desired_count);
        }
        if let Some(definition) = definition {
            let definition = self.describe_task_definition(definition)?;
            self.world.deploy(&arns[0], Some(&definition));
        }
        self.world.settle();
        self.world.services.get(&arns[0]).cloned().ok_or_else(missing)
    }

    fn known_cluster(&self, name: &str) -> Result<String, Refusal> {
        let name = if name.is_empty() { "default" } else { name };
        let found = self.world.find_cluster(name).map(|cluster| cluster.cluster_arn.clone());
        found.ok_or_else(|| Refusal::NotFound {
            code: "ClusterNotFoundException",
            message: "Cluster not found.".to_owned(),
        })
    }

    /// Whole ARNs of what is named by ARN or by the last part of one.
    fn arns(&self, (kind, max): (&str, usize), cluster: &str, names: &[String]) -> Result<Vec<String>, Refusal> {
        let cluster = self.known_cluster(cluster)?;
        if names.is_empty() || names.len() > max {
            return Err(invalid(&format!("{kind}s must have between 1 and {max} items.")));
        }
        let whole = |name: &String| match name.starts_with("arn:") {
            true => name.clone(),
            false => arn(kind, &[last_part(&cluster), name]),
        };
        Ok(names.iter().map(whole).collect())
    }
}
