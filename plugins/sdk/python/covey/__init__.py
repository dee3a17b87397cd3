"""What a Covey function in Python may use: its call, typed errors, logging and other functions.

A function is a callable that gets an event and the call's context::

    import covey

    def handler(event, context):
        if not event.get("name"):
            raise covey.Error("MissingName", "the input has no name")
        return {"greeting": f"Hello, {event['name']}!"}

The package needs nothing but the standard library, and works without a node: make a Context and call the handler
(see covey.testing for host calls).
"""

from ._context import Context, current, raw
from ._errors import Cancelled, Error, NotStarted
from ._host import Reply, ainvoke, invoke
from ._log import LogHandler

__all__ = [
    "Cancelled",
    "Context",
    "Error",
    "LogHandler",
    "NotStarted",
    "Reply",
    "ainvoke",
    "current",
    "invoke",
    "raw",
]
__version__ = "0.1.0"
