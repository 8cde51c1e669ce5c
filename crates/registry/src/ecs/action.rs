//! The calls that are made, by their IAM names: which bucket AWS counts them in, and what is lost where one is denied.

/// Calls that AWS counts together, in one bucket for each account and region (ECS: "API throttling").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    ClusterResourceRead,
    ServiceRead,
    ClusterRead,
    DefinitionRead,
    Ec2Describe,
}

impl Family {
    pub(super) const ALL: [Family; 5] = [
        Family::ClusterResourceRead,
        Family::ServiceRead,
        Family::ClusterRead,
        Family::DefinitionRead,
        Family::Ec2Describe,
    ];

    /// As metrics call it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Family::ClusterResourceRead => "cluster_resource_read",
            Family::ServiceRead => "service_read",
            Family::ClusterRead => "cluster_read",
            Family::DefinitionRead => "task_definition_read",
            Family::Ec2Describe => "ec2_describe",
        }
    }

    /// Its place in [`Family::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// One call of [`Aws`](super::api::Aws).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Action {
    DescribeClusters,
    ListTasks,
    DescribeTasks,
    ListContainerInstances,
    DescribeContainerInstances,
    ListServices,
    DescribeServices,
    DescribeTaskDefinition,
    DescribeInstances,
    ReceiveMessage,
    DeleteMessage,
}

impl Action {
    #[cfg(test)]
    pub(super) const ALL: [Action; 11] = [
        Action::DescribeClusters,
        Action::ListTasks,
        Action::DescribeTasks,
        Action::ListContainerInstances,
        Action::DescribeContainerInstances,
        Action::ListServices,
        Action::DescribeServices,
        Action::DescribeTaskDefinition,
        Action::DescribeInstances,
        Action::ReceiveMessage,
        Action::DeleteMessage,
    ];

    /// As a policy names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Action::DescribeClusters => "ecs:DescribeClusters",
            Action::ListTasks => "ecs:ListTasks",
            Action::DescribeTasks => "ecs:DescribeTasks",
            Action::ListContainerInstances => "ecs:ListContainerInstances",
            Action::DescribeContainerInstances => "ecs:DescribeContainerInstances",
            Action::ListServices => "ecs:ListServices",
            Action::DescribeServices => "ecs:DescribeServices",
            Action::DescribeTaskDefinition => "ecs:DescribeTaskDefinition",
            Action::DescribeInstances => "ec2:DescribeInstances",
            Action::ReceiveMessage => "sqs:ReceiveMessage",
            Action::DeleteMessage => "sqs:DeleteMessage",
        }
    }

    /// The bucket it counts in; `None`: it is not of ECS or EC2, and outside the budget.
    pub(super) fn family(self) -> Option<Family> {
        match self {
            Action::ListTasks
            | Action::DescribeTasks
            | Action::ListContainerInstances
            | Action::DescribeContainerInstances => Some(Family::ClusterResourceRead),
            Action::ListServices | Action::DescribeServices => Some(Family::ServiceRead),
            Action::DescribeClusters => Some(Family::ClusterRead),
            Action::DescribeTaskDefinition => Some(Family::DefinitionRead),
            Action::DescribeInstances => Some(Family::Ec2Describe),
            Action::ReceiveMessage | Action::DeleteMessage => None,
        }
    }

    /// What happens without the right for it.
    pub(super) fn without(self) -> &'static str {
        match self {
            Action::DescribeClusters => "events of clusters with the same name in other accounts or regions count too",
            Action::ListTasks | Action::DescribeTasks => "ECS is no witness of tasks, beyond what events say",
            Action::ListContainerInstances | Action::DescribeContainerInstances => {
                "draining and ended instances are not known, and tasks on them only where a sidecar speaks"
            }
            Action::ListServices | Action::DescribeServices => "counts and deployments of services are not shown",
            Action::DescribeTaskDefinition => {
                "labels, port names and the ports of tasks with their own address are not known, except by a sidecar"
            }
            Action::DescribeInstances => {
                "addresses of instances without a sidecar are not known, and that one ended only by events"
            }
            Action::ReceiveMessage => "changes are seen by listing alone",
            Action::DeleteMessage => "messages come again until they expire",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_actions_are_told_apart() {
        assert!(Family::ALL.iter().enumerate().all(|(at, family)| family.index() == at));
        let mut names: Vec<_> = Action::ALL.iter().map(|action| action.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Action::ALL.len());
    }
}
