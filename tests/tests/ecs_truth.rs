//! What AWS says, with everything that can go wrong there, against what is true: on nodes without a sidecar, in paused time.

#[path = "ecs_truth/registry.rs"]
mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portolan_core::endpoint::State;
use portolan_tests::double::{Cluster, Definition, Double, LaunchType, ServiceWish};

use registry::{Registry, key};

/// How many schedules of faults are played.
const SCHEDULES: u64 = 12;
const HOUR: Duration = Duration::from_secs(3_600);

/// A cluster of three nodes with three services.
fn populate(aws: &Double) -> Cluster {
    let cluster = aws.cluster("prod");
    for address in ["10.0.3.7", "10.0.3.8", "10.0.3.9"] {
        cluster.instance(address);
    }
    for (name, count) in [("web", 6), ("api", 3), ("db", 1)] {
        let definition = aws.define(Definition::bridge(name).port(80).named("http"));
        cluster.service(name, &definition, count);
    }
    cluster
}

/// What is true: the tasks of every service that run and are to run, are not said to be unhealthy, and whose instance is not
/// being drained.
fn truth((aws, cluster): (&Double, &Cluster)) -> BTreeMap<String, BTreeSet<String>> {
    let mut truth: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for task in cluster.tasks() {
        let now = task.now();
        let status = |arn: &String| aws.with(|state| state.world.instances.get(arn).map(|i| i.said.status.clone()));
        let is_placed = now.container_instance_arn.as_ref().is_none_or(|arn| status(arn).as_deref() == Some("ACTIVE"));
        let is_wanted = now.desired_status == "RUNNING" && now.health_status != "UNHEALTHY";
        let is_up = is_placed && is_wanted && now.last_status == "RUNNING";
        if let (true, Some(service)) = (is_up, now.group.strip_prefix("service:")) {
            truth.entry(service.to_owned()).or_default().insert(task.id().to_owned());
        }
    }
    truth
}

#[tokio::test(start_paused = true)]
async fn no_fault_of_aws_removes_what_runs_and_the_truth_comes_after_it() -> anyhow::Result<()> {
    for seed in 0..SCHEDULES {
        play(seed).await.map_err(|error| error.context(format!("seed {seed}")))?;
    }
    Ok(())
}

