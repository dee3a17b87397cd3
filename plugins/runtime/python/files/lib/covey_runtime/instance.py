"""The process as an instance of its function: who reads, who runs calls, and when it ends.

The main thread takes a call off the socket and runs it itself, which spares a call two switches of threads.
While it is busy, the watcher reads in its stead: cancellations, credit, and further calls, which go to threads of
their own if the function takes several at once and wait if not. The watcher sleeps on an epoll that the main thread
opens when it begins a call and shuts when it has ended, so that an ordinary call does not wake it.
"""

import atexit
import os
import resource
import select
import socket
import sys
from _thread import allocate_lock, start_new_thread
from collections import deque

from . import aio, failure, wire
from .call import Call, parse_context
from .connection import Assembly, Connection
from .crew import Crew

AGENT = "covey-runtime-python/1"
WINDOW = 1 << 20
MAX_CALLS = 1024
MAX_LANES = 64
_DONTWAIT = socket.MSG_DONTWAIT


class Instance:
    """The connections to the node and the calls on them."""

    def __init__(self, sock):
        self.first = Connection(sock, carries_files=True)
        self.setup = None
        self.handler = None
        self.raw = False
        self.loop = None
        """The event loop of an async function; it reads by itself."""
        self.start_task = None
        """Starts a call on that loop, from any thread."""
        self.host_calls = {}
        self.max_output = 0
        self.drained = False
        self.window = WINDOW
        """How much of a stream the node takes before it gives credit."""
        self._connections = {self.first.fd: self.first}
        self._pending = deque()
        self._crew = None
        self._last_host_call = 0
        self._init_time = 0
        self._cpu = 0
        self._background = None
        # Held by whoever reads, also while the main thread waits for the node.
        self._reading = allocate_lock()
        self._gate_lock = allocate_lock()
        self._answering = set()  # calls whose answers are being sent
        self._busy = False  # the main thread runs a call
        self._watchers = 0  # host calls that somebody has to read the answers of
        self._epoll = select.epoll()
        self._epoll.register(self.first.fd, select.EPOLLIN)
        self._gate = select.epoll()
        self._gate.register(self._epoll.fileno(), 0)
        start_new_thread(self._watch, ())

    def greet(self):
        """Send HELLO."""
        self.first.send(wire.HELLO, 0, 0, wire.greeting(WINDOW, AGENT))

    def wait_for_setup(self):
        """Return the node's SETUP, or None if it ended the connection instead."""
        with self._reading:
            while self.setup is None:
                try:
                    self._take(self.first, 0)
                except EOFError:
                    return None
                except wire.ProtocolError as err:
                    self.broken(err)
        return self.setup

    def init_failed(self, exc):
        """Tell the node that the function could not be loaded."""
        self.first.send(wire.ERROR, 0, 0, b"", wire.failure(*failure.of(exc, wire.KIND_INIT)))

    def ready(self, handler, raw, init_micros):
        """Send READY; calls may run from now on."""
        self.handler, self.raw = handler, raw
        self._init_time = init_micros
        if self.setup.concurrency > 1:
            self._crew = Crew(self, self.setup.concurrency)
        self.first.send(wire.READY, 0, 0)

    # Serving on the main thread.

    def serve(self):
        """Run calls until the node drains the instance."""
        handler, raw = self.handler, self.raw
        modify, inner = self._gate.modify, self._epoll.fileno()
        while True:
            call = self._next()
            if call is None:
                return
            with self._gate_lock:
                modify(inner, select.EPOLLIN)
            frame = call.run(handler, raw)
            with self._gate_lock:
                self._busy = False
                if not self._watchers:
                    modify(inner, 0)
            self.finish(call, frame)

    def _next(self):
        """Wait for a call to be run here."""
        pending = self._pending
        with self._reading:
            while True:
                if pending:
                    call = pending.popleft()
                    self._busy = True
                    while pending and self._crew is not None and self._crew.put(pending[0]):
                        pending.popleft()
                    return call
                if self.drained:
                    return None
                try:
                    if len(self._connections) == 1:
                        self._take(self.first, 0)
                    else:
                        self._take_all(-1)
                except EOFError:
                    if not self.drained:
                        self.leave_at_once(0)
                except wire.ProtocolError as err:
                    self.broken(err)

    def finish(self, call, frame):
        """Answer a call with the frame that ends it."""
        # Before the answer, or its reader could see the log end before the last line.
        flush()
        self._answering.add(call)
        # The slot is free before the answer leaves, or the next call could find it taken.
        call.conn.calls.pop(call.id, None)
        try:
            call.conn.send(frame[0], frame[1], call.id, frame[2], frame[3])
        except OSError:
            pass  # The node is gone, as the reader is about to find out.
        self._answering.discard(call)
        if self.first.draining:
            self.check_drained()

    def _watch(self):
        """Read while the main thread is busy."""
        while True:
            try:
                self._gate.poll()
                with self._reading:
                    self._take_all(0)
            except EOFError:
                if not self.drained:
                    self.leave_at_once(0)
                return
            except BaseException as err:
                self.broken(err)

    def watch(self, wanted):
        """Have the watcher read (True) until everybody who asked for it wants it no more (False)."""
        with self._gate_lock:
            self._watchers += 1 if wanted else -1
            open_ = self._watchers or self._busy
            self._gate.modify(self._epoll.fileno(), select.EPOLLIN if open_ else 0)

    # Reading.

    def connections(self):
        """Return the open connections."""
        return list(self._connections.values())

    def read_ready(self, conn):
        """Read what is there; for the event loop."""
        with self._reading:
            try:
                self._take(conn, _DONTWAIT)
            except BlockingIOError:
                pass
            except EOFError:
                self._ended(conn)
            except BaseException as err:
                self.broken(err)

    def _take_all(self, timeout):
        for fd, _ in self._epoll.poll(timeout):
            conn = self._connections.get(fd)
            if conn is None:
                continue
            try:
                self._take(conn, _DONTWAIT)
            except BlockingIOError:
                pass
            except EOFError:
                self._ended(conn)

    def _ended(self, conn):
        if conn is self.first:
            if self.loop is None:
                raise EOFError
            if not self.drained:
                self.leave_at_once(0)
        elif self.loop is None:
            self._drop(conn)
        else:
            self.loop.call_soon_threadsafe(self._drop, conn)

    def _drop(self, conn):
        """Forget a lane that the node has closed."""
        if self._connections.get(conn.fd) is not conn:
            return
        if self.loop is not None:
            self.loop.remove_reader(conn.fd)
        del self._connections[conn.fd]
        try:
            self._epoll.unregister(conn.fd)
        except OSError:
            pass
        for call in list(conn.calls.values()):
            call.cancel()
        conn.calls.clear()
        conn.sock.close()
        self.check_drained()

    def _take(self, conn, flags):
        for type_, frame_flags, head, id_, payload in conn.read(flags):
            if type_ == wire.INVOKE and not frame_flags & wire.MORE:
                # A large payload is shown, not copied.
                body = payload[head:] if type(payload) is bytes else memoryview(payload)[head:]
                self._admit(conn, id_, payload[:head], body, 0)
            else:
                self._dispatch(conn, type_, frame_flags, head, id_, payload)

    def _dispatch(self, conn, type_, flags, head, id_, payload):
        if type_ == wire.CHUNK:
            if flags & wire.ANSWER:
                self._host_chunk(flags, head, id_, payload)
            else:
                self._chunk(conn, flags, head, id_, payload)
        elif type_ == wire.CREDIT:
            n = wire.credit(payload)
            call = conn.calls.get(id_)
            if call is not None and call.stream is not None:
                call.stream.grant(n)
        elif type_ == wire.CANCEL:
            self._cancel(conn, id_)
        elif type_ == wire.INVOKE:
            self._admit(conn, id_, payload[:head], b"", wire.size(payload[head:]))
        elif type_ in (wire.HOSTREPLY, wire.ERROR, wire.REFUSED) and id_:
            self._host_answer(type_, flags, head, id_, payload)
        elif type_ == wire.HOSTCALL:
            conn.send(wire.REFUSED, 0, id_, b"", wire.refusal("busy", "this side serves no host calls"))
        elif type_ == wire.DRAIN:
            self.drain(conn)
        elif conn is not self.first:
            pass  # Lanes carry calls only.
        elif type_ == wire.HELLO and flags & wire.LANE:
            self._open_lane()
        elif type_ == wire.HELLO:
            self.window, self.max_output = wire.parse_greeting(payload[:head])
        elif type_ == wire.SETUP:
            if self.setup is not None:
                raise wire.ProtocolError("SETUP out of order")
            self.setup = wire.Setup(payload[head:])

    # Calls of the node.

    def _admit(self, conn, id_, head, body, size):
        """Register a call and start it, if its body is there."""
        if not id_ or id_ in conn.calls:
            raise wire.ProtocolError(f"call id {id_} is in use")
        refusal = None
        if conn.draining:
            refusal = ("draining", "no further calls are taken")
        elif len(conn.calls) >= MAX_CALLS:
            refusal = ("busy", f"{len(conn.calls)} calls are running")
        elif size > wire.MAX_BODY:
            refusal = ("too_large", f"body of {size} bytes, {wire.MAX_BODY} allowed")
        if refusal is not None:
            conn.send(wire.REFUSED, 0, id_, b"", wire.refusal(*refusal))
            return
        try:
            context = parse_context(head, body)
        except wire.ProtocolError:
            failed = wire.failure(wire.KIND_PLATFORM, "BadCall", "the call cannot be read")
            conn.send(wire.ERROR, 0, id_, b"", failed)
            return
        call = Call(self, conn, id_, context)
        conn.calls[id_] = call
        if size:
            call.assembly = Assembly(size)
        else:
            self._start(call)

    def _chunk(self, conn, flags, head, id_, payload):
        call = conn.calls.get(id_)
        if call is None or call.assembly is None:
            return  # Refused or cancelled; the rest was on the way.
        if call.assembly.add(flags, head, payload):
            call.context._payload = call.assembly.body
            call.assembly = None
            self._start(call)

    def _cancel(self, conn, id_):
        call = conn.calls.get(id_)
        if call is None:
            return
        if call.assembly is not None:
            del conn.calls[id_]
        call.cancel()

    def _start(self, call):
        """Give a complete call to whoever runs it; called by the thread that reads."""
        if self.loop is not None:
            self.start_task(call)
        elif not (self._busy and self._crew is not None and self._crew.put(call)):
            self._pending.append(call)

    def start_pending(self):
        """Start what came before the event loop; called on the loop's thread."""
        with self._reading:
            while self._pending:
                self.start_task(self._pending.popleft())

    def background(self):
        """Return the event loop for handlers that turn out to be async when they are called."""
        with self._gate_lock:
            if self._background is None:
                self._background = aio.BackgroundLoop()
            return self._background

    def usage(self):
        """Return init time, processor time and peak memory as the node wants to know them.

        The processor time of calls that ran at once is reported by the first to end, so that the sum over all is
        what the process used.
        """
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = int((used.ru_utime + used.ru_stime) * 1e6)
        spent, self._cpu = max(cpu - self._cpu, 0), cpu
        init, self._init_time = self._init_time, 0
        return init, spent, used.ru_maxrss << 10

    # Host calls.

    def add_host_call(self, host_call):
        """Register a host call and return its id."""
        with self._gate_lock:
            self._last_host_call += 1
            id_ = self._last_host_call
        self.host_calls[id_] = host_call
        return id_

    def _host_answer(self, type_, flags, head, id_, payload):
        if flags & wire.STREAM:
            raise wire.ProtocolError("a streamed answer to a host call")
        if flags & wire.MORE:
            size = wire.size(payload[head:])
            host_call = self.host_calls.get(id_)
            if size > wire.MAX_BODY:
                raise wire.ProtocolError(f"answer of {size} bytes")
            if host_call is not None:
                if host_call.assembly is not None:
                    raise wire.ProtocolError("second answer to one host call")
                host_call.head, host_call.assembly = payload[:head], Assembly(size)
            return
        host_call = self.host_calls.pop(id_, None)
        if host_call is not None:
            host_call.answer(type_, payload[:head], payload[head:])

    def _host_chunk(self, flags, head, id_, payload):
        host_call = self.host_calls.get(id_)
        if host_call is None:
            return
        if host_call.assembly is None:
            raise wire.ProtocolError("chunk before its answer")
        if host_call.assembly.add(flags, head, payload):
            self.host_calls.pop(id_, None)
            host_call.answer(wire.HOSTREPLY, host_call.head, host_call.assembly.body)

    # Lanes and the end.

    def _open_lane(self):
        if not self.first.files:
            raise wire.ProtocolError("lane without a descriptor")
        sock = socket.socket(fileno=self.first.files.pop(0))
        sock.setblocking(True)
        if len(self._connections) > MAX_LANES:
            raise wire.ProtocolError("too many lanes")
        lane = Connection(sock)
        self._connections[lane.fd] = lane
        self._epoll.register(lane.fd, select.EPOLLIN)
        if self.loop is not None:
            self.add_reader(lane)

    def add_reader(self, conn):
        """Let the event loop read a connection, from whatever thread this is."""
        self.loop.call_soon_threadsafe(self.loop.add_reader, conn.fd, self.read_ready, conn)

    def drain(self, conn):
        """Take no further calls on a connection."""
        conn.draining = True
        self.check_drained()

    def drain_all(self):
        """Take no further calls anywhere; for a go-plugin client, which knows no lanes."""
        for conn in self.connections():
            conn.draining = True
        self.check_drained()

    def check_drained(self):
        """End the process once all is drained and answered."""
        for conn in self.connections():
            if not conn.draining or conn.calls:
                return
        if self._answering:
            return  # Whoever answers looks here again.
        self.drained = True
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            return
        try:  # The main thread may wait for the node.
            self.first.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def broken(self, err):
        """End the process because the node broke the protocol, or because nobody would read any more."""
        text = f"covey: {err}\n" if isinstance(err, wire.ProtocolError) else failure.trace(err)
        os.write(2, text.encode(errors="replace"))
        self.leave_at_once(1)

    def leave(self, status):
        """End the process after what user code has registered for that."""
        try:
            atexit._run_exitfuncs()
        except BaseException as exc:
            os.write(2, failure.trace(exc).encode(errors="replace"))
        self.leave_at_once(status)

    def exit(self, exc):
        """End the process as a SystemExit asks for."""
        if exc.code is None or isinstance(exc.code, int):
            self.leave((exc.code or 0) & 0xFF)
        os.write(2, f"{exc.code}\n".encode(errors="replace"))
        self.leave(1)

    def leave_at_once(self, status):
        """End the process, whatever else runs in it."""
        flush()
        os._exit(status)


def flush():
    """Let what was printed leave the process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
