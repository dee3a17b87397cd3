"""Writes botocore.json: requests as AWS's own client puts them on the wire.

Run it with a Python that has boto3; it talks to a socket of its own on loopback.
The tests read the file alone, and verify each request at the time it was signed.
"""

import base64
import hashlib
import json
import os
import socketserver
import threading
import urllib.request
from urllib.parse import quote

import boto3
import botocore
from botocore.config import Config

KEY, SECRET = "CVKAGOLDENGOLDEN7777", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
seen = []


class Capture(socketserver.StreamRequestHandler):
    def handle(self):
        head = b""
        while True:
            line = self.rfile.readline()
            head += line
            if line in (b"\r\n", b""):
                break
        size = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
            if name.lower() == b"expect":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        seen.append((head, self.rfile.read(size)))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")


server = socketserver.TCPServer(("127.0.0.1", 0), Capture)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = "http://127.0.0.1:%d" % server.server_address[1]


def client(region="eu-central-1", change=None):
    c = boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}, user_agent="golden"),
    )
    if change:
        c.meta.events.register("before-call.lambda.Invoke", lambda params, **_: change(params))
    return c


def query(params):
    more = [("b", "2"), ("a", "1 2+3"), ("a b", "~-_.*/"), ("B", "é"), ("empty", ""), ("z", "2"), ("z", "1"), ("a-b", "x=y")]
    params["url"] += "&" + "&".join(quote(k, safe="-_.~") + "=" + quote(v, safe="-_.~") for k, v in more)


def headers(params):
    params["headers"].update({"X-Custom": "  some   words  apart ", "x-amz-meta": "a;b=c  d", "X-Amz-Empty": ""})


def hashed(params):
    params["headers"]["X-Amz-Content-SHA256"] = hashlib.sha256(params["body"]).hexdigest()


def wrongly_hashed(params):
    params["headers"]["X-Amz-Content-SHA256"] = hashlib.sha256(b"something else").hexdigest()


def unsigned(params):
    params["headers"]["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"


arn = "arn:aws:lambda:eu-central-1:123456789012:function:echo"
context = base64.b64encode(b'{"client":{"installation_id":"x"}}').decode()
cases = []


def case(name, call):
    seen.clear()
    call()
    (head, body), = seen
    entry = {"name": name, "head": head.decode("latin-1")}
    if len(body) > 4096:
        assert body == body[:1] * len(body)
        entry["repeat"], entry["times"] = body[:1].decode(), len(body)
    elif body:
        entry["body"] = body.decode()
    cases.append(entry)


case("plain", lambda: client().invoke(FunctionName="echo", Payload=b'{"a":1}'))
case("empty body", lambda: client().invoke(FunctionName="echo"))
case("large body", lambda: client().invoke(FunctionName="echo", Payload=b"x" * (1 << 20)))
case("other region", lambda: client("us-gov-west-1").invoke(FunctionName="echo", Payload=b"{}"))
case("qualifier", lambda: client().invoke(FunctionName="echo", Qualifier="live", Payload=b"{}"))
case("latest", lambda: client().invoke(FunctionName="echo", Qualifier="$LATEST", Payload=b"{}"))
case("arn", lambda: client().invoke(FunctionName=arn, Payload=b"{}"))
case("qualified arn", lambda: client().invoke(FunctionName=arn + ":live", Payload=b"{}"))
case("app and name", lambda: client().invoke(FunctionName="shop/cart", Payload=b"{}"))
case("odd name", lambda: client().invoke(FunctionName="a b+c~d*e%2Ff(g)'é", Payload=b"{}"))
case("query order", lambda: client(change=query).invoke(FunctionName="echo", Qualifier="1", Payload=b"{}"))
case("header spaces", lambda: client(change=headers).invoke(FunctionName="echo", Payload=b"{}"))
case("all headers", lambda: client().invoke(
    FunctionName="echo", InvocationType="DryRun", LogType="Tail", ClientContext=context, Payload=b"{}"))


case("hashed", lambda: client(change=hashed).invoke(FunctionName="echo", Payload=b'{"a":1}'))
case("wrongly hashed", lambda: client(change=wrongly_hashed).invoke(FunctionName="echo", Payload=b'{"a":1}'))
case("unsigned payload", lambda: client(change=unsigned).invoke(FunctionName="echo", Payload=b'{"a":1}'))


def presigned(**params):
    url = client().generate_presigned_url("invoke", Params=params, ExpiresIn=600)
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5).read()


case("presigned", lambda: presigned(FunctionName="echo"))
case("presigned qualifier", lambda: presigned(FunctionName=arn, Qualifier="a b"))

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "botocore.json"), "w") as f:
    json.dump({"made_with": "botocore " + botocore.__version__, "key": KEY, "secret": SECRET, "cases": cases}, f, indent=1)
    f.write("\n")
server.shutdown()
