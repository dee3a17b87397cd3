"""The Python program that the conformance suite of plugins/plugintest drives."""

import hashlib
import logging
import os
import sys
import threading
import time

import covey

mode = os.environ.get("CONFORMANCE_INIT")
if mode == "error":
    raise covey.Error("NoNest", "no nest")
if mode == "panic":
    raise RuntimeError("no nest")
if mode == "exit":
    sys.exit(4)

lock = threading.Lock()
cancelled = 0
met = {}


def handler(event, context):
    """Run one operation."""
    return OPERATIONS[event["op"]](event, context)


def seen(event, context):
    remaining = context.remaining()
    return {
        "request_id": context.request_id,
        "app": context.app,
        "function": context.function,
        "version": context.version,
        "attempt": context.attempt,
        "node": context.node,
        "trace": context.trace,
        "content_type": context.content_type,
        "attributes": context.attributes,
        "remaining_ms": 0 if remaining is None else int(remaining * 1000),
    }


def error(event, context):
    raise covey.Error(event["type"], event["data"])


def panic(event, context):
    raise RuntimeError(event["data"])


def hang(event, context):
    while True:
        time.sleep(60)


def wait(event, context):
    global cancelled
    context.cancelled.wait()
    with lock:
        cancelled += 1
    raise covey.Cancelled()


def digest(event, context):
    data = event["data"].encode()
    return {"n": len(data), "data": hashlib.sha256(data).hexdigest()}


def stream(event, context):
    for i in range(event["n"]):
        yield f"line {i}\n"
    if event.get("type"):
        raise covey.Error(event["type"], event["data"])


def meet(event, context):
    n = event["n"]
    with lock:
        barrier = met.setdefault(n, threading.Barrier(n))
    barrier.wait(context.remaining())
    return {"n": n}


def log(event, context):
    logging.info(event["data"], extra={"field": 1})
    return {}


def allocate(event, context):
    data = bytearray(event["n"])
    for i in range(0, len(data), 4096):
        data[i] = 1
    return {"n": len(data)}


OPERATIONS = {
    "echo": lambda event, context: {"data": event.get("data", "")},
    "context": seen,
    "error": error,
    "panic": panic,
    "exit": lambda event, context: sys.exit(event["n"]),
    "hang": hang,
    "wait": wait,
    "cancelled": lambda event, context: {"n": cancelled},
    "hash": digest,
    "produce": lambda event, context: '"' + "x" * (event["n"] - 2) + '"',
    "stream": stream,
    "meet": meet,
    "log": log,
    "env": lambda event, context: {"data": os.environ.get(event["data"], "")},
    "invoke": lambda event, context: {"data": covey.invoke(event["type"], event["data"]).text()},
    "allocate": allocate,
}
