"""The frames' encoding, as plugins/frame/DESIGN.md describes it. Numbers are little endian."""

import struct

HEADER = struct.Struct("<IBBHQ")
HEADER_SIZE = HEADER.size
MAX_PAYLOAD = 1 << 20
MAX_HEAD = (1 << 16) - 1
VERSION = 1
# More than any node sends; the node's own limit is what counts.
MAX_BODY = 1 << 30

HELLO, READY, INVOKE, CHUNK, CREDIT, CANCEL, RESULT, ERROR, REFUSED, HOSTCALL, HOSTREPLY, DRAIN, SETUP = range(1, 14)
LAST_TYPE = SETUP

MORE, STREAM, END, LANE, ANSWER = 1, 2, 4, 8, 16

# Whose fault a failure is.
KIND_FUNCTION, KIND_UNHANDLED, KIND_INIT, KIND_PLATFORM = range(4)

# A failure's texts are cut so that it fits into one frame.
_MAX_TEXT = 64 << 10
_SMALL = tuple(bytes((i,)) for i in range(128))
_U64 = struct.Struct("<Q")
_U32 = struct.Struct("<I")


class ProtocolError(Exception):
    """The node broke the wire format; nothing more can be read."""


def uint(n):
    """Encode a number that is not negative."""
    if n < 128:
        return _SMALL[n]
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def string(text):
    """Encode a text with its length in front."""
    data = text.encode(errors="replace")
    return uint(len(data)) + data


def duration(seconds):
    """Encode a duration in whole microseconds, rounded up, because zero means none."""
    if seconds <= 0:
        return b"\0"
    return uint(int(-(-seconds * 1_000_000 // 1)))


def attributes(pairs):
    """Encode (name, value) pairs, or None."""
    if not pairs:
        return b"\0"
    return uint(len(pairs)) + b"".join([string(s) for pair in pairs for s in pair])


def u64(n):
    """Encode the length of a body that comes in chunks."""
    return _U64.pack(n)


def credit(payload):
    """Decode the body of a CREDIT frame."""
    if len(payload) != 4:
        raise ProtocolError(f"CREDIT of {len(payload)} bytes")
    return _U32.unpack(payload)[0]


def size(body):
    """Decode the length of a body that comes in chunks."""
    if len(body) != 8:
        raise ProtocolError("a body in chunks without a length")
    n = _U64.unpack(body)[0]
    if not 0 < n <= 1 << 62:
        raise ProtocolError(f"body of {n} bytes in chunks")
    return n


class Decoder:
    """Reads the fields of a message in their order. Missing fields are zero, further ones are left over."""

    __slots__ = ("_data", "_pos")

    def __init__(self, data):
        self._data = data
        self._pos = 0

    def uint(self):
        """Read a number below 2⁶⁴."""
        pos = self._pos
        try:
            n = self._data[pos]
        except IndexError:
            return 0
        if n < 128:
            self._pos = pos + 1
            return n
        return self._long(pos)

    def _long(self, pos):
        n = shift = 0
        for byte in self._data[pos : pos + 10]:
            n |= (byte & 127) << shift
            shift += 7
            pos += 1
            if byte < 128:
                if n >> 64:
                    break
                self._pos = pos
                return n
        raise ProtocolError("number overflows" if shift == 70 else "number is cut off")

    def uint32(self):
        """Read a number, capped."""
        return min(self.uint(), 0xFFFFFFFF)

    def string(self):
        """Read a text."""
        n = self.uint()
        if not n:
            return ""
        start = self._pos
        end = start + n
        if end > len(self._data):
            raise ProtocolError("string is cut off")
        self._pos = end
        return str(self._data[start:end], "utf-8", "replace")

    def duration(self):
        """Read a duration, in seconds."""
        n = self.uint()
        if n > 9223372036854775:
            raise ProtocolError("duration overflows")
        return n / 1_000_000

    def attributes(self):
        """Read a list of (name, value) pairs."""
        n = self.uint()
        if n > (len(self._data) - self._pos) // 2:
            raise ProtocolError("attributes are cut off")
        return [(self.string(), self.string()) for _ in range(n)]


def greeting(window, agent):
    """Encode the head of a HELLO frame."""
    return uint(VERSION) + uint(VERSION) + uint(window) + uint(MAX_BODY) + string(agent) + attributes(None)


def parse_greeting(head):
    """Return window and largest body of the node, which must speak our version."""
    d = Decoder(head)
    least, greatest, window, max_body = d.uint32(), d.uint32(), d.uint32(), d.uint()
    agent = d.string()
    if not least <= VERSION <= greatest:
        raise ProtocolError(f"{agent} speaks versions {least} to {greatest}, this side {VERSION}")
    return window, max_body


class Setup:
    """The function that this process is to become."""

    __slots__ = (
        "app",
        "function",
        "version",
        "handler",
        "code",
        "cache",
        "memory",
        "timeout",
        "concurrency",
        "preparing",
        "env",
    )

    def __init__(self, body):
        d = Decoder(body)
        self.app, self.function, self.version = d.string(), d.string(), d.uint()
        self.handler, self.code, self.cache = d.string(), d.string(), d.string()
        self.memory, self.timeout = d.uint(), d.duration()
        self.concurrency = max(d.uint32(), 1)
        self.preparing = d.uint() != 0
        self.env = d.attributes()


def result(content_type, status, pairs, run, init, cpu, peak):
    """Encode the head of a RESULT frame; run, init and cpu are whole microseconds, peak is in bytes."""
    return (
        (string(content_type) if content_type else b"\0")
        + uint(status)
        + attributes(pairs)
        + uint(run)
        + uint(init)
        + uint(cpu)
        + uint(peak)
    )


def failure(kind, type_, message, stack=""):
    """Encode the body of an ERROR frame."""
    return uint(kind) + _cut(type_) + _cut(message) + _cut(stack)


def _cut(text):
    data = text.encode(errors="backslashreplace")
    if len(data) > _MAX_TEXT:
        data = data[:_MAX_TEXT].decode(errors="ignore").encode()
    return uint(len(data)) + data


def parse_failure(body):
    """Return kind, type, message and stack."""
    d = Decoder(body)
    return min(d.uint(), KIND_PLATFORM), d.string(), d.string(), d.string()


def refusal(code, message):
    """Encode the body of a REFUSED frame."""
    return string(code) + _cut(message) + b"\0"


def parse_refusal(body):
    """Return code, message and the seconds after which to try again."""
    d = Decoder(body)
    return d.string(), d.string(), d.duration()


def host_request(request_id, op, target, content_type, remaining):
    """Encode the head of a HOSTCALL frame; remaining is in seconds or None."""
    return (
        string(request_id)
        + string(op)
        + string(target)
        + string(content_type)
        + duration(remaining or 0)
        + attributes(None)
    )


def parse_host_result(head):
    """Return content type and attributes."""
    d = Decoder(head)
    return d.string(), d.attributes()
