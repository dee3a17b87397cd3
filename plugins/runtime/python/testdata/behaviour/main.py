"""Handlers that show one thing each; see behaviour_test.go."""

import asyncio
import atexit
import functools
import logging
import os
import subprocess
import sys
import threading
import time

import covey
import nesting

atexit.register(lambda: print("the nest is empty"))
closed = []
produced = 0


def describe(event, context):
    """Tell what the event is."""
    return {"type": type(event).__name__, "repr": repr(event), "payload": context.payload.decode("latin-1")}


@covey.raw
def describe_raw(event, context):
    return describe(event, context)


def answers(event, context):
    """Answer with the kind of value that is asked for."""
    return {
        "none": None,
        "text": "chirp é",
        "bytes": b"\x00\xff",
        "list": [1, {"a": None}],
        "surrogate": "\ud800",
        "view": memoryview(b"seen"),
        "half": {"half": "\ud83d"},
        "set": {1, 2},
        "nan": float("nan"),
    }[event]


def beside(event, context):
    context.set_content_type("text/html")
    context.set_status(201)
    context.set_attribute("Location", "/nest")
    return "<p>"


def objects(event, context):
    """Stream values."""
    yield {"n": 1}
    yield "text\n"
    yield b"bytes"


def endless(event, context):
    """Stream until nobody reads."""
    global produced
    try:
        while True:
            produced += 1
            yield b"x" * 65536
    finally:
        closed.append("sync")


async def endless_async(event, context):
    global produced
    if event == "state":
        yield {"produced": produced, "closed": closed}
        return
    try:
        while True:
            produced += 1
            yield b"x" * 65536
    finally:
        closed.append("async")


def endless_or_state(event, context):
    return state(event, context) if event == "state" else endless(event, context)


def state(event, context):
    return {"produced": produced, "closed": closed}


def nothing(event, context):
    """Stream nothing."""
    return
    yield


def deep(event, context):
    """Fall over deep inside."""

    def fall():
        raise LookupError("no worm")

    fall()


def prints(event, context):
    print("out", event)
    print("err", event, file=sys.stderr)
    print("no newline", end="")
    return None


def logs(event, context):
    logging.getLogger("nest").warning("low on %s", "twigs", extra={"left": 3})
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("fell")
    logging.debug("not shown")
    logging.info("x" * 40000)
    return None


def inherited(event, context):
    """Tell whether a child can reach the data plane."""
    script = "import os\ntry:\n os.fstat(3); print('open')\nexcept OSError:\n print('closed')"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, close_fds=False).stdout.strip()


def where(event, context):
    return {"thread": threading.current_thread() is threading.main_thread(), "twigs": nesting.TWIGS, "covey": "COVEY_PLUGIN" in os.environ}


def slow(event, context):
    time.sleep(event)
    return "slept"


def host(event, context):
    reply = covey.invoke("other", "x" * event["send"])
    return {"n": len(reply), "type": reply.content_type}


async def host_blocking(event, context):
    """Make a blocking host call on the event loop."""
    return host(event, context)


async def host_thread(event, context):
    return await asyncio.to_thread(host, event, context)


def host_own_loop(event, context):
    """Run an event loop of its own inside a plain handler."""

    async def ask():
        return await asyncio.gather(*(covey.ainvoke("other", "x") for _ in range(3)))

    return {"n": sum(len(r) for r in asyncio.run(ask()))}


def decorated(function):
    @functools.wraps(function)
    def wrapper(event, context):
        return function(event, context)

    return wrapper


@decorated
async def hidden(event, context):
    """Look like a plain handler."""
    await asyncio.sleep(0)
    return {"id": covey.current().request_id, "main": threading.current_thread() is threading.main_thread()}


@decorated
async def hidden_stream(event, context):
    for i in range(3):
        await asyncio.sleep(0)
        yield {"n": i}


@decorated
async def hidden_wait(event, context):
    if event == "state":
        return closed
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        closed.append("hidden")
        raise


class Handler:
    """A callable object with an async method."""

    async def __call__(self, event, context):
        return {"main": threading.current_thread() is threading.main_thread()}


instance = Handler()


def waits_for_host(event, context):
    """Wait for another function until the call is cancelled."""
    if event == "state":
        return closed
    try:
        covey.invoke("never")
    except covey.Cancelled as err:
        closed.append(err.type)
        raise


def exits(event, context):
    sys.exit(event)


NOT_CALLABLE = 7