async fn play(seed: u64) -> anyhow::Result<()> {
    let aws = Double::new(seed);
    let cluster = populate(&aws);
    let queue = aws.queue("events");
    let registry = Registry::start(&aws, Some(queue.url())).await?;
    let before = truth((&aws, &cluster));
    registry.until("the first truth", |registry| registry.all_answered() == before).await?;

    // Nothing changes in the cluster: whatever is removed now is removed wrongly.
    aws.go_wild(0.4);
    let end = tokio::time::Instant::now() + HOUR;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = registry.all_answered();
        anyhow::ensure!(now == before, "a fault changed {before:?} to {now:?}");
    }
    // Things happen while AWS misbehaves, and are true once it does so no more.
    for _ in 0..20 {
        cluster.stir();
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    aws.heal();
    let held = registry.until("the truth after the faults", |r| r.all_answered() == truth((&aws, &cluster))).await;
    held.map_err(|error| error.context(format!("true is {:?}", truth((&aws, &cluster)))))?;
    let busiest = aws.busiest(Duration::from_secs(60));
    anyhow::ensure!(busiest <= 125, "{busiest} calls within a minute");
    registry.stop().await
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_an_hour_removes_nothing_and_is_over_in_two_listings() -> anyhow::Result<()> {
    use portolan_tests::double::{Fault, When};
    for fault in [Fault::Throttled, Fault::Unreachable, Fault::ServerError, Fault::Expired] {
        let aws = Double::new(1);
        let cluster = populate(&aws);
        let registry = Registry::start(&aws, None).await?;
        let before = truth((&aws, &cluster));
        registry.until("the first truth", |registry| registry.all_answered() == before).await?;
        aws.fault(fault, When::Chance(1.0));
        let end = tokio::time::Instant::now() + HOUR;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(registry.all_answered(), before, "{fault:?}");
        }
        cluster.tasks()[0].stop("while nobody could see");
        aws.heal();
        let healed = tokio::time::Instant::now();
        registry.until("the truth", |registry| registry.all_answered() == truth((&aws, &cluster))).await?;
        let took = healed.elapsed();
        assert!(took < Duration::from_secs(150), "{fault:?}: the truth took {took:?}");
        registry.stop().await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_task_is_found_where_it_can_be_reached() -> anyhow::Result<()> {
    let aws = Double::new(3);
    let cluster = aws.cluster("prod");
    cluster.instance("10.0.3.7");
    let two = Definition::bridge("two").port(80).named("http").port(81).container("side").port(82);
    cluster.service("two", &aws.define(two), 1);
    cluster.service("range", &aws.define(Definition::bridge("range").range("5000-5002")), 1);
    cluster.service("host", &aws.define(Definition::host("host").port(9300)), 1);
    cluster.service("own", &aws.define(Definition::awsvpc("own").port(8080).named("grpc")), 1);
    cluster.fargate("far", &aws.define(Definition::awsvpc("far").port(8443)), 2);
    let connected = ServiceWish { is_connected: true, launch_type: LaunchType::Ec2, ..ServiceWish::default() };
    cluster.service_as("meshed", (&aws.define(Definition::bridge("meshed").port(7000)), 1), connected);
    let registry = Registry::start(&aws, None).await?;
    registry.until("every service", |registry| registry.all_answered().len() == 6).await?;

    let catalog = registry.catalog();
    let places = |service: &str| {
        let service = catalog.service(&key(service)).expect("known");
        let endpoints = service.known_endpoints().expect("a registry knows all").iter();
        let usable = endpoints.filter(|endpoint| endpoint.state == State::Usable);
        let place = |e: &portolan_core::endpoint::Endpoint| {
            (e.container.to_string(), e.key.container_port, e.addresses[0].to_string(), e.port)
        };
        usable.map(place).collect::<Vec<_>>()
    };
    let ports = |service: &str| places(service).into_iter().map(|(_, port, ..)| port).collect::<BTreeSet<_>>();
    assert_eq!(ports("two"), [80, 81, 82].into());
    let is_dynamic =
        |(_, port, address, host_port): &(String, u16, String, u16)| address == "10.0.3.7" && host_port != port;
    assert!(places("two").iter().all(is_dynamic), "{:?}", places("two"));
    assert_eq!(ports("range"), [5000, 5001, 5002].into());
    let hosts: BTreeSet<u16> = places("range").into_iter().map(|place| place.3).collect();
    assert_eq!(hosts.len(), 3, "each port of a range has its own host port");
    assert_eq!(places("host"), [("host".to_owned(), 9300, "10.0.3.7".to_owned(), 9300)]);
    let own = places("own");
    assert_eq!((own.len(), own[0].1, own[0].3), (1, 8080, 8080));
    assert_ne!(own[0].2, "10.0.3.7", "the task's own interface");
    let far = places("far");
    let addresses: BTreeSet<&String> = far.iter().map(|place| &place.2).collect();
    assert_eq!((far.len(), addresses.len(), far[0].3), (2, 2, 8443));
    let meshed = places("meshed");
    assert_eq!((meshed.len(), meshed[0].0.as_str(), meshed[0].1), (1, "meshed", 7000), "no agent, no pause container");
    let names: Vec<_> = catalog
        .service(&key("two"))
        .iter()
        .flat_map(|s| s.known_endpoints())
        .flat_map(|set| set.iter())
        .filter_map(|e| e.port_name.clone())
        .collect();
    assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["http"]);
    drop(catalog);
    registry.stop().await
}
