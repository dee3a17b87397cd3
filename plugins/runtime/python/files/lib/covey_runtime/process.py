"""The life of the process, from a blank to its end."""

import gc
import logging
import os
import socket
import stat
import sys
import time

from . import preload

_DATA_PLANE = 3


def main():
    """Run the process. It does not return."""
    sock = _open()
    if sock is None:
        sys.stderr.write("covey: a runtime needs the data plane on descriptor 3; a node starts it\n")
        os._exit(2)
    preload.load()
    # Only now, because the modules of the runtime need some of those.
    import covey

    from . import aio, become, control, failure  # noqa: F401
    from .host import Node
    from .instance import Instance

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # A line leaves as it is printed, although there is a pipe behind it.
            stream.reconfigure(line_buffering=True)
    root = logging.getLogger()
    root.addHandler(covey.LogHandler())
    root.setLevel(logging.INFO)
    preload.warm_up()
    instance = Instance(sock)
    covey._host._node = Node(instance)
    attach = control.start_later(instance)
    # What the blank has loaded stays for ever; the function's collections need not look at it again.
    gc.collect()
    gc.freeze()
    gc.disable()
    instance.greet()
    try:
        setup = instance.wait_for_setup()
        if setup is None:
            instance.leave_at_once(0)
        serve = _become(instance, setup, time.perf_counter())
        attach()
        serve()
    except SystemExit as exc:
        instance.exit(exc)
    except BaseException as exc:
        os.write(2, failure.trace(exc).encode(errors="backslashreplace"))
        instance.leave_at_once(1)
    instance.leave(0)


def _open():
    """Return the socket of the data plane, closed to the programs that the function starts."""
    try:
        if not stat.S_ISSOCK(os.fstat(_DATA_PLANE).st_mode):
            return None
    except OSError:
        return None
    os.set_inheritable(_DATA_PLANE, False)
    sock = socket.socket(fileno=_DATA_PLANE)
    sock.setblocking(True)
    return sock


def _become(instance, setup, began):
    """Load the function, say READY and return what serves its calls."""
    from covey._log import write_line

    from . import aio, become, failure

    if setup.preparing:
        gc.enable()
        if setup.cache:
            become.compile_all(setup.code, setup.cache)
        instance.leave_at_once(0)
    try:
        become.prepare_process(setup)
        handler = become.load(setup)
        tasks = aio.Tasks(instance) if become.is_async(handler) else None
    except SystemExit:
        raise
    except BaseException as exc:
        try:
            instance.init_failed(exc)
        except OSError:
            pass
        write_line(logging.ERROR, "initialise: " + failure.trace(exc))
        instance.leave(1)
    gc.freeze()
    gc.enable()
    raw = getattr(handler, "__covey_raw__", False)
    instance.ready(handler, raw, int((time.perf_counter() - began) * 1e6))
    return instance.serve if tasks is None else tasks.serve
