use std::sync::Arc;

use super::*;
use crate::ecs::api;
use crate::ecs::definition::Definition;
use crate::ecs::testing::{bridge_definition, task_on, task_on_fargate};
use crate::testing::label;

/// What is given: a task of one container `app`, its definition, and the addresses of its instance.
struct Given {
    task: api::Task,
    definition: Option<api::TaskDefinition>,
    host: &'static [&'static str],
}

fn given(mode: &str, mappings: Vec<api::PortMapping>) -> Given {
    let mut task = task_on(1, 1, "web");
    task.containers[0].network_bindings.clear();
    let mut definition = bridge_definition(&task.task_definition_arn);
    definition.network_mode = mode.to_owned();
    definition.container_definitions[0].port_mappings = mappings;
    Given { task, definition: Some(definition), host: &["10.0.0.1", "10.0.0.99", "2001:db8::1"] }
}

fn mapping(container_port: u16, host_port: u16) -> api::PortMapping {
    api::PortMapping {
        protocol: "tcp".to_owned(),
        container_port: Some(container_port),
        host_port: Some(host_port),
        ..api::PortMapping::default()
    }
}

fn binding(bind_ip: &str, container_port: u16, host_port: u16) -> api::NetworkBinding {
    api::NetworkBinding {
        bind_ip: bind_ip.to_owned(),
        protocol: "tcp".to_owned(),
        container_port: Some(container_port),
        host_port: Some(host_port),
        ..api::NetworkBinding::default()
    }
}

impl Given {
    fn binding(mut self, binding: api::NetworkBinding) -> Given {
        self.task.containers[0].network_bindings.push(binding);
        self
    }

    fn label(mut self, key: &str, text: &str) -> Given {
        let definition = self.definition.as_mut().unwrap();
        definition.container_definitions[0].docker_labels.push((key.to_owned(), text.to_owned()));
        self
    }

    fn interface(mut self, v4: &str, v6: Option<&str>) -> Given {
        let interface =
            api::NetworkInterface { private_ipv4_address: Some(v4.to_owned()), ipv6_address: v6.map(str::to_owned) };
        self.task.containers[0].network_interfaces.push(interface);
        self
    }

    fn on_fargate(mut self) -> Given {
        (self.task.container_instance_arn, self.task.launch_type) = (None, "FARGATE".to_owned());
        self
    }

    fn reports(&self) -> Vec<ContainerReport> {
        let facts = TaskFacts::read(&self.task, 0).unwrap();
        let known = self.definition.as_ref().map(|definition| Known::Read(Arc::new(Definition::read(definition))));
        let host: Vec<IpAddr> = self.host.iter().map(|text| text.parse().unwrap()).collect();
        let host = if facts.is_fargate { Host::Fargate } else { Host::Instance(&host) };
        let around = Surroundings { cluster: &label("prod"), definition: &known.unwrap_or(Known::Refused), host };
        task(&facts, around).containers.into_iter().map(|container| container.report).collect()
    }

    /// `PORT/PROTOCOL NAME at ADDRESSES:PORT`, with `dynamic` where Docker chose.
    #[track_caller]
    fn gives(self, expected: &[&str]) {
        let reports = self.reports();
        let lines: Vec<String> = reports.iter().flat_map(|report| &report.ports).map(line).collect();
        assert_eq!(lines, expected, "{reports:#?}");
    }

    #[track_caller]
    fn refuses(self, expected: &[&str]) {
        let reports = self.reports();
        let all = reports.iter().flat_map(|report| &report.refusals);
        let lines: Vec<String> = all.map(|refusal| format!("{}: {}", refusal.field, refusal.reason)).collect();
        assert_eq!(lines, expected);
    }
}

fn line(port: &PortReport) -> String {
    let name = port.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let addresses: Vec<String> = port.addresses.iter().map(IpAddr::to_string).collect();
    let dynamic = if port.is_dynamic { " dynamic" } else { "" };
    let (own, protocol) = (port.container_port, port.protocol);
    format!("{own}/{protocol}{name} at {}:{}{dynamic}", addresses.join(","), port.host_port)
}

