//! Events, as EventBridge hands them on. They are told in the order in which things happen; what becomes of them on their
//! way is not this world's.

use serde_json::{Value, json};

use crate::double::shapes::{self, Shape, iso};

use super::{ACCOUNT, REGION, World, last_part};

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// The whole of it.
    pub body: Value,
}

impl World {
    /// Tells anything: who says it and of what kind it is, what it is about, and the rest.
    pub fn tell(&mut self, (source, detail_type): (&str, &str), resource: &str, detail: Value) {
        if !self.is_heard {
            return;
        }
        let body = json!({
            "version": "0",
            "id": self.uuid(),
            "detail-type": detail_type,
            "source": source,
            "account": ACCOUNT,
            // To the second, unlike the times in the detail.
            "time": iso(self.now_ms, 0),
            "region": REGION,
            "resources": [resource],
            "detail": detail,
        });
        self.outbox.push(Event { at_ms: self.now_ms, body });
    }

    pub(super) fn tell_task(&mut self, arn: &str) {
        let Some(task) = self.tasks.get(arn).filter(|_| self.is_heard) else { return };
        let detail = shapes::task(task, Shape::Event);
        self.tell(("aws.ecs", "ECS Task State Change"), arn, detail);
    }

    pub(super) fn tell_instance(&mut self, arn: &str) {
        let Some(instance) = self.instances.get(arn).filter(|_| self.is_heard) else { return };
        let detail = shapes::instance(instance, Shape::Event);
        self.tell(("aws.ecs", "ECS Container Instance State Change"), arn, detail);
    }

    pub(super) fn tell_service(&mut self, arn: &str, name: &str) {
        let Some(service) = self.services.get(arn) else { return };
        let detail = json!({
            "eventType": "INFO",
            "eventName": name,
            "clusterArn": service.cluster,
            "createdAt": iso(self.now_ms, 3),
        });
        self.tell(("aws.ecs", "ECS Service Action"), arn, detail);
    }

    pub(super) fn tell_deployment(&mut self, arn: &str, name: &str) {
        let Some(primary) = self.services.get(arn).and_then(|service| service.said.deployments.first()) else { return };
        let detail = json!({
            "eventType": if name == "SERVICE_DEPLOYMENT_FAILED" { "ERROR" } else { "INFO" },
            "eventName": name,
            "deploymentId": primary.id,
            "updatedAt": iso(self.now_ms, 3),
            "reason": primary.rollout_state_reason,
        });
        self.tell(("aws.ecs", "ECS Deployment State Change"), arn, detail);
    }

    pub(super) fn tell_machine(&mut self, id: &str) {
        let Some(state) = self.machines.get(id).map(|machine| machine.state.clone()) else { return };
        let resource = format!("arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{id}");
        let detail = json!({"instance-id": id, "state": state});
        self.tell(("aws.ec2", "EC2 Instance State-change Notification"), &resource, detail);
    }

    /// Two minutes before a spot instance goes.
    pub fn tell_spot_warning(&mut self, id: &str) {
        let az = self.machines.get(id).and_then(|machine| machine.availability_zone.clone()).unwrap_or_default();
        // No account, and the zone where the region should be: so AWS writes it.
        let resource = format!("arn:aws:ec2:{az}:instance/{id}");
        let detail = json!({"instance-id": id, "instance-action": "terminate"});
        self.tell(("aws.ec2", "EC2 Spot Instance Interruption Warning"), &resource, detail);
    }

    /// An Auto Scaling group is about to terminate the machine and waits for leave.
    pub fn tell_termination(&mut self, id: &str) {
        let token = self.uuid();
        let group =
            format!("arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:{token}:autoScalingGroupName/nodes");
        let detail = json!({
            "LifecycleActionToken": token,
            "AutoScalingGroupName": last_part(&group),
            "LifecycleHookName": "drain",
            "EC2InstanceId": id,
            "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
            "Origin": "AutoScalingGroup",
            "Destination": "EC2",
        });
        self.tell(("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action"), &group, detail);
    }
}
