"""One call of the function: from the frame that opened it to its answer."""

import json
import threading
import time

from covey import Cancelled, Context, Error
from covey._context import _current
from covey._host import encode

from . import failure, wire

_new_context = Context.__new__
_decode = json.JSONDecoder().decode
# Answers that certainly are neither a generator nor something to await.
_PLAIN = frozenset((dict, list, str, bytes, int, float, bool, type(None)))
_END = (wire.CHUNK, wire.ANSWER | wire.END, b"", b"")


def parse_context(head, body):
    """Return the Context that the head of an INVOKE describes."""
    d = wire.Decoder(head)
    c = _new_context(Context)
    c.request_id = d.string()
    c.attempt = d.uint32()
    remaining = d.duration()
    c._deadline = time.monotonic() + remaining if remaining else None
    c.app = d.string()
    c.function = d.string()
    c.version = d.uint()
    c.node = d.string()
    c.content_type = d.string()
    c.trace = d.string()
    c.depth = min(d.uint(), 255)
    c.attributes = dict(d.attributes())
    c._payload = body
    c._event = None
    c._is_cancelled = False
    c._reply_content_type = ""
    c._reply_status = 0
    c._reply_attributes = None
    c._running = None
    return c


def event(context, raw=False):
    """Return what a handler gets as its event.

    A payload that is said to be JSON must be. One of which nothing is said (curl says what it says of a form unless
    told otherwise) is taken as JSON if it can be. Anything else stays bytes.
    """
    payload = context._payload
    if raw:
        return context.payload
    if not payload:
        return None
    kind = context.content_type
    if kind:
        kind = kind.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return _decode(str(payload, "utf-8"))
        except ValueError as err:
            raise Error("InvalidInput", f"the payload is no JSON: {err}") from None
    if not kind or kind == "application/x-www-form-urlencoded":
        try:
            return _decode(str(payload, "utf-8"))
        except ValueError:
            pass
    return context.payload


class Call:
    """A call while it is served. Only the thread that runs the handler sends."""

    __slots__ = ("instance", "conn", "id", "context", "assembly", "stream", "on_cancel", "host_calls")

    def __init__(self, instance, conn, id_, context):
        self.instance = instance
        self.conn = conn
        self.id = id_
        self.context = context
        context._running = self
        self.assembly = None
        self.stream = None
        self.on_cancel = None
        self.host_calls = None

    def cancel(self):
        """Tell the handler that nobody waits; called by the thread that reads."""
        self.context._cancel()
        if self.stream is not None:
            self.stream.wake()
        if self.host_calls:
            for host_call in list(self.host_calls):
                host_call.fail(Cancelled())
        if self.on_cancel is not None:
            self.on_cancel()

    def run(self, handler, raw):
        """Run a handler that is no coroutine function and return the frame that ends the call."""
        began = time.perf_counter()
        context = self.context
        token = _current.set(context)
        try:
            if context._is_cancelled:
                raise Cancelled()
            output = handler(event(context, raw), context)
            if type(output) in _PLAIN:
                return self.answer(output, began)
            if hasattr(output, "__next__"):
                return self._run_stream(output)
            if hasattr(output, "__await__") or hasattr(output, "__anext__"):
                return self.instance.background().run(self, output, began)
            return self.answer(output, began)
        except SystemExit:
            raise
        except BaseException as exc:
            return self.failed(exc)
        finally:
            _current.reset(token)

    def answer(self, output, began):
        """Return the frame of a successful end."""
        body, content_type = encode(output)
        instance = self.instance
        if instance.max_output and len(body) > instance.max_output:
            message = f"output of {len(body)} bytes, {instance.max_output} allowed; stream it instead"
            return wire.ERROR, 0, b"", wire.failure(wire.KIND_FUNCTION, "ResponseTooLarge", message)
        context = self.context
        head = wire.result(
            context._reply_content_type or content_type,
            context._reply_status,
            context._reply_attributes,
            int((time.perf_counter() - began) * 1e6),
            *instance.usage(),
        )
        if len(head) > wire.MAX_HEAD:
            message = f"attributes of {len(head)} bytes, {wire.MAX_HEAD} allowed"
            return wire.ERROR, 0, b"", wire.failure(wire.KIND_FUNCTION, "ResponseTooLarge", message)
        return wire.RESULT, 0, head, body

    def failed(self, exc):
        """Return the frame of an end by an exception."""
        return wire.ERROR, 0, b"", wire.failure(*failure.of(exc))

    def _run_stream(self, chunks):
        try:
            for chunk in chunks:
                self.open_stream(chunk, Stream).write(chunk)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return self.end_of_stream()

    def end_of_stream(self):
        """Return the frame of a stream's good end; one without chunks is an empty answer."""
        if self.stream is None:
            return self.answer(b"", time.perf_counter())
        return _END

    def open_stream(self, first, make):
        """Return the stream of the answer, and open it before its first chunk, which says what it is of."""
        if self.stream is None:
            context = self.context
            content_type = context._reply_content_type or _stream_type(first)
            head = wire.result(content_type, context._reply_status, context._reply_attributes, 0, 0, 0, 0)
            self.stream = make(self, self.instance.window)
            self.conn.send(wire.RESULT, wire.STREAM, self.id, head)
        return self.stream


def _stream_type(chunk):
    if isinstance(chunk, str):
        return "text/plain; charset=utf-8"
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        return ""
    return "application/x-ndjson"


def encode_chunk(chunk):
    """Return a yielded value as bytes: bytes and text as they are, anything else as one line of JSON."""
    data, content_type = encode(chunk)
    return data + b"\n" if content_type == "application/json" else data


class Stream:
    """The answer of a generator, paced by the credit that its reader gives."""

    def __init__(self, call, credit):
        self._call = call
        self._credit = credit
        self._changed = threading.Condition()

    def grant(self, n):
        """Allow n further bytes."""
        with self._changed:
            self._credit += n
            self._changed.notify()
        if self._credit > 1 << 32:
            raise wire.ProtocolError("credit overflows")

    def wake(self):
        """Make a write that waits look whether the call was cancelled."""
        with self._changed:
            self._changed.notify()

    def write(self, chunk):
        """Send a chunk, waiting while the reader is behind. It raises Cancelled when nobody reads."""
        data = memoryview(encode_chunk(chunk))
        while data:
            n = self._take(len(data))
            self._call.conn.send(wire.CHUNK, wire.ANSWER, self._call.id, b"", data[:n])
            data = data[n:]

    def _take(self, want):
        with self._changed:
            while self._credit <= 0 and not self._call.context._is_cancelled:
                self._changed.wait()
            if self._call.context._is_cancelled:
                raise Cancelled()
            n = min(self._credit, want, wire.MAX_PAYLOAD)
            self._credit -= n
            return n
