"""The Lambda function in Python that the conformance suite drives. It knows nothing of Covey."""

import hashlib
import logging
import os
import threading
import time

logger = logging.getLogger()

INIT = os.environ.get("CONFORMANCE_INIT")
if INIT == "error":
    raise RuntimeError("no nest")
if INIT == "panic":
    raise SystemError("no nest")
if INIT == "exit":
    os._exit(4)

lock = threading.Condition()
waiting = {}


def lambda_handler(event, context):
    return OPERATIONS[event["op"]](event, context)


def see(event, context):
    arn = context.invoked_function_arn.split(":")
    assert arn[6] == context.function_name and arn[7] == context.function_version, arn
    out = {
        "request_id": context.aws_request_id,
        "app": "default" if arn[4] == "000000000000" else arn[4],
        "function": context.function_name,
        "version": int(context.function_version),
        "remaining_ms": context.get_remaining_time_in_millis(),
    }
    trace = dict(part.split("=") for part in os.environ.get("_X_AMZN_TRACE_ID", "").split(";") if part)
    if trace:
        root = trace["Root"].split("-")
        out["trace"] = "00-%s%s-%s-0%s" % (root[1], root[2], trace["Parent"], trace["Sampled"])
    return out


def fail(event, context):
    raise type(event["type"], (Exception,), {})(event["data"])


def fall(event, context):
    raise RuntimeError(event["data"])


def hang(event, context):
    while True:
        time.sleep(3600)


def meet(event, context):
    n = event["n"]
    with lock:
        waiting[n] = waiting.get(n, 0) + 1
        lock.notify_all()
        lock.wait_for(lambda: waiting[n] >= n)
    return {"n": n}


def log(event, context):
    logger.info(event["data"], extra={"field": 1})
    return {}


def allocate(event, context):
    block = bytearray(event["n"])
    for i in range(0, len(block), 4096):
        block[i] = 1
    return {"n": len(block)}


def digest(event, context):
    data = event["data"].encode()
    return {"n": len(data), "data": hashlib.sha256(data).hexdigest()}


OPERATIONS = {
    "echo": lambda event, context: {"data": event.get("data", "")},
    "context": see,
    "error": fail,
    "panic": fall,
    "exit": lambda event, context: os._exit(event["n"]),
    "hang": hang,
    "hash": digest,
    "produce": lambda event, context: "x" * (event["n"] - 2),
    "meet": meet,
    "log": log,
    "env": lambda event, context: {"data": os.environ.get(event["data"], "")},
    "allocate": allocate,
}
