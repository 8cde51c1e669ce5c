//! EC2 and STS on the wire: forms in, XML out.

use std::net::Ipv4Addr;
use std::sync::Arc;

use portolan_registry::ecs::api::Ec2Instance;

use super::reply::{Reply, escaped};
use super::request::{Request, Service};
use crate::double::Double;
use crate::double::actions::{Asked, Refusal};
use crate::double::world::ACCOUNT;

/// Answers one call.
pub(super) fn answer(aws: &Double, request: &Request) -> Reply {
    match (request.service, request.operation.as_str()) {
        (Service::Ec2, "DescribeInstances") => describe_instances(aws, request),
        (Service::Sts, "GetCallerIdentity") => caller_identity(aws),
        (service, operation) => Reply::unknown(service, operation),
    }
}

fn describe_instances(aws: &Double, request: &Request) -> Reply {
    let verdict = aws.with(|state| {
        state.judge("ec2:DescribeInstances", |state| {
            let ids = request.fields("InstanceId");
            if !ids.is_empty() {
                return Ok((state.describe_instances(&ids)?, None));
            }
            let asked = Asked {
                token: request.field("NextToken").map(str::to_owned),
                results_max: request.field("MaxResults").and_then(|max| max.parse().ok()),
            };
            state.filter_instances(&filtered(request)?, &asked)
        })
    });
    Reply::of(Service::Ec2, verdict, |(machines, next)| {
        let reservations: String = machines.iter().map(reservation).collect();
        let next = next.map(|next| element("nextToken", &next)).unwrap_or_default();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
             <requestId>00000000-0000-4000-8000-000000000000</requestId>\
             <reservationSet>{reservations}</reservationSet>{next}</DescribeInstancesResponse>"
        )
    })
}

/// The ids of filter `instance-id`; none are all.
fn filtered(request: &Request) -> Result<Vec<String>, Refusal> {
    let mut ids = Vec::new();
    for number in (1..).take_while(|number| request.field(&format!("Filter.{number}.Name")).is_some()) {
        let name = request.field(&format!("Filter.{number}.Name")).unwrap_or_default();
        if name != "instance-id" {
            let message = format!("The filter '{name}' is invalid");
            return Err(Refusal::Invalid { code: "InvalidParameterValue", message });
        }
        ids.extend(request.fields(&format!("Filter.{number}.Value")));
    }
    Ok(ids)
}

fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escaped(text))
}

fn reservation(machine: &Arc<Ec2Instance>) -> String {
    let code = match machine.state.as_str() {
        "pending" => "0",
        "running" => "16",
        "shutting-down" => "32",
        "terminated" => "48",
        "stopping" => "64",
        _ => "80",
    };
    let (ipv4, ipv6): (Vec<&String>, Vec<&String>) =
        machine.addresses.iter().partition(|address| address.parse::<Ipv4Addr>().is_ok());
    let first = ipv4.first().map(|address| element("privateIpAddress", address)).unwrap_or_default();
    let interfaces: String = ipv4.iter().enumerate().map(|(index, address)| interface(index, address, &ipv6)).collect();
    let state = element("code", code) + &element("name", &machine.state);
    let placement = element("availabilityZone", machine.availability_zone.as_deref().unwrap_or_default());
    format!(
        "<item><reservationId>r-0123456789abcdef0</reservationId><ownerId>{ACCOUNT}</ownerId><groupSet/><instancesSet>\
         <item><instanceId>{}</instanceId><imageId>ami-0123456789abcdef0</imageId><instanceState>{state}</instanceState>\
         <instanceType>m5.large</instanceType><placement>{placement}<tenancy>default</tenancy></placement>{first}\
         <subnetId>subnet-0123456789abcdef0</subnetId><vpcId>vpc-0123456789abcdef0</vpcId>\
         <networkInterfaceSet>{interfaces}</networkInterfaceSet></item></instancesSet></item>",
        machine.instance_id
    )
}

fn interface(index: usize, address: &str, ipv6: &[&String]) -> String {
    let ipv6: String = match index {
        0 => ipv6.iter().map(|address| format!("<item>{}</item>", element("ipv6Address", address))).collect(),
        _ => String::new(),
    };
    let shown = element("privateIpAddress", address);
    format!(
        "<item><networkInterfaceId>eni-0123456789abcde{index:02}</networkInterfaceId><status>in-use</status>{shown}\
         <privateIpAddressesSet><item>{shown}<primary>true</primary></item></privateIpAddressesSet>\
         <ipv6AddressesSet>{ipv6}</ipv6AddressesSet></item>"
    )
}

fn caller_identity(aws: &Double) -> Reply {
    let verdict = aws.with(|state| state.judge("sts:GetCallerIdentity", |_| Ok(())));
    Reply::of(Service::Sts, verdict, |()| {
        let arn = element("Arn", &format!("arn:aws:sts::{ACCOUNT}:assumed-role/portolan/test"));
        let result = arn + &element("UserId", "AROATESTTESTTESTTEST:test") + &element("Account", ACCOUNT);
        format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             {result}</GetCallerIdentityResult><ResponseMetadata><RequestId>00000000-0000-4000-8000-000000000000\
             </RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        )
    })
}
