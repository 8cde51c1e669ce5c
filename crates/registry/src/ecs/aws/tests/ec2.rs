//! DescribeInstances, which is written and read by hand.

use super::*;

fn page(instances: &str, rest: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
    <reservationSet><item><reservationId>r-1</reservationId><ownerId>123456789012</ownerId><groupSet/>
        <instancesSet>{instances}</instancesSet></item></reservationSet>{rest}
</DescribeInstancesResponse>"#
    )
}

const RUNNING: &str = r"<item><instanceId>i-0a</instanceId><imageId>ami-1</imageId>
    <instanceState><code>16</code><name>running</name></instanceState>
    <placement><availabilityZone>eu-central-1a</availabilityZone><groupName/><tenancy>default</tenancy></placement>
    <privateIpAddress>10.0.0.5</privateIpAddress><monitoring><state>disabled</state></monitoring>
    <networkInterfaceSet>
        <item><networkInterfaceId>eni-1</networkInterfaceId><privateIpAddress>10.0.0.5</privateIpAddress>
            <privateIpAddressesSet>
                <item><privateIpAddress>10.0.0.5</privateIpAddress><primary>true</primary></item>
                <item><privateIpAddress>10.0.0.6</privateIpAddress><primary>false</primary></item>
            </privateIpAddressesSet>
            <ipv6AddressesSet><item><ipv6Address>2001:db8::5</ipv6Address></item></ipv6AddressesSet></item>
        <item><privateIpAddress>10.0.1.5</privateIpAddress><privateIpAddressesSet/><ipv6AddressesSet/></item>
    </networkInterfaceSet><tagSet><item><key>a&amp;b</key><value/></item></tagSet></item>";

const TERMINATED: &str = "<item><instanceId>i-0b</instanceId><instanceState><code>48</code><name>terminated</name>\
    </instanceState><placement><availabilityZone/></placement><networkInterfaceSet/></item>";

#[tokio::test]
async fn instances_are_asked_by_filter_and_read_with_every_address() {
    let body = page(&[RUNNING, TERMINATED, "<item><imageId>ami-2</imageId></item>"].concat(), "<nextToken/>");
    let (server, sdk) = setup(vec![Reply::text(200, body)]).await;
    let found = sdk.describe_instances(strings(&["i-0a", "i-0b*", "i-0b"])).await.unwrap();
    let running = Ec2Instance {
        instance_id: "i-0a".into(),
        state: "running".into(),
        addresses: strings(&["10.0.0.5", "10.0.0.6", "10.0.1.5", "2001:db8::5"]),
        availability_zone: Some("eu-central-1a".into()),
    };
    let terminated = Ec2Instance { instance_id: "i-0b".into(), state: "terminated".into(), ..Ec2Instance::default() };
    assert_eq!(found, [running, terminated]);
    let asked = &server.asked()[0];
    let expected = "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=instance-id\
        &Filter.1.Value.1=i-0a&Filter.1.Value.2=i-0b";
    assert_eq!(asked.body, expected);
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    assert!(asked.header("authorization").contains("/eu-central-1/ec2/aws4_request"), "{}", asked.head);
}

#[tokio::test]
async fn no_instance_found_is_an_answer() {
    let empty = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
    let (_server, sdk) = setup(vec![Reply::text(200, empty)]).await;
    assert_eq!(sdk.describe_instances(strings(&["i-0a"])).await, Ok(vec![]));
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_none() {
    let whole = page(RUNNING, "");
    let answers = [
        whole[..whole.len() - 60].to_owned(),
        page(&RUNNING[..RUNNING.len() - 12], ""),
        page(RUNNING, "<nextToken>more</nextToken>"),
        "<html><body>Welcome to the hotel</body></html>".to_owned(),
        "{}".to_owned(),
        String::new(),
    ];
    for body in answers {
        let (_server, sdk) = setup(vec![Reply::text(200, body.clone())]).await;
        let answer = sdk.describe_instances(strings(&["i-0a"])).await;
        assert!(matches!(answer, Err(CallError::Failed { action: "ec2:DescribeInstances", .. })), "{answer:?}: {body}");
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let refused = |code: &str| {
        format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>M</Message></Error></Errors><RequestID>r</RequestID></Response>"
        )
    };
    let action = "ec2:DescribeInstances";
    let said = |code: &str| format!("{code}: M");
    let rows = [
        (503, "RequestLimitExceeded", CallError::Throttled { action, retry_after: None }),
        (403, "UnauthorizedOperation", CallError::Denied { action, message: said("UnauthorizedOperation") }),
        (401, "AuthFailure", CallError::Denied { action, message: said("AuthFailure") }),
        (400, "RequestExpired", CallError::Denied { action, message: said("RequestExpired") }),
        (503, "Unavailable", CallError::Failed { action, message: said("Unavailable") }),
    ];
    for (status, code, expected) in rows {
        let (server, sdk) = setup(vec![Reply::text(status, refused(code))]).await;
        assert_eq!(sdk.describe_instances(strings(&["i-0a"])).await, Err(expected));
        assert_eq!(server.asked().len(), 1, "{code} is not asked again");
    }
}

#[test]
fn ec2_is_found_beside_ecs_in_every_partition() {
    let rows = [
        ("https://ecs.eu-central-1.amazonaws.com", "https://ec2.eu-central-1.amazonaws.com"),
        ("https://ecs.cn-north-1.amazonaws.com.cn", "https://ec2.cn-north-1.amazonaws.com.cn"),
        ("https://ecs-fips.us-east-1.api.aws", "https://ec2-fips.us-east-1.api.aws"),
        ("https://ecs-fips.us-gov-west-1.amazonaws.com", "https://ec2.us-gov-west-1.amazonaws.com"),
        ("https://ecs-fips.us-gov-west-1.api.aws", "https://ec2-fips.us-gov-west-1.api.aws"),
        ("https://ecs.us-iso-east-1.c2s.ic.gov", "https://ec2.us-iso-east-1.c2s.ic.gov"),
    ];
    for (ecs, expected) in rows {
        assert_eq!(super::super::ec2::beside(ecs), expected);
    }
}
