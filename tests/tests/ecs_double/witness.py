"""What boto3 reads from the double, in one line of JSON; and whether every answer has the shape of AWS's own models.

Usage: witness.py ENDPOINT CLUSTER QUEUE_URL. Fails when an answer has a field that AWS's model does not have, or one of
another type.
"""

import json
import sys
import urllib.request

import boto3
import botocore.session

endpoint, cluster, queue_url = sys.argv[1:4]


def client(service):
    return boto3.client(service, endpoint_url=endpoint, region_name="eu-central-1")


ecs, ec2, sqs, sts = (client(service) for service in ("ecs", "ec2", "sqs", "sts"))
model = botocore.session.get_session().get_service_model("ecs")
wrong = []


def check(shape, value, path):
    """Compares a value with AWS's model of it."""
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, dict):
            wrong.append(f"{path} is no object")
            return
        for name, inner in value.items():
            if name in shape.members:
                check(shape.members[name], inner, f"{path}.{name}")
            else:
                wrong.append(f"{path}.{name} is unknown")
    elif kind == "list":
        if not isinstance(value, list):
            wrong.append(f"{path} is no list")
            return
        for inner in value:
            check(shape.member, inner, f"{path}[]")
    elif kind == "map":
        for inner in value.values():
            check(shape.value, inner, f"{path}.*")
    else:
        kinds = {"string": str, "integer": int, "long": int, "boolean": bool, "double": float, "timestamp": (int, float)}
        if not isinstance(value, kinds[kind]) or kind != "boolean" and isinstance(value, bool):
            wrong.append(f"{path} is {value!r}, not of type {kind}")


def raw(operation, request):
    """Asks as boto3 does, and looks at the bytes themselves."""
    headers = {
        "X-Amz-Target": f"AmazonEC2ContainerServiceV20141113.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/ecs/aws4_request, Signature=x",
    }
    sent = urllib.request.Request(endpoint, json.dumps(request).encode(), headers)
    with urllib.request.urlopen(sent) as answer:
        value = json.loads(answer.read())
    check(model.operation_model(operation).output_shape, value, operation)


def pages(operation, result, **arguments):
    paginator = ecs.get_paginator(operation)
    return [arn for page in paginator.paginate(cluster=cluster, **arguments) for arn in page[result]]


tasks = pages("list_tasks", "taskArns", PaginationConfig={"PageSize": 2})
instances = pages("list_container_instances", "containerInstanceArns")
services = pages("list_services", "serviceArns")
described = ecs.describe_tasks(cluster=cluster, tasks=tasks + ["0" * 32], include=["TAGS"])
raw("ListTasks", {"cluster": cluster, "maxResults": 2})
raw("DescribeTasks", {"cluster": cluster, "tasks": tasks, "include": ["TAGS"]})
raw("DescribeContainerInstances", {"cluster": cluster, "containerInstances": instances})
raw("DescribeServices", {"cluster": cluster, "services": services})
raw("DescribeClusters", {"clusters": [cluster, "nothing"]})
raw("ListClusters", {})
definitions = {}
for arn in sorted({task["taskDefinitionArn"] for task in described["tasks"]}):
    raw("DescribeTaskDefinition", {"taskDefinition": arn})
    found = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    containers = found["containerDefinitions"]
    definitions[found["family"]] = [
        mapping.get("name") for container in containers for mapping in container["portMappings"]
    ]

found = ecs.describe_container_instances(cluster=cluster, containerInstances=instances)["containerInstances"]
machines = sorted(instance["ec2InstanceId"] for instance in found)
ids = [machine for machine in machines if machine.startswith("i-")]
reservations = ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": ids + ["i-0aaaaaaaaaaaaaaaa"]}])
addresses = {
    machine["InstanceId"]: machine["PrivateIpAddress"]
    for reservation in reservations["Reservations"]
    for machine in reservation["Instances"]
}

# The details of events have the API's fields; only these are their own.
OWN = {"Task": {"updatedAt"}, "ContainerInstance": {"updatedAt", "clusterArn"}}
events = {}
while True:
    received = sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, AttributeNames=["ApproximateReceiveCount"]
    ).get("Messages", [])
    if not received:
        break
    for message in received:
        event = json.loads(message["Body"])
        kind = event["detail-type"]
        events[kind] = events.get(kind, 0) + 1
        shape = {"ECS Task State Change": "Task", "ECS Container Instance State Change": "ContainerInstance"}.get(kind)
        if shape:
            unknown = set(event["detail"]) - set(model.shape_for(shape).members) - OWN[shape]
            wrong.extend(f"event {shape}.{name} is unknown" for name in unknown)
    entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(received)]
    deleted = sqs.delete_message_batch(QueueUrl=queue_url, Entries=entries)
    assert len(deleted["Successful"]) == len(entries), deleted

print(
    json.dumps(
        {
            "tasks": sorted([task["taskArn"], task["lastStatus"], task["version"]] for task in described["tasks"]),
            "started": sorted({task["startedAt"].timestamp() for task in described["tasks"]}),
            "failures": [failure["reason"] for failure in described["failures"]],
            "definitions": definitions,
            "machines": machines,
            "addresses": addresses,
            "services": sorted(
                [service["serviceName"], service["runningCount"]]
                for service in ecs.describe_services(cluster=cluster, services=services)["services"]
            ),
            "account": sts.get_caller_identity()["Account"],
            "events": events,
        }
    )
)
if wrong:
    sys.exit("\n".join(wrong))
