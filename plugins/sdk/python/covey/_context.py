"""A call as its handler sees it."""

import threading
import time
from contextvars import ContextVar

_current = ContextVar("covey_context", default=None)
# Guards the making of the events of all contexts, which few handlers ask for.
_making = threading.Lock()


def current():
    """Return the Context of the call that this code runs for, or None outside a call.

    Tasks and asyncio.to_thread take it along; a thread that a handler starts does not.
    """
    return _current.get()


def raw(handler):
    """Mark a handler that wants its event as bytes, whatever the content type says."""
    handler.__covey_raw__ = True
    return handler


class Context:
    """One call: who calls, until when, and what is to be said beside the answer."""

    __slots__ = (
        "app",
        "attempt",
        "attributes",
        "content_type",
        "depth",
        "function",
        "node",
        "request_id",
        "trace",
        "version",
        "_deadline",
        "_event",
        "_is_cancelled",
        "_payload",
        "_reply_attributes",
        "_reply_content_type",
        "_reply_status",
        "_running",
    )

    def __init__(
        self,
        request_id="",
        *,
        attempt=1,
        app="default",
        function="",
        version=0,
        node="",
        content_type="",
        trace="",
        depth=0,
        attributes=None,
        timeout=None,
        payload=b"",
    ):
        """Make the context of a call, to test a handler without a node. timeout is in seconds."""
        self.request_id = request_id
        """The same in every attempt at one call."""
        self.attempt = attempt
        """Counts from 1. A higher one says that an earlier attempt may have had effects."""
        self.app = app
        self.function = function
        self.version = version
        self.node = node
        """The id of the node that runs the call."""
        self.content_type = content_type
        """The payload's."""
        self.trace = trace
        """A W3C traceparent, or empty."""
        self.depth = depth
        """How many functions called each other up to this call."""
        self.attributes = {} if attributes is None else dict(attributes)
        """What came beside the payload, such as the HTTP method and path of a web request."""
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._payload = payload
        self._event = None
        self._is_cancelled = False
        self._reply_content_type = ""
        self._reply_status = 0
        self._reply_attributes = None
        self._running = None

    @property
    def payload(self):
        """The bytes that the event was made of."""
        if type(self._payload) is not bytes:
            self._payload = bytes(self._payload)
        return self._payload

    @property
    def deadline(self):
        """When the caller gives up and the instance is ended, as time.time() counts; None means never."""
        return None if self._deadline is None else time.time() + self._deadline - time.monotonic()

    def remaining(self):
        """Return the seconds left until the deadline, not below zero; None if there is none."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    @property
    def cancelled(self):
        """A threading.Event that is set when nobody waits for the call any more.

        Handlers that take long look at it, or wait for it. An async handler is cancelled as a task instead.
        """
        with _making:
            if self._event is None:
                self._event = threading.Event()
                if self._is_cancelled:
                    self._event.set()
            return self._event

    def _cancel(self):
        with _making:
            self._is_cancelled = True
            if self._event is not None:
                self._event.set()

    def set_content_type(self, content_type):
        """Set the content type of the answer. A generator must do so before it yields."""
        self._reply_content_type = content_type

    def set_status(self, status):
        """Set the HTTP status that a web caller sees, if the route passes it on. The call does not fail by it."""
        if not 100 <= status <= 999:
            raise ValueError(f"{status} is no HTTP status")
        self._reply_status = status

    def set_attribute(self, name, value):
        """Add an attribute to the answer, such as an HTTP header for a web caller."""
        if self._reply_attributes is None:
            self._reply_attributes = []
        self._reply_attributes.append((name, str(value)))

    def __repr__(self):
        return f"<covey.Context {self.request_id!r} of {self.app}/{self.function}:{self.version}>"