#[test]
fn bridge_ports_are_those_that_docker_bound() {
    let both = |given: Given| given.binding(binding("0.0.0.0", 80, 32_768)).binding(binding("::", 80, 32_769));
    both(given("bridge", vec![mapping(80, 0)])).gives(&["80/tcp at 10.0.0.1:32768 dynamic"]);
    // An older API says nothing of the mode, and some agents nothing of the address.
    both(given("", vec![mapping(80, 0)])).gives(&["80/tcp at 10.0.0.1:32768 dynamic"]);
    given("bridge", vec![mapping(80, 8080)]).binding(binding("", 80, 8080)).gives(&["80/tcp at 10.0.0.1:8080"]);
    // Not bound yet.
    given("bridge", vec![mapping(80, 0)]).gives(&[]);
    // Published to one address alone.
    given("bridge", vec![mapping(80, 80)]).binding(binding("10.0.0.99", 80, 80)).gives(&["80/tcp at 10.0.0.99:80"]);
    // Published twice: the lowest.
    let twice = given("bridge", vec![mapping(80, 0)]);
    twice
        .binding(binding("0.0.0.0", 80, 9002))
        .binding(binding("0.0.0.0", 80, 9001))
        .gives(&["80/tcp at 10.0.0.1:9001 dynamic"]);
    let only_v6 = Given { host: &["2001:db8::1"], ..both(given("bridge", vec![mapping(80, 0)])) };
    only_v6.gives(&["80/tcp at 2001:db8::1:32769 dynamic"]);
}

#[test]
fn port_ranges_are_told_port_by_port() {
    let range = |container: &str, host: &str| api::NetworkBinding {
        bind_ip: "0.0.0.0".to_owned(),
        protocol: "udp".to_owned(),
        container_port_range: Some(container.to_owned()),
        host_port_range: Some(host.to_owned()),
        ..api::NetworkBinding::default()
    };
    let asked = api::PortMapping {
        protocol: "udp".to_owned(),
        container_port_range: Some("5000-5002".to_owned()),
        name: Some("media".to_owned()),
        ..api::PortMapping::default()
    };
    let ranged = || given("bridge", vec![asked.clone()]);
    // A name is of one port; the others go by their numbers.
    ranged().binding(range("5000-5002", "40000-40002")).gives(&[
        "5000/udp media at 10.0.0.1:40000 dynamic",
        "5001/udp at 10.0.0.1:40001 dynamic",
        "5002/udp at 10.0.0.1:40002 dynamic",
    ]);
    ranged().binding(range("5000-5002", "40000-40001")).gives(&[]);
    ranged()
        .binding(range("5000-5002", "40000-40001"))
        .refuses(&["network binding: 3 container ports on 2 host ports"]);
    ranged()
        .binding(range("1-60000", "1-60000"))
        .refuses(&["network binding: `1-60000` is no range of at most 256 ports, such as `5000-5003`"]);
    ranged().binding(range("9-5", "9-5")).gives(&[]);
}

#[test]
fn host_mode_has_the_containers_own_ports() {
    given("host", vec![mapping(9200, 9200), mapping(9300, 0)])
        .label("portolan.port.9300", "transport")
        .label("portolan.port.9400", "extra")
        .gives(&[
            "9200/tcp at 10.0.0.1:9200",
            "9300/tcp transport at 10.0.0.1:9300",
            "9400/tcp extra at 10.0.0.1:9400",
        ]);
}

#[test]
fn awsvpc_has_the_tasks_own_address() {
    let mut named = mapping(80, 80);
    named.name = Some("Web_UI".to_owned());
    let awsvpc = || given("awsvpc", vec![named.clone()]).interface("10.9.0.4", Some("2001:db8::9"));
    awsvpc().gives(&["80/tcp web-ui at 10.9.0.4,2001:db8::9:80"]);
    awsvpc().on_fargate().gives(&["80/tcp web-ui at 10.9.0.4,2001:db8::9:80"]);
    // Before the container has started, the attachment tells the address.
    let mut early = given("awsvpc", vec![mapping(80, 80)]).on_fargate();
    early.task.attachments = vec![api::Attachment {
        kind: "eni".to_owned(),
        status: "ATTACHED".to_owned(),
        details: vec![("privateIPv4Address".to_owned(), "10.9.0.5".to_owned())],
        ..api::Attachment::default()
    }];
    early.gives(&["80/tcp at 10.9.0.5:80"]);
    given("none", vec![mapping(80, 80)]).interface("10.9.0.4", None).gives(&[]);
}

