"""Small handlers to measure the runtime with."""

import logging

import covey

logger = logging.getLogger(__name__)


def handler(event, context):
    return {"greeting": "Hello, " + event["name"] + "!"}


@covey.raw
def echo(event, context):
    return event


async def coroutine(event, context):
    return {"greeting": "Hello, " + event["name"] + "!"}
