"""SageMaker's runtime client (boto3), unchanged but for its address: ``python sagemaker_runtime.py URL MODEL``."""

from __future__ import annotations

import csv
import json
import sys

import boto3
from botocore import UNSIGNED
from botocore.client import Config
from botocore.exceptions import ClientError

url, model = sys.argv[1:]
rows = json.load(sys.stdin)
client = boto3.client(
    "sagemaker-runtime", endpoint_url=url, region_name="us-east-1", config=Config(signature_version=UNSIGNED)
)
lines = "\n".join(",".join(str(cell) for cell in row) for row in rows).encode()
found = {}
answer = client.invoke_endpoint(
    EndpointName=model, Body=json.dumps({"instances": rows}), ContentType="application/json"
)
found["json"] = json.loads(answer["Body"].read())["predictions"]
answer = client.invoke_endpoint(EndpointName=model, Body=lines, ContentType="text/csv", Accept="text/csv")
found["csv"] = [[float(cell) for cell in row] for row in csv.reader(answer["Body"].read().decode().splitlines())]
found["csv type"] = answer["ContentType"]
body = "\n".join(json.dumps({"features": row}) for row in rows)
answer = client.invoke_endpoint(
    EndpointName=model, Body=body, ContentType="application/jsonlines", Accept="application/jsonlines",
    CustomAttributes="trace=1", InferenceId="one",
)  # fmt: skip
found["lines"] = [json.loads(line) for line in answer["Body"].read().splitlines()]
try:
    client.invoke_endpoint(EndpointName=model, Body=b"{", ContentType="application/json")
except ClientError as error:
    found["error"] = str(error)
    found["status"] = error.response["ResponseMetadata"]["HTTPStatusCode"]
print(json.dumps(found))
