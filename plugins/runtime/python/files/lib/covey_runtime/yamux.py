"""The server's side of yamux, as much of it as a go-plugin client needs."""

import struct
import threading

_HEADER = struct.Struct(">BBHII")
_DATA, _WINDOW, _PING, _GO_AWAY = range(4)
_SYN, _ACK, _FIN, _RST = 1, 2, 4, 8
_INITIAL_WINDOW = 256 << 10
# A client opens one stream for control, two for output, and one for each plugin that it dispenses.
_MAX_STREAMS = 64


class YamuxError(Exception):
    """The peer broke the protocol."""


class Session:
    """One connection. run reads it; streams may be written from any thread."""

    def __init__(self, sock, accept):
        """accept gets each new Stream and returns what is to get its bytes."""
        self._sock = sock
        self._accept = accept
        self._streams = {}
        self._sending = threading.Lock()
        self.changed = threading.Condition()
        self.closed = False

    def run(self):
        """Read until the connection ends or breaks."""
        try:
            while True:
                version, kind, flags, id_, length = _HEADER.unpack(self._read(_HEADER.size))
                if version:
                    raise YamuxError(f"version {version}")
                if kind == _PING:
                    if flags & _SYN:
                        self.send(_PING, _ACK, 0, length)
                elif kind == _GO_AWAY:
                    continue
                elif kind in (_DATA, _WINDOW):
                    self._frame(kind, flags, id_, length)
                else:
                    raise YamuxError(f"frame of type {kind}")
        except (EOFError, OSError):
            pass
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()
            self._sock.close()

    def _frame(self, kind, flags, id_, length):
        if flags & _SYN:
            if id_ in self._streams or len(self._streams) >= _MAX_STREAMS:
                raise YamuxError(f"stream {id_} cannot be opened")
            stream = self._streams[id_] = Stream(self, id_)
            stream.receive = self._accept(stream)
            self.send(_WINDOW, _ACK, id_, 0)
        stream = self._streams.get(id_)
        if kind == _WINDOW and stream is not None:
            with self.changed:
                stream.window += length
                self.changed.notify_all()
        elif kind == _DATA and length:
            if length > _INITIAL_WINDOW:
                raise YamuxError(f"{length} bytes where {_INITIAL_WINDOW} are allowed")
            data = self._read(length)
            if stream is not None:
                self.send(_WINDOW, 0, id_, length)
                stream.receive(data)
        if flags & (_FIN | _RST) and stream is not None:
            del self._streams[id_]
            with self.changed:
                stream.closed = True
                self.changed.notify_all()
            if flags & _FIN:
                self.send(_WINDOW, _FIN, id_, 0)

    def _read(self, n):
        data = bytearray()
        while len(data) < n:
            part = self._sock.recv(n - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def send(self, kind, flags, id_, length, data=b""):
        """Send one frame."""
        with self._sending:
            self._sock.sendall(_HEADER.pack(0, kind, flags, id_, length) + data)


class Stream:
    """A stream that the client has opened."""

    def __init__(self, session, id_):
        self.id = id_
        self.window = _INITIAL_WINDOW
        self.closed = False
        self.receive = None
        self._session = session

    def write(self, data):
        """Send bytes, waiting for the client to read. Bytes for a stream that is closed are lost."""
        session = self._session
        while data:
            with session.changed:
                while self.window <= 0 and not self.closed and not session.closed:
                    session.changed.wait()
                if self.closed or session.closed:
                    return
                n = min(self.window, len(data), _INITIAL_WINDOW)
                self.window -= n
            try:
                session.send(_DATA, 0, self.id, n, data[:n])
            except OSError:
                return
            data = data[n:]
