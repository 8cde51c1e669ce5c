//! The account's rates: a token bucket per family of actions, as ECS and EC2 have them.

use std::collections::BTreeMap;

/// Actions that share one bucket, and its size in AWS: burst and rate per second (ECS API throttling documentation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// ListTasks, DescribeTasks, ListContainerInstances, DescribeContainerInstances: 100, 20.
    ClusterResourceRead,
    /// ListServices, DescribeServices: 100, 20.
    ServiceRead,
    /// ListClusters, DescribeClusters: 50, 20.
    ClusterRead,
    /// DescribeTaskDefinition: 50, 20.
    TaskDefinitionRead,
    /// StopTask, UpdateContainerInstancesState, UpdateService: 100, 40.
    ClusterResourceModify,
    /// EC2 DescribeInstances: 100, 20.
    Ec2Read,
}

impl Bucket {
    /// The bucket of an action; SQS and STS have none that matters.
    pub fn of(action: &str) -> Option<Self> {
        Some(match action {
            "ecs:ListTasks" | "ecs:DescribeTasks" | "ecs:ListContainerInstances" | "ecs:DescribeContainerInstances" => {
                Bucket::ClusterResourceRead
            }
            "ecs:ListServices" | "ecs:DescribeServices" => Bucket::ServiceRead,
            "ecs:ListClusters" | "ecs:DescribeClusters" => Bucket::ClusterRead,
            "ecs:DescribeTaskDefinition" => Bucket::TaskDefinitionRead,
            "ecs:StopTask" | "ecs:UpdateContainerInstancesState" | "ecs:UpdateService" => Bucket::ClusterResourceModify,
            "ec2:DescribeInstances" => Bucket::Ec2Read,
            _ => return None,
        })
    }

    fn rate(self) -> Rate {
        let (burst, per_second) = match self {
            Bucket::ClusterResourceRead | Bucket::ServiceRead | Bucket::Ec2Read => (100.0, 20.0),
            Bucket::ClusterRead | Bucket::TaskDefinitionRead => (50.0, 20.0),
            Bucket::ClusterResourceModify => (100.0, 40.0),
        };
        Rate { burst, per_second }
    }
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: f64,
    per_second: f64,
}

/// What is left of every bucket.
#[derive(Debug, Default)]
pub struct Limits {
    changed: BTreeMap<Bucket, Rate>,
    left: BTreeMap<Bucket, (u64, f64)>,
}

impl Limits {
    /// Changes a bucket's size; what others in the account use is to be taken off.
    pub fn set(&mut self, bucket: Bucket, burst: f64, per_second: f64) {
        self.changed.insert(bucket, Rate { burst, per_second });
        self.left.remove(&bucket);
    }

    /// Whether the action still has a token, and takes it.
    pub fn take(&mut self, action: &str, now_ms: u64) -> bool {
        let Some(bucket) = Bucket::of(action) else { return true };
        let rate = self.changed.get(&bucket).copied().unwrap_or_else(|| bucket.rate());
        let (since_ms, left) = self.left.get(&bucket).copied().unwrap_or((now_ms, rate.burst));
        let gained = now_ms.saturating_sub(since_ms) as f64 / 1000.0 * rate.per_second;
        let left = (left + gained).min(rate.burst);
        let is_enough = left >= 1.0;
        self.left.insert(bucket, (now_ms, if is_enough { left - 1.0 } else { left }));
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_of_a_cluster_share_one_bucket() {
        let mut limits = Limits::default();
        let mut taken = |action, now_ms| (0..200).filter(|_| limits.take(action, now_ms)).count();
        assert_eq!(taken("ecs:ListTasks", 0), 100);
        assert_eq!(taken("ecs:DescribeTasks", 0), 0);
        assert_eq!(taken("ecs:ListServices", 0), 100);
        assert_eq!(taken("ecs:DescribeContainerInstances", 1_000), 20);
        assert_eq!(taken("ecs:ListTasks", 3_600_000), 100);
        assert_eq!(taken("sqs:ReceiveMessage", 0), 200);
    }
}
