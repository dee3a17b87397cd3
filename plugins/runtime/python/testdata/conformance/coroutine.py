"""The same program with async handlers."""

import asyncio

import covey
import main

cancelled = 0
met = {}


async def handler(event, context):
    """Run one operation."""
    operation = OPERATIONS.get(event["op"])
    if operation is not None:
        return await operation(event, context)
    output = main.OPERATIONS[event["op"]](event, context)
    return stream(output) if event["op"] == "stream" else output


async def stream(lines):
    for line in lines:
        await asyncio.sleep(0)
        yield line


async def wait(event, context):
    global cancelled
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled += 1
        raise


async def count(event, context):
    return {"n": cancelled}


async def meet(event, context):
    n = event["n"]
    waiting, all_there = met.setdefault(n, ([], asyncio.Event()))
    waiting.append(context.request_id)
    if len(waiting) == n:
        all_there.set()
    await all_there.wait()
    return {"n": n}


async def invoke(event, context):
    return {"data": (await covey.ainvoke(event["type"], event["data"])).text()}


async def panic(event, context):
    await asyncio.sleep(0)
    raise RuntimeError(event["data"])


OPERATIONS = {"wait": wait, "cancelled": count, "meet": meet, "invoke": invoke, "panic": panic}
