"""What boto3 calls the trouble that it has with each call, in one line of JSON. Usage: troubles.py ENDPOINT QUEUE_URL."""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, queue_url = sys.argv[1:3]
# One try each: no trouble is to be waited out.
config = Config(retries={"total_max_attempts": 1}, read_timeout=2)


def client(service):
    return boto3.client(service, endpoint_url=endpoint, region_name="eu-central-1", config=config)


ecs, ec2, sqs, sts = (client(service) for service in ("ecs", "ec2", "sqs", "sts"))
unknown = ["i-0aaaaaaaaaaaaaaaa"]
calls = {
    "list_tasks": lambda: ecs.list_tasks(cluster="prod"),
    "list_services": lambda: ecs.list_services(cluster="prod"),
    "list_container_instances": lambda: ecs.list_container_instances(cluster="prod"),
    "list_clusters": lambda: ecs.list_clusters(),
    "describe_clusters": lambda: ecs.describe_clusters(clusters=["prod"]),
    "describe_services": lambda: ecs.describe_services(cluster="prod", services=["web"]),
    "describe_tasks": lambda: ecs.describe_tasks(cluster="other", tasks=["x"]),
    "get_caller_identity": lambda: sts.get_caller_identity(),
    "describe_instances": lambda: ec2.describe_instances(),
    "describe_instances again": lambda: ec2.describe_instances(InstanceIds=unknown),
    "receive_message": lambda: sqs.receive_message(QueueUrl=queue_url),
    "receive_message elsewhere": lambda: sqs.get_queue_attributes(QueueUrl=queue_url + "x"),
}


def trouble(call):
    try:
        call()
        return "no error"
    except ClientError as error:
        return error.response["Error"]["Code"]
    except Exception as error:
        return type(error).__name__


print(json.dumps({name: trouble(call) for name, call in calls.items()}))
