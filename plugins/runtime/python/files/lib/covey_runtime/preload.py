"""What a blank process does before it knows for whom: load what functions commonly import, and warm up."""

import importlib
import os
import sys

# Each costs the start of a blank a moment and its memory a little, and spares functions that import it milliseconds.
# hashlib, ssl and what needs them are left out: libcrypto takes three megabytes.
_MODULES = (
    "__future__",
    "base64",
    "collections.abc",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "io",
    "itertools",
    "json",
    "logging",
    "math",
    "operator",
    "random",
    "re",
    "string",
    "time",
    "traceback",
    "typing",
)


def load():
    """Import the modules; one that this Python lacks is left out."""
    _load_asyncio()
    for name in _MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            pass


class _LateSSL:
    """Stands for the module ssl inside asyncio until somebody uses it there."""

    def __getattr__(self, name):
        import ssl

        for module in list(sys.modules.values()):
            if getattr(module, "ssl", None) is self:
                module.ssl = ssl
        # Python 3.11 and later define this beside the import, if there is an ssl.
        sys.modules["asyncio.sslproto"].SSLAgainErrors = (ssl.SSLWantReadError, ssl.SSLSyscallError)
        return getattr(ssl, name)


def _load_asyncio():
    """Import asyncio without ssl, which takes as much memory as all the rest and is for those who have a network."""
    if "ssl" in sys.modules or "asyncio" in sys.modules:
        return
    sys.modules["ssl"] = None
    try:
        importlib.import_module("asyncio")
    finally:
        del sys.modules["ssl"]
    late = _LateSSL()
    for name, module in list(sys.modules.items()):
        if name.startswith("asyncio.") and "ssl" in vars(module) and module.ssl is None:
            module.ssl = late


def warm_up():
    """Walk the path of a call once, so that the first real one finds it walked."""
    import socket
    import time

    from covey import LogHandler
    from covey._host import encode
    from covey._log import write_line

    from . import call, wire
    from .connection import Connection

    left, right = socket.socketpair()
    with left, right:
        out, back = Connection(left), Connection(right, carries_files=True)
        head = wire.string("id") + wire.uint(1) + wire.duration(1) + wire.string("app") + wire.string("function")
        head += wire.uint(1) + wire.string("node") + wire.string("application/json") + b"\0\0\1" + wire.string("a") * 2
        for _ in range(20):
            out.send(wire.INVOKE, 0, 1, head, b'{"a": [1, 2.5, "x", null, true]}')
            for _, _, n, _, payload in back.read():
                context = call.parse_context(payload[:n], payload[n:])
                value = call.event(context)
                wire.result("application/json", 0, None, 1000, 1000, 1000, 1 << 24)
                encode(value)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        write_line(20, "warm", "id", None, time.time(), null)
        LogHandler(null)
    finally:
        os.close(null)
