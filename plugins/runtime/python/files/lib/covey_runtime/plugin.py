"""go-plugin's net/rpc protocol: Ping, Quit and one plugin that invokes the function. It is yamux streams of gob."""

import atexit
import os
import socket
import sys
import threading

from covey import Context

from . import gob, wire, yamux
from .call import Call

# Core protocol, our protocol, network, address, wire.
_HANDSHAKE = "1|1|unix|{}|netrpc|\n"
_SOCKET_DIR = "PLUGIN_UNIX_SOCKET_DIR"
_PLUGIN_NAME = "function"
# How long a Quit waits for its own reply to leave.
_QUIT_DELAY = 0.1
_MAX_CONNECTIONS = 8
_MAX_CALLS = 32


def serve(instance):
    """Listen, print the handshake and serve clients. It returns only by an exception."""
    path = _make_place()
    atexit.register(_remove, path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(_MAX_CONNECTIONS)
        line = _HANDSHAKE.format(path).encode()
        try:  # In one piece, whatever the function prints.
            sys.stdout.flush()
        except (AttributeError, OSError, ValueError):
            pass
        os.write(1, line)
        room = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        while True:
            room.acquire()
            sock, _ = listener.accept()
            threading.Thread(target=_Client(instance, sock, room).run, name="go-plugin", daemon=True).start()


def _make_place():
    """Return the path for the socket, in a folder of its own. The modules for that would take a megabyte."""
    base = os.environ.get(_SOCKET_DIR) or os.environ.get("TMPDIR") or "/tmp"
    folder = os.path.join(base, "covey" + os.urandom(6).hex())
    os.mkdir(folder, 0o700)
    return os.path.join(folder, "s")


def _remove(path):
    try:
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass


class _Client:
    """One go-plugin client. Its first stream is control, two are for output, which this process writes to its own,
    and each further one is a plugin that it dispensed."""

    def __init__(self, instance, sock, room):
        self._instance = instance
        self._room = room
        self._opened = 0
        self._session = yamux.Session(sock, self._accept)

    def run(self):
        try:
            self._session.run()
        except (yamux.YamuxError, gob.GobError) as err:
            sys.stderr.write(f"covey: go-plugin client: {err}\n")
        finally:
            self._room.release()

    def _accept(self, stream):
        self._opened += 1
        if self._opened == 1:
            return _Control(self._instance, stream).receive
        if self._opened <= 3:
            return lambda data: None
        return _Plugin(self._instance, stream).receive


class _Control:
    """The control stream."""

    def __init__(self, instance, stream):
        self._instance = instance
        self._stream = stream
        self._reader, self._writer = gob.Reader(), gob.Writer()

    def receive(self, data):
        for method, seq, argument in self._reader.feed(data):
            error, reply = "", gob.Empty
            if method == "Control.Quit":
                timer = threading.Timer(_QUIT_DELAY, self._instance.drain_all)
                timer.daemon = True
                timer.start()
            elif method == "Dispenser.Dispense":
                if argument == _PLUGIN_NAME:
                    reply = 1
                else:
                    error = f"unknown plugin type: {argument}"
            elif method != "Control.Ping":
                error = f"rpc: can't find method {method}"
            self._stream.write(self._writer.answer(method, seq, error, reply))


class _Plugin:
    """The stream of a dispensed plugin. The client sends the id that Dispense gave and waits for it to come back."""

    def __init__(self, instance, stream):
        self._instance = instance
        self._stream = stream
        self._id = b""
        self._reader, self._writer = gob.Reader(), gob.Writer()
        # One call after another, off the thread that reads.
        self._turn = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MAX_CALLS)

    def receive(self, data):
        if len(self._id) < 4:
            rest = 4 - len(self._id)
            self._id += data[:rest]
            data = data[rest:]
            if len(self._id) == 4:
                self._stream.write(self._id)
        for request in self._reader.feed(data):
            if not self._waiting.acquire(blocking=False):
                raise gob.GobError(f"more than {_MAX_CALLS} calls at once")
            threading.Thread(target=self._serve, args=request, name="go-plugin-call", daemon=True).start()

    def _serve(self, method, seq, argument):
        with self._turn:
            error, reply = "", gob.Empty
            if method != "Plugin.Invoke" or not isinstance(argument, bytes):
                error = f"rpc: can't find method {method}"
            else:
                error, reply = _invoke(self._instance, argument)
            self._stream.write(self._writer.answer(method, seq, error, reply))
        self._waiting.release()


def _invoke(instance, payload):
    """Run a call without the data plane and what it carries."""
    conn = _Plain()
    call = conn.call = Call(instance, conn, 0, Context(payload=payload))
    if instance.loop is None:
        try:
            frame = call.run(instance.handler, instance.raw)
        except SystemExit as exc:
            instance.exit(exc)
        instance.finish(call, frame)
    else:
        instance.start_task(call)
    conn.done.wait()
    if conn.failure is not None:
        _, type_, message, _ = wire.parse_failure(conn.failure)
        return f"{type_}: {message}", gob.Empty
    return "", bytes(conn.output)


class _Plain:
    """Stands for a Connection and collects an answer instead of sending it."""

    def __init__(self):
        self.calls = {}
        self.call = None
        self.output = bytearray()
        self.failure = None
        self.done = threading.Event()

    def send(self, type_, flags, id_, head=b"", body=b""):
        if type_ == wire.ERROR:
            self.failure = bytes(body)
        else:
            self.output += body
            if type_ == wire.CHUNK and body:
                self.call.stream.grant(len(body))
        if not flags & wire.STREAM and (type_ != wire.CHUNK or flags & wire.END):
            self.done.set()
