"""Calls from a function to its node."""

import json

from ._context import current


class Reply(bytes):
    """The answer of another function: its bytes, and what it said beside them."""

    content_type = ""
    attributes = {}

    def __new__(cls, body=b"", content_type="", attributes=None):
        self = super().__new__(cls, body)
        self.content_type = content_type
        self.attributes = attributes or {}
        return self

    def json(self):
        """Return the value that the bytes hold as JSON."""
        return json.loads(self)

    def text(self):
        """Return the bytes as UTF-8."""
        return str(self, "utf-8")


class _Absent:
    """Stands for the node where there is none."""

    def call(self, op, target, body, content_type, context):
        raise RuntimeError(f"{op} {target}: there is no node; see covey.testing")

    async def acall(self, op, target, body, content_type, context):
        self.call(op, target, body, content_type, context)


# The runtime, or a test, puts the node here.
_node = _Absent()
_dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode


def encode(payload):
    """Return a payload, or a handler's answer, as bytes and its content type."""
    if isinstance(payload, str):
        return payload.encode(), "text/plain; charset=utf-8"
    if isinstance(payload, (bytes, bytearray)):
        return payload, ""
    if isinstance(payload, memoryview):
        return payload.tobytes(), ""
    text = _dumps(payload)
    try:
        return text.encode(), "application/json"
    except UnicodeEncodeError:  # Half a surrogate pair, which only an escape can express.
        return json.dumps(payload).encode(), "application/json"


def invoke(name, payload=None):
    """Call another function of the same app and return its answer, a Reply, which is bytes with a method json().

    name may carry a qualifier, as in "resize:3" or "resize:beta". Bytes and text go as they are, anything else as
    JSON. The call takes the deadline of the current call along. An error of the function comes back as Error; one
    of class NotStarted had no effect and may be tried again.
    """
    body, content_type = encode(payload)
    return _node.call("invoke", name, body, content_type, current())


async def ainvoke(name, payload=None):
    """invoke for async handlers."""
    body, content_type = encode(payload)
    return await _node.acall("invoke", name, body, content_type, current())
