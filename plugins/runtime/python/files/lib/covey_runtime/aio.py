"""Async handlers: one event loop that reads the node's frames and runs every call as a task."""

import asyncio
import time
from _thread import get_ident, start_new_thread

from concurrent.futures import CancelledError

from covey import Cancelled
from covey._context import _current

from . import wire
from .call import encode_chunk, event


class Tasks:
    """Runs calls of an async function on the main thread."""

    def __init__(self, instance):
        self._instance = instance
        self._loop = asyncio.new_event_loop()
        self._thread = get_ident()
        self._tasks = set()
        asyncio.set_event_loop(self._loop)

    def serve(self):
        """Run calls until the node drains the instance."""
        instance, loop = self._instance, self._loop
        instance.start_task = self._start
        instance.loop = loop
        loop.call_soon(instance.start_pending)
        for conn in instance.connections():
            instance.add_reader(conn)
        loop.run_forever()

    def _start(self, call):
        if get_ident() == self._thread:
            self._create(call)
        else:
            self._loop.call_soon_threadsafe(self._create, call)

    def _create(self, call):
        task = self._loop.create_task(self._run(call))
        self._tasks.add(task)  # The loop alone would not keep it alive.
        task.add_done_callback(self._tasks.discard)

    def _cancel(self, task):
        if get_ident() == self._thread:
            task.cancel()
        else:
            self._loop.call_soon_threadsafe(task.cancel)

    async def _run(self, call):
        instance, context = self._instance, call.context
        began = time.perf_counter()
        task = asyncio.current_task()
        # From the task itself: one that is cancelled before its first step would never answer.
        call.on_cancel = lambda: self._cancel(task)
        _current.set(context)
        try:
            if context._is_cancelled:
                raise Cancelled()
            frame = await settle(call, instance.handler(event(context, instance.raw), context), began)
        except asyncio.CancelledError:
            frame = call.failed(Cancelled())
        except SystemExit as exc:
            instance.exit(exc)
        except BaseException as exc:
            frame = call.failed(exc)
        call.on_cancel = None
        instance.finish(call, frame)


async def settle(call, output, began):
    """Await what a handler returned, and return the frame that ends the call."""
    if hasattr(output, "__await__"):
        output = await output
    if hasattr(output, "__anext__"):
        try:
            async for chunk in output:
                await call.open_stream(chunk, AsyncStream).write(chunk)
        finally:
            close = getattr(output, "aclose", None)
            if close is not None:
                await close()
        return call.end_of_stream()
    if hasattr(output, "__next__"):
        for chunk in output:
            await call.open_stream(chunk, AsyncStream).write(chunk)
        return call.end_of_stream()
    return call.answer(output, began)


class AsyncStream:
    """call.Stream for a task."""

    def __init__(self, call, credit):
        self._call = call
        self._credit = credit
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._waiting = None

    def grant(self, n):
        """Allow n further bytes; from any thread."""
        if get_ident() == self._thread:
            self._add(n)
        else:
            self._loop.call_soon_threadsafe(self._add, n)

    def _add(self, n):
        self._credit += n
        if self._credit > 1 << 32:
            self._call.instance.broken(wire.ProtocolError("credit overflows"))
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def wake(self):
        """Do nothing: the task that waits is cancelled itself."""

    async def write(self, chunk):
        """Send a chunk, waiting while the reader is behind."""
        data = memoryview(encode_chunk(chunk))
        if self._call.context._is_cancelled:
            raise Cancelled()
        while data:
            while self._credit <= 0:
                self._waiting = self._loop.create_future()
                await self._waiting
            n = min(self._credit, len(data), wire.MAX_PAYLOAD)
            self._credit -= n
            self._call.conn.send(wire.CHUNK, wire.ANSWER, self._call.id, b"", data[:n])
            data = data[n:]


class BackgroundLoop:
    """An event loop on a thread, for handlers that do not look async but return something to await."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        start_new_thread(self._loop.run_forever, ())

    def run(self, call, output, began):
        """Return the frame that ends the call."""
        future = asyncio.run_coroutine_threadsafe(settle(call, output, began), self._loop)
        call.on_cancel = future.cancel
        try:
            if call.context._is_cancelled:
                future.cancel()
            return future.result()
        except CancelledError:
            return call.failed(Cancelled())
        finally:
            call.on_cancel = None
