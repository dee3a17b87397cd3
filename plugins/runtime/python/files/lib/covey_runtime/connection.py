"""One socket to the node: whole frames in, whole messages out."""

import array
import socket
from _thread import allocate_lock

from . import wire

# Bodies of 32 KiB and more come on lanes, so that this takes in most frames whole.
_CHUNK = 64 << 10
# From here on a body is sent from where it lies instead of behind its header.
_DIRECT = 64 << 10
_MAX_FILES = 16
_FILES_SPACE = socket.CMSG_SPACE(_MAX_FILES * 4)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

_unpack = wire.HEADER.unpack_from
_pack = wire.HEADER.pack


class Connection:
    """Reads and writes frames. One thread may read at a time; any may send."""

    def __init__(self, sock, carries_files=False):
        self.sock = sock
        self.fd = sock.fileno()
        self.calls = {}
        """The node's calls here that are not answered yet, by their id."""
        self.draining = False
        self.files = []
        """Descriptors that came beside the frames and nobody has taken."""
        self._carries_files = carries_files
        self._rest = b""
        self._large = None  # (header, payload, how much of it is there) of a frame that is coming in
        self._sending = allocate_lock()

    def read(self, flags=0):
        """Receive once and return the frames that are complete now: (type, flags, head length, id, payload).

        It raises EOFError at the end, BlockingIOError if there is nothing (with MSG_DONTWAIT), and ProtocolError.
        """
        try:
            return self._read(flags)
        except ConnectionError as err:  # The node closed a lane that it had not read to its end.
            raise EOFError from err

    def _read(self, flags):
        if self._large is not None:
            return self._read_large(flags)
        data = self._receive_with_files(flags) if self._carries_files else self.sock.recv(_CHUNK, flags)
        if not data:
            raise EOFError
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if len(data) >= 16:
            length, type_, frame_flags, head, id_ = _unpack(data)
            if len(data) == 16 + length and 0 < type_ <= wire.LAST_TYPE and head <= length <= wire.MAX_PAYLOAD:
                return ((type_, frame_flags, head, id_, data[16:]),)
        return self._split(data)

    def _receive_with_files(self, flags):
        data, ancillary, _, _ = self.sock.recvmsg(_CHUNK, _FILES_SPACE, flags | _CLOEXEC)
        if ancillary:
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                    self.files.extend(fds)
        return data

    def _split(self, data):
        frames = []
        pos, end = 0, len(data)
        while end - pos >= 16:
            length, type_, flags, head, id_ = _unpack(data, pos)
            if length > wire.MAX_PAYLOAD:
                raise wire.ProtocolError(f"payload of {length} bytes")
            if not 0 < type_ <= wire.LAST_TYPE:
                raise wire.ProtocolError(f"frame of type {type_}")
            if head > length:
                raise wire.ProtocolError(f"head of {head} bytes in a payload of {length}")
            start = pos + 16
            if start + length > end:
                if length > _CHUNK // 2:
                    payload = bytearray(length)
                    payload[: end - start] = memoryview(data)[start:end]
                    self._large = [(type_, flags, head, id_, payload), memoryview(payload), end - start]
                    return frames
                break
            pos = start + length
            frames.append((type_, flags, head, id_, data[start:pos]))
        self._rest = data[pos:]
        return frames

    def _read_large(self, flags):
        frame, view, filled = self._large
        n = self.sock.recv_into(view[filled:], 0, flags)
        if not n:
            raise EOFError
        filled += n
        if filled < len(view):
            self._large[2] = filled
            return ()
        self._large = None
        view.release()
        return (frame,)

    def send(self, type_, flags, id_, head=b"", body=b""):
        """Send a message, in several frames if its body is large. It may raise OSError: the node is gone."""
        size = len(head) + len(body)
        if size <= _DIRECT:
            data = _pack(size, type_, flags, len(head), id_) + head + body
            with self._sending:
                self.sock.sendall(data)
        elif size <= wire.MAX_PAYLOAD:
            header = _pack(size, type_, flags, len(head), id_) + head
            with self._sending:
                self._send_both(header, body)
        else:
            self._send_chunks(type_, flags, id_, head, memoryview(body))

    def _send_both(self, header, body):
        sent = self.sock.sendmsg((header, body))
        if sent < len(header):
            self.sock.sendall(header[sent:])
            sent = len(header)
        if sent < len(header) + len(body):
            self.sock.sendall(memoryview(body)[sent - len(header) :])

    def _send_chunks(self, type_, flags, id_, head, body):
        chunk_flags = wire.ANSWER if type_ in (wire.RESULT, wire.ERROR) else 0
        first = _pack(len(head) + 8, type_, flags | wire.MORE, len(head), id_) + head + wire.u64(len(body))
        with self._sending:
            self.sock.sendall(first)
            while body:
                part, body = body[: wire.MAX_PAYLOAD], body[wire.MAX_PAYLOAD :]
                last = 0 if body else wire.END
                self._send_both(_pack(len(part), wire.CHUNK, chunk_flags | last, 0, id_), part)


class Assembly:
    """A body that comes in chunks."""

    def __init__(self, size):
        self.body = bytearray(size)
        self._filled = 0

    def add(self, flags, head, payload):
        """Take a chunk and tell whether the body is complete."""
        free = len(self.body) - self._filled
        if head or not payload or len(payload) > free:
            raise wire.ProtocolError(f"chunk of {len(payload)} bytes where {free} are missing")
        end = self._filled + len(payload)
        self.body[self._filled : end] = payload
        self._filled = end
        complete = end == len(self.body)
        if complete != bool(flags & wire.END):
            raise wire.ProtocolError(f"body ends at {end} of {len(self.body)} bytes")
        return complete
