"""As much of Go's encoding/gob as go-plugin's net/rpc needs: a handful of fixed types."""

# gob's numbers for its basic types, and the ones that this side gives its own.
BOOL, UINT, BYTES, STRING = 1, 3, 5, 6
_RESPONSE, _EMPTY = 64, 65

# The definitions of the two types of this side: net/rpc's Response, and a struct without fields.
_RESPONSE_TYPE = (
    b"9\x7f\x03\x01\x01\x08Response\x01\xff\x80\x00\x01\x03\x01\rServiceMethod\x01\x0c\x00\x01\x03Seq\x01\x06\x00\x01"
    b"\x05Error\x01\x0c\x00\x00\x00"
)
_EMPTY_TYPE = b"\n\xff\x81\x03\x01\x02\xff\x82\x00\x00\x00"

# The data plane is there for more.
MAX_VALUE = 64 << 20


class GobError(Exception):
    """The peer sent what is no gob."""


class Empty:
    """The reply of a method that returns nothing."""


def uint(n):
    """Encode a number: one byte below 128, else its length, negated, and its bytes."""
    if n < 128:
        return bytes((n,))
    data = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes((256 - len(data),)) + data


def text(value):
    """Encode bytes or a string with its length in front."""
    data = value.encode() if isinstance(value, str) else bytes(value)
    return uint(len(data)) + data


class Writer:
    """Encodes the answers on one stream."""

    def __init__(self):
        self._defined = set()

    def answer(self, method, seq, failure, reply):
        """Encode net/rpc's header and a reply: Empty, an int or bytes."""
        out = self._define(_RESPONSE, _RESPONSE_TYPE)
        fields, last = b"", -1
        # Fields that are zero are left out, and each names its distance to the last.
        for number, value in enumerate((method and text(method), seq and uint(seq), failure and text(failure))):
            if value:
                fields += uint(number - last) + value
                last = number
        out += _message(_RESPONSE, fields + b"\0")
        if reply is Empty:
            return out + self._define(_EMPTY, _EMPTY_TYPE) + _message(_EMPTY, b"\0")
        if isinstance(reply, int):
            return out + _message(UINT, uint(reply))
        return out + _message(BYTES, text(reply))

    def _define(self, id_, definition):
        if id_ in self._defined:
            return b""
        self._defined.add(id_)
        return definition


def _message(id_, value):
    # The value of a type that is no struct follows a zero.
    body = uint(id_ << 1) + (b"\0" if id_ < _RESPONSE else b"") + value
    return uint(len(body)) + body


class Value:
    """The rest of one value."""

    def __init__(self, data):
        self._data = data
        self._pos = 0

    def uint(self):
        """Read a number."""
        n, self._pos = _read_uint(self._data, self._pos)
        if n is None:
            raise GobError("number is cut off")
        return n

    def bytes(self):
        """Read bytes."""
        n = self.uint()
        end = self._pos + n
        if end > len(self._data):
            raise GobError(f"{n} bytes of {len(self._data) - self._pos}")
        data = self._data[self._pos : end]
        self._pos = end
        return data


def _read_uint(data, pos):
    """Return a number and where it ends, or None if it is not all there."""
    if pos >= len(data):
        return None, pos
    first = data[pos]
    if first < 128:
        return first, pos + 1
    n = 256 - first
    if n > 8:
        raise GobError(f"number of {n} bytes")
    end = pos + 1 + n
    if end > len(data):
        return None, pos
    return int.from_bytes(data[pos + 1 : end], "big"), end


class Reader:
    """Decodes the requests on one stream, whose bytes come in with feed."""

    def __init__(self):
        self._buffer = bytearray()
        self._header = None

    def feed(self, data):
        """Take in bytes and return the requests that are complete: (method, seq, argument or None)."""
        self._buffer += data
        requests = []
        while True:
            value = self._next()
            if value is None:
                return requests
            if self._header is None:
                self._header = _header(*value)
            else:
                requests.append((*self._header, _argument(*value)))
                self._header = None

    def _next(self):
        """Return the next value with the number of its type, or None if it is not all there.

        Definitions are skipped: what the types of the other side are called and how they are numbered makes no
        difference.
        """
        while True:
            n, start = _read_uint(self._buffer, 0)
            if n is None:
                return None
            if n > MAX_VALUE:
                raise GobError(f"value of {n} bytes")
            if start + n > len(self._buffer):
                return None
            value = Value(bytes(self._buffer[start : start + n]))
            del self._buffer[: start + n]
            id_ = value.uint()
            if id_ & 1 == 0:  # A negative number announces a definition.
                return id_ >> 1, value


def _header(id_, value):
    if id_ < _RESPONSE:
        raise GobError(f"a header of type {id_}")
    method, seq, field = "", 0, -1
    while True:
        delta = value.uint()
        if not delta:
            return method, seq
        field += min(delta, 3)
        if field == 0:
            method = str(value.bytes(), "utf-8", "replace")
        elif field == 1:
            seq = value.uint()
        else:
            raise GobError(f"a header with {field + 1} fields")


def _argument(id_, value):
    """Return a bool, string or bytes, or None for anything else."""
    if id_ not in (BOOL, STRING, BYTES):
        return None
    if value.uint():
        raise GobError(f"argument of type {id_}")
    if id_ == BOOL:
        return value.uint() != 0
    data = value.bytes()
    return str(data, "utf-8", "replace") if id_ == STRING else data