#[test]
fn without_an_address_or_a_definition_it_says_so() {
    let unknown = "ports: the address of its instance is not known; a sidecar there would know it";
    // ECS Anywhere: only a sidecar knows where that is.
    let anywhere = || Given { host: &[], ..given("bridge", vec![mapping(80, 0)]).binding(binding("0.0.0.0", 80, 7)) };
    anywhere().gives(&[]);
    anywhere().refuses(&[unknown]);
    Given { host: &[], ..given("host", vec![mapping(80, 0)]) }.refuses(&[unknown]);
    let unread = "task definition: the task definition cannot be read, so labels and port names are not known";
    let denied = || Given { definition: None, ..given("bridge", Vec::new()).binding(binding("0.0.0.0", 80, 32_768)) };
    denied().gives(&["80/tcp at 10.0.0.1:32768 dynamic"]);
    denied().refuses(&[unread]);
    Given { definition: None, ..given("awsvpc", Vec::new()).interface("10.9.0.4", None).on_fargate() }.gives(&[]);
}

#[test]
fn a_task_whose_definition_is_still_asked_for_has_no_ports() {
    let facts = TaskFacts::read(&task_on_fargate(1, "web"), 0).unwrap();
    let around = Surroundings { cluster: &label("prod"), definition: &Known::NotYet, host: Host::Fargate };
    let container = &task(&facts, around).containers[0];
    assert_eq!((container.report.ports.len(), container.report.refusals.len()), (0, 0));
}

#[test]
fn a_task_on_an_instance_that_is_not_known_adds_no_endpoint() {
    let definition = Known::Read(Arc::new(Definition::read(&bridge_definition("a/web:1"))));
    let mut on_instance = task_on(1, 1, "web");
    on_instance.containers[0].network_interfaces = task_on_fargate(1, "web").containers[0].network_interfaces.clone();
    let facts = TaskFacts::read(&on_instance, 0).unwrap();
    let around = Surroundings { cluster: &label("prod"), definition: &definition, host: Host::NotKnown };
    assert_eq!(task(&facts, around).containers[0].report.ports, []);
}

#[test]
fn labels_and_environment_say_the_same_as_to_a_sidecar() {
    let mut given = given("bridge", vec![mapping(80, 0)])
        .binding(binding("0.0.0.0", 80, 32_768))
        .label("portolan.tags", "a,b")
        .label("portolan.weight", "7")
        .label("portolan.link", "vip")
        .label("portolan.port.80", "ui");
    let container = &mut given.definition.as_mut().unwrap().container_definitions[0];
    container.environment =
        vec![("SERVICE_NAME".to_owned(), "Kibana".to_owned()), ("SERVICE_80_OWNER".to_owned(), "search".to_owned())];
    let report = &given.reports()[0];
    assert_eq!(report.candidates.registrator, Some(label("kibana")));
    assert_eq!((report.candidates.label.as_ref(), report.candidates.family.as_ref()), (None, Some(&label("web"))));
    assert_eq!((report.weight, report.tags.as_slice()), (7, ["a".to_owned(), "b".to_owned()].as_slice()));
    assert_eq!(report.meta, [("owner".to_owned(), "search".to_owned())]);
    assert_eq!(report.ports[0].name, Some(label("ui")));
    assert_eq!(
        (report.task_id.as_deref(), report.run),
        (Some("00000000000000000000000000000001"), Run(crate::testing::NOW_MS * 1_000_000))
    );
    assert!(!report.is_refused);

    given.label("portolan.ignore", "true").gives(&[]);
}

#[test]
fn a_service_whose_name_cannot_be_one_is_refused_unless_a_label_names_it() {
    let refused = |label: Option<(&str, &str)>| {
        let mut given = given("host", vec![mapping(80, 0)]);
        given.task.group = "service:node".to_owned();
        let given = label.into_iter().fold(given, |given, (key, text)| given.label(key, text));
        given.reports()[0].is_refused
    };
    assert!(refused(None) && !refused(Some(("portolan.service", "web"))));
}
