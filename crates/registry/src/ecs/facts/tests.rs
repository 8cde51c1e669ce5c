use portolan_core::ecs::TaskStatus;

use super::*;
use crate::ecs::testing::{instance, task_arn, task_on, task_on_fargate};

#[test]
fn takes_ids_from_arns_of_their_kind_alone() {
    let check = |arn: &str, expected: Option<&str>| assert_eq!(id_of(arn, ":task/").as_deref(), expected, "{arn}");
    check("arn:aws:ecs:eu-west-1:1:task/prod/0123abcd", Some("0123abcd"));
    // Before the long format.
    check("arn:aws:ecs:eu-west-1:1:task/0123abcd", Some("0123abcd"));
    check("arn:aws-cn:ecs:cn-north-1:1:task/prod/0123", Some("0123"));
    check("arn:aws:ecs:eu-west-1:1:service/prod/web", None);
    check("arn:aws:ecs:eu-west-1:1:task/prod/", None);
    check("arn:aws:ecs:eu-west-1:1:task/prod/a b", None);
    check("arn:aws:ecs:eu-west-1:1:task/prod/\u{1b}[2J", None);
    check(&format!("arn:aws:ecs:eu-west-1:1:task/prod/{}", "0".repeat(65)), None);
    check("0123", None);
}

#[test]
fn reads_every_status_and_refuses_what_nobody_knows() {
    let rows = [
        ("PROVISIONING", TaskStatus::Pending),
        ("PENDING", TaskStatus::Pending),
        ("ACTIVATING", TaskStatus::Pending),
        ("RUNNING", TaskStatus::Running),
        ("DEACTIVATING", TaskStatus::Leaving),
        ("STOPPING", TaskStatus::Leaving),
        ("DEPROVISIONING", TaskStatus::Leaving),
        ("STOPPED", TaskStatus::Stopped),
        ("DELETED", TaskStatus::Stopped),
    ];
    for (text, expected) in rows {
        let task = api::Task { last_status: text.to_owned(), ..task_on(1, 1, "web") };
        assert_eq!(TaskFacts::read(&task, 0).unwrap().status, expected);
    }
    let task = api::Task { last_status: "DREAMING\u{7}".to_owned(), ..task_on(1, 1, "web") };
    assert_eq!(TaskFacts::read(&task, 0), Err(FactsError::Status("DREAMING\\u{7}".to_owned())));
}

#[test]
fn bounds_what_is_hostile() {
    let mut task = task_on(1, 1, "web");
    task.last_status = "STOPPED".to_owned();
    task.stopped_reason = Some(format!("\u{1b}]0;x\u{7}{}", "y".repeat(10_000)));
    task.availability_zone = Some("z".repeat(1_000));
    task.group = "service:<script>".to_owned();
    task.task_definition_arn = format!("arn:aws:ecs:r:1:task-definition/{}:1", "f".repeat(300));
    task.containers = vec![task.containers[0].clone(); 500];
    task.containers[0].reason = Some("\n".repeat(5_000));
    task.containers[0].network_bindings[0].container_port_range = Some("1-65535".to_owned());
    let facts = TaskFacts::read(&task, 77).unwrap();
    let stop = facts.stop.unwrap();
    assert!(stop.reason.chars().count() < 420 && !stop.reason.contains('\u{1b}'), "{}", stop.reason);
    assert_eq!((stop.at_ms, facts.az.unwrap().chars().count()), (77, 41));
    assert_eq!((facts.service, facts.family), (None, None));
    assert_eq!(facts.refusals.len(), 2);
    assert_eq!(facts.containers.len(), 64);
    let all: Vec<_> = facts.containers.iter().flat_map(|own| &own.refusals).map(|refusal| &refusal.reason).collect();
    assert_eq!(all, ["`1-65535` is no range of at most 256 ports, such as `5000-5003`"]);
}

#[test]
fn a_container_without_a_runtime_id_has_one_of_its_own() {
    let id = |name: &str, runtime_id: Option<&str>| {
        let mut task = task_on(1, 1, "web");
        task.containers[0].name = name.to_owned();
        task.containers[0].runtime_id = runtime_id.map(str::to_owned);
        TaskFacts::read(&task, 0).unwrap().containers[0].id.clone()
    };
    let task_id = task_arn(1).rsplit('/').next().unwrap().to_owned();
    assert_eq!(id("app", Some("0123-456")), "0123-456");
    assert_eq!(id("app", None), format!("{task_id}-app"));
    assert_eq!(id("app", Some("../x")), format!("{task_id}-app"));
    assert_ne!(id("a_b", None), id("a.b", None));
}

#[test]
fn containers_of_ecs_itself_are_left_out() {
    let mut task = task_on(1, 1, "web");
    let own = task.containers[0].clone();
    for name in ["~internal~ecs~pause", "~internal~ecs~pause-app", "ecs-service-connect-Xy1"] {
        task.containers.push(api::Container { name: name.to_owned(), ..own.clone() });
    }
    let facts = TaskFacts::read(&task, 0).unwrap();
    let names: Vec<_> = facts.containers.iter().map(|own| own.definition_name.as_str()).collect();
    assert_eq!(names, ["app"]);
}

#[test]
fn finds_the_address_of_a_tasks_own_interface() {
    let attachment = |kind: &str, status: &str, address: &str| api::Attachment {
        kind: kind.to_owned(),
        status: status.to_owned(),
        details: vec![
            ("subnetId".to_owned(), "subnet-1".to_owned()),
            ("privateIPv4Address".to_owned(), address.to_owned()),
            ("ipv6Address".to_owned(), "2001:db8::7".to_owned()),
        ],
        ..api::Attachment::default()
    };
    let addresses = |attachment: api::Attachment| {
        let task = api::Task { attachments: vec![attachment], ..task_on_fargate(1, "web") };
        TaskFacts::read(&task, 0).unwrap().addresses
    };
    let expected: Vec<IpAddr> = vec!["10.0.0.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    assert_eq!(addresses(attachment("ElasticNetworkInterface", "ATTACHED", "10.0.0.7")), expected);
    assert_eq!(addresses(attachment("eni", "ATTACHED", "10.0.0.7")), expected);
    assert_eq!(addresses(attachment("eni", "DELETED", "10.0.0.7")), expected[2..]);
    assert_eq!(addresses(attachment("Service Connect", "ATTACHED", "10.0.0.7")), expected[2..]);
    assert_eq!(addresses(attachment("eni", "ATTACHED", "10.0.0.999")), expected[1..]);
}

#[test]
fn reads_instances() {
    let read = |status: &str, id: &str| {
        let item = api::ContainerInstance { status: status.to_owned(), ec2_instance_id: id.to_owned(), ..instance(1) };
        InstanceFacts::read(&item).map(|facts| (facts.registration, facts.ec2_id.to_string()))
    };
    assert_eq!(read("ACTIVE", "i-01"), Ok((Registration::Active, "i-01".to_owned())));
    assert_eq!(read("REGISTERING", "mi-01"), Ok((Registration::Active, "mi-01".to_owned())));
    assert_eq!(read("DEREGISTERING", "i-01"), Ok((Registration::Draining, "i-01".to_owned())));
    assert_eq!(read("INACTIVE", "i-01"), Ok((Registration::Inactive, "i-01".to_owned())));
    assert_eq!(read("ACTIVE", "../../x"), Err(FactsError::InstanceId("../../x".to_owned())));
    assert_eq!(read("?", "i-01"), Err(FactsError::Status("?".to_owned())));
}
