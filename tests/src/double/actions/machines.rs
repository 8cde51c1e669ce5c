//! Calls to EC2 and STS.

use std::sync::Arc;

use portolan_registry::ecs::api::Ec2Instance;

use super::Refusal;
use crate::double::State;

impl State {
    /// DescribeInstances by filter `instance-id`: ids that EC2 does not know are left out; none are all.
    pub fn filter_instances(&mut self, ids: &[String]) -> Vec<Arc<Ec2Instance>> {
        let (mut lens, world) = self.lens("ec2:DescribeInstances");
        let all: Vec<String>;
        let ids = if ids.is_empty() {
            all = world.machines.iter().map(|(id, _)| id.clone()).collect();
            &all
        } else {
            ids
        };
        ids.iter().filter_map(|id| lens.look(&world.machines, id).cloned()).collect()
    }

    /// DescribeInstances by `InstanceId`: one that EC2 does not know fails the call.
    pub fn describe_instances(&mut self, ids: &[String]) -> Result<Vec<Arc<Ec2Instance>>, Refusal> {
        let malformed: Vec<&str> = ids.iter().filter(|id| !id.starts_with("i-")).map(String::as_str).collect();
        if !malformed.is_empty() {
            let message = format!("Invalid id: \"{}\"", malformed.join("\", \""));
            return Err(Refusal::Invalid { code: "InvalidInstanceID.Malformed", message });
        }
        let found = self.filter_instances(ids);
        let is_missing = |id: &&String| !found.iter().any(|machine| machine.instance_id == **id);
        let missing: Vec<&str> = ids.iter().filter(is_missing).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let message = format!("The instance IDs '{}' do not exist", missing.join(", "));
        Err(Refusal::NotFound { code: "InvalidInstanceID.NotFound", message })
    }
}
