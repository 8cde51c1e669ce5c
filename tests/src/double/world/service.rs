//! One service, as ECS knows it.

use std::sync::Arc;

use portolan_registry::ecs::api;

use super::definition::Definition;
use super::task::LaunchType;

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    /// As AWS describes it. Its first deployment is the primary one.
    pub said: api::Service,
    /// The cluster's ARN.
    pub cluster: String,
    /// What its new tasks are made of.
    pub definition: Arc<Definition>,
    /// How it was asked for.
    pub wish: ServiceWish,
    /// `createdAt`, Unix milliseconds.
    pub created_ms: u64,
    /// When its primary deployment began, Unix milliseconds.
    pub deployed_ms: u64,
}

/// A service that is to be made.
#[derive(Debug)]
pub struct NewService<'a> {
    /// The cluster's ARN.
    pub cluster: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What its tasks are made of.
    pub definition: &'a Arc<Definition>,
    /// How many there are to be.
    pub desired_count: u32,
    /// How it is to be.
    pub wish: ServiceWish,
}

/// How a service is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceWish {
    /// Where its tasks run.
    pub launch_type: LaunchType,
    /// `minimumHealthyPercent`.
    pub healthy_percent_min: u32,
    /// `maximumPercent`.
    pub percent_max: u32,
    /// Whether a load balancer knows it, so that tasks activate and deactivate.
    pub is_balanced: bool,
    /// Whether Service Connect is on, so that each task has an agent's container.
    pub is_connected: bool,
}

impl Default for ServiceWish {
    fn default() -> Self {
        ServiceWish {
            launch_type: LaunchType::Ec2,
            healthy_percent_min: 100,
            percent_max: 200,
            is_balanced: false,
            is_connected: false,
        }
    }
}

impl Service {
    /// The id of the deployment that new tasks belong to.
    pub fn primary(&self) -> &str {
        self.said.deployments.first().map(|deployment| deployment.id.as_str()).unwrap_or_default()
    }

    /// How many tasks it is to have.
    pub fn wanted(&self) -> usize {
        if self.said.status == "ACTIVE" { self.said.desired_count as usize } else { 0 }
    }

    /// At least so many run while it is deployed; at most so many are there.
    pub fn limits(&self) -> (usize, usize) {
        let wanted = self.wanted();
        let at_least = (wanted * self.wish.healthy_percent_min as usize).div_ceil(100);
        let at_most = wanted * self.wish.percent_max as usize / 100;
        (at_least, at_most)
    }
}
