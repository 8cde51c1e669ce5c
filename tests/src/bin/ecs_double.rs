//! The ECS double to play with: AWS on a port of this machine, with a cluster that lives and faults by chance.
//!
//! Usage: ecs_double [ADDRESS] [SEED] [FAULT=PROBABILITY]..., such as `ecs_double 127.0.0.1:4566 7 PageFails=0.2 Lag=0.1`.
//! It prints where it listens and how to ask it, and goes on until it is killed.

#![expect(clippy::print_stdout, reason = "a program to play with says what to do")]

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result};
use portolan_registry::clock::Clock;
use portolan_tests::double::{Definition, Double, Fault, LaunchType, Pace, Server, Service, ServiceWish, When};
use portolan_tests::wait::pause;

/// How often one of the services is deployed again.
const DEPLOYMENT_EVERY: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (faults, plain): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| arg.contains('='));
    let address = plain.first().map_or("127.0.0.1:0", |address| address.as_str());
    let seed = plain.get(1).map_or(Ok(1), |seed| seed.parse()).context("SEED is a number")?;
    let aws = Double::with_clock(seed, Clock::system());
    let services = populate(&aws);
    for fault in faults {
        let (name, chance) = fault.split_once('=').context("FAULT=PROBABILITY")?;
        let known = || format!("{name} is none of {:?}", Fault::ALL);
        let chance: f64 = chance.parse().context("PROBABILITY is a number")?;
        anyhow::ensure!((0.0..=1.0).contains(&chance), "PROBABILITY is between 0 and 1");
        aws.fault(Fault::by_name(name).with_context(known)?, When::Chance(chance));
    }
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    let server = Server::start_on(&aws, listener)?;
    explain(&server);
    for service in services.iter().cycle() {
        pause(DEPLOYMENT_EVERY);
        service.redeploy();
        println!("deploying {}; {} calls so far", service.arn, aws.calls().len());
    }
    Ok(())
}

/// A small company.
fn populate(aws: &Double) -> Vec<Service> {
    aws.queue("events");
    let cluster = aws.cluster("prod");
    for (az, address) in [("a", "10.0.3.7"), ("b", "10.0.4.7"), ("c", "10.0.5.7")] {
        cluster.instance_in(&format!("eu-central-1{az}"), &[address]).flap(Duration::from_secs(900));
    }
    cluster.external_instance();
    let search = aws.define(Definition::bridge("elasticsearch").port(9200).named("http").port(9300).checked());
    let kibana = aws.define(Definition::bridge("kibana").port(5601).named("http").label("portolan.tags", "ui"));
    let api = aws.define(Definition::awsvpc("api").port(8080).named("grpc").speaks("grpc"));
    let agent = aws.define(Definition::host("agent").port(8125).udp());
    let services = vec![cluster.service("elasticsearch", &search, 3), cluster.service("kibana", &kibana, 2)];
    let wish = ServiceWish { launch_type: LaunchType::Fargate, is_balanced: true, ..ServiceWish::default() };
    let api = cluster.service_as("api", (&api, 2), wish);
    cluster.service("agent", &agent, 3);
    aws.pace(Pace::Lifelike);
    services.into_iter().chain([api]).collect()
}

fn explain(server: &Server) {
    let (url, queue) = (server.url(), server.queue_url("events"));
    println!("the ECS double listens on {url}");
    println!("export AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_DEFAULT_REGION=eu-central-1");
    println!("aws --endpoint-url {url} ecs list-tasks --cluster prod");
    println!("aws --endpoint-url {url} ec2 describe-instances");
    println!("aws --endpoint-url {url} sqs receive-message --wait-time-seconds 20 --queue-url {queue}");
}
