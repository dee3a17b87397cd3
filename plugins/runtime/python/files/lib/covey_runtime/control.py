"""Starts the go-plugin side of the process once calls are under way; plugin.py has the rest."""

import sys
import time
from _thread import allocate_lock, start_new_thread

# Keeps what go-plugin needs out of the way of a cold start.
_DELAY_SECONDS = 0.012


def start_later(instance):
    """Return a function that has the process listen for go-plugin a moment later.

    Its thread waits already, because to start one costs more than to wake it.
    """
    begin = allocate_lock()
    begin.acquire()

    def wait():
        begin.acquire()
        time.sleep(_DELAY_SECONDS)
        try:
            from . import plugin

            plugin.serve(instance)
        except OSError as err:
            # The function still works; only go-plugin cannot attach.
            sys.stderr.write(f"covey: listen for go-plugin: {err}\n")

    start_new_thread(wait, ())
    return begin.release
