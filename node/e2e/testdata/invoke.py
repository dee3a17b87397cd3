"""Invokes functions with boto3: cases come as JSON on standard input, what each
gave goes as JSON to standard output."""

import base64
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

job = json.load(sys.stdin)
results = {}
for case in job["cases"]:
    client = boto3.client(
        "lambda",
        endpoint_url=job["endpoint"],
        region_name=case.get("region", "eu-central-1"),
        aws_access_key_id=case["id"],
        aws_secret_access_key=case["secret"],
        aws_session_token=case.get("session"),
        config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
    )
    params = case["params"]
    if "repeat" in case:
        params["Payload"] = b'"' + b"x" * case["repeat"] + b'"'
    try:
        answer = client.invoke(**params)
        body = answer["Payload"].read()
        result = {
            "status": answer["StatusCode"],
            "length": len(body),
            "payload": body[:1000].decode(),
            "version": answer.get("ExecutedVersion", ""),
            "function_error": answer.get("FunctionError", ""),
            "log": base64.b64decode(answer.get("LogResult", "")).decode(),
            "request_id": answer["ResponseMetadata"].get("RequestId", ""),
        }
    except ClientError as error:
        result = {
            "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
            "code": error.response["Error"]["Code"],
            "message": error.response["Error"]["Message"],
            "class": type(error).__name__,
            "request_id": error.response["ResponseMetadata"].get("RequestId", ""),
        }
    results[case["name"]] = result
json.dump(results, sys.stdout)
