"""Handlers for a crowd of callers that do everything at once."""

import asyncio
import random
import time

import covey


def handler(event, context):
    op = event["op"]
    if op == "wait":
        if not context.cancelled.wait(10):
            raise RuntimeError("nobody cancelled")
        raise covey.Cancelled()
    if op == "stream":
        return (event["data"] for _ in range(event["n"]))
    if op == "host":
        return covey.invoke("other", event["data"])
    if op == "fail":
        raise covey.Error("Asked", event["data"][:10])
    time.sleep(random.random() / 1000)
    return {"data": event["data"]}


async def coroutine(event, context):
    op = event["op"]
    if op == "wait":
        await asyncio.sleep(10)
        raise RuntimeError("nobody cancelled")
    if op == "stream":
        return stream(event)
    if op == "host":
        return await covey.ainvoke("other", event["data"])
    if op == "fail":
        raise covey.Error("Asked", event["data"][:10])
    await asyncio.sleep(random.random() / 1000)
    return {"data": event["data"]}


async def stream(event):
    for _ in range(event["n"]):
        yield event["data"]
        await asyncio.sleep(0)
