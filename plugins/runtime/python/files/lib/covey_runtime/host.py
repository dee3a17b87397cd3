"""Host calls: what a function asks of its node."""

import asyncio
from _thread import allocate_lock, get_ident

from covey import Cancelled, Error, Reply

from . import failure, wire


class HostCall:
    """A host call that waits for its answer. The first outcome counts."""

    def __init__(self, notify):
        self.assembly = None
        self.head = b""
        self._notify = notify
        self._outcome = None
        self._open = allocate_lock()  # whoever gets it ends the call

    def answer(self, type_, head, body):
        """Take what the node said."""
        try:
            if type_ == wire.HOSTREPLY:
                content_type, attributes = wire.parse_host_result(head)
                self._end(Reply(body, content_type, dict(attributes)))
            else:
                self._end(failure.from_answer(type_, body))
        except wire.ProtocolError as err:
            self._end(Error("BadAnswer", str(err), platform=True))

    def fail(self, exc):
        """Give up."""
        self._end(exc)

    def _end(self, outcome):
        if self._open.acquire(False):
            self._outcome = outcome
            self._notify()

    def result(self):
        """Return the answer, or raise what came instead."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome


class Node:
    """The node as covey.invoke knows it."""

    def __init__(self, instance):
        self._instance = instance

    def call(self, op, target, body, content_type, context):
        """Make a host call and wait for its answer."""
        done = allocate_lock()
        done.acquire()
        host_call = HostCall(done.release)
        instance = self._instance
        instance.watch(True)
        try:
            id_ = self._open(host_call, op, target, body, content_type, context)
            try:
                remaining = None if context is None else context.remaining()
                if not done.acquire(timeout=-1 if remaining is None else remaining):
                    host_call.fail(Cancelled("the time of the call is over"))
                return host_call.result()
            finally:
                self._close(host_call, id_, context)
        finally:
            instance.watch(False)

    async def acall(self, op, target, body, content_type, context):
        """Make a host call and await its answer."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def end():
            if not done.done():
                done.set_result(None)

        thread = get_ident()
        host_call = HostCall(lambda: end() if get_ident() == thread else loop.call_soon_threadsafe(end))
        instance = self._instance
        # The instance's own loop reads by itself.
        blind = loop is not instance.loop
        if blind:
            instance.watch(True)
        try:
            id_ = self._open(host_call, op, target, body, content_type, context)
            try:
                await asyncio.wait_for(done, None if context is None else context.remaining())
                return host_call.result()
            except asyncio.TimeoutError:
                raise Cancelled("the time of the call is over") from None
            finally:
                self._close(host_call, id_, context)
        finally:
            if blind:
                instance.watch(False)

    def _open(self, host_call, op, target, body, content_type, context):
        instance = self._instance
        request_id, remaining, call = "", None, None
        if context is not None:
            request_id, remaining, call = context.request_id, context.remaining(), context._running
        if call is not None:
            if call.host_calls is None:
                call.host_calls = set()
            call.host_calls.add(host_call)
            if context._is_cancelled:
                call.host_calls.discard(host_call)
                raise Cancelled()
        id_ = instance.add_host_call(host_call)
        head = wire.host_request(request_id, op, target, content_type, remaining)
        try:
            instance.first.send(wire.HOSTCALL, 0, id_, head, body)
        except OSError as err:
            instance.host_calls.pop(id_, None)
            raise Error("NodeGone", str(err), platform=True) from err
        return id_

    def _close(self, host_call, id_, context):
        call = None if context is None else context._running
        if call is not None:
            call.host_calls.discard(host_call)
        if self._instance.host_calls.pop(id_, None) is not None:
            try:
                self._instance.first.send(wire.CANCEL, 0, id_)
            except OSError:
                pass
