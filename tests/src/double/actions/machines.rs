//! Calls to EC2 and STS.

use std::sync::Arc;

use portolan_registry::ecs::api::Ec2Instance;

use super::{Asked, Refusal};
use crate::double::State;

/// Instances, and the token of the next page.
pub(in crate::double) type Machines = (Vec<Arc<Ec2Instance>>, Option<String>);

impl State {
    /// DescribeInstances by filter `instance-id`: ids that EC2 does not know are left out; none are all. It has pages
    /// only where a size was asked for.
    pub fn filter_instances(&mut self, ids: &[String], asked: &Asked) -> Result<Machines, Refusal> {
        let (mut lens, world) = self.lens("ec2:DescribeInstances");
        let is_wanted = |id: &&String| ids.is_empty() || ids.contains(*id);
        if asked.results_max.is_none() {
            let wanted = world.machines.iter().map(|(id, _)| id).filter(is_wanted);
            return Ok((wanted.filter_map(|id| lens.look(&world.machines, id).cloned()).collect(), None));
        }
        let asked = Asked { results_max: asked.results_max.map(|max| max.clamp(5, 100)), ..asked.clone() };
        let page = lens.page(&asked, |_, after, count| {
            world.machines.arns_after(after).filter(is_wanted).take(count).cloned().collect()
        })?;
        let seen = page.arns.iter().filter_map(|id| lens.look(&world.machines, id).cloned());
        Ok((seen.collect(), page.next))
    }

    /// DescribeInstances by `InstanceId`: one that EC2 does not know fails the call.
    pub fn describe_instances(&mut self, ids: &[String]) -> Result<Vec<Arc<Ec2Instance>>, Refusal> {
        let malformed: Vec<&str> = ids.iter().filter(|id| !id.starts_with("i-")).map(String::as_str).collect();
        if !malformed.is_empty() {
            let message = format!("Invalid id: \"{}\"", malformed.join("\", \""));
            return Err(Refusal::Invalid { code: "InvalidInstanceID.Malformed", message });
        }
        let (found, _) = self.filter_instances(ids, &Asked::default())?;
        let is_missing = |id: &&String| !found.iter().any(|machine| machine.instance_id == **id);
        let missing: Vec<&str> = ids.iter().filter(is_missing).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let message = format!("The instance IDs '{}' do not exist", missing.join(", "));
        Err(Refusal::NotFound { code: "InvalidInstanceID.NotFound", message })
    }
}
