"""Threads that run the calls which come while the main thread is busy."""

import threading
from _thread import allocate_lock
from _queue import SimpleQueue

# A sandbox has room for 256 threads and processes; the function may want some too.
_MOST = 192


class Crew:
    """Starts threads as they are needed and keeps them. put is for the thread that reads."""

    def __init__(self, instance, concurrency):
        self._instance = instance
        self._most = min(concurrency, _MOST)
        self._queue = SimpleQueue()
        self._lock = allocate_lock()
        self._free = 0  # threads that wait or are about to, less the calls that wait
        self._threads = 0

    def put(self, call):
        """Have a call run soon. False means that there is no thread to run it and none can be started."""
        with self._lock:
            self._free -= 1
            if self._free < 0 and self._threads < self._most:
                self._threads += 1
                self._free += 1
                if not self._start() and self._threads == 0:
                    self._free += 1
                    return False
        self._queue.put(call)
        return True

    def _start(self):
        try:
            threading.Thread(target=self._work, name=f"call-{self._threads}", daemon=True).start()
        except RuntimeError:  # No room; the threads that there are take the call once they are free.
            self._threads -= 1
            self._free -= 1
            return False
        return True

    def _work(self):
        instance = self._instance
        while True:
            call = self._queue.get()
            try:
                frame = call.run(instance.handler, instance.raw)
            except SystemExit as exc:
                instance.exit(exc)
            instance.finish(call, frame)
            with self._lock:
                self._free += 1
