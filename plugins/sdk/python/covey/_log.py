"""Log lines that a node understands: JSON on standard error, one object a line, filed under its call."""

import json
import logging
import os
import time

from ._context import current

# Every record has these; what else it has came with extra={…} and becomes a field.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "request_id"}
# A node cuts lines of 16 KiB, which would tear the JSON apart.
_MAX_LINE = 16000
_MAX_PART = 2500


class LogHandler(logging.Handler):
    """Writes records as the node's log lines. The runtime installs one on the root logger."""

    def __init__(self, fd=2):
        super().__init__()
        self._fd = fd

    def emit(self, record):
        """Write one record."""
        try:
            message = record.getMessage()
            if record.exc_info:
                message += "\n" + self._exception(record)
            if record.stack_info:
                message += "\n" + record.stack_info
            fields = {k: v for k, v in vars(record).items() if k not in _STANDARD}
            if record.name != "root":
                fields["@module"] = record.name
            context = current()
            write_line(record.levelno, message, context.request_id if context else "", fields, record.created, self._fd)
        except Exception:
            self.handleError(record)

    def _exception(self, record):
        if not record.exc_text:
            record.exc_text = (self.formatter or logging.Formatter()).formatException(record.exc_info)
        return record.exc_text


def write_line(level, message, request_id="", fields=None, created=None, fd=2):
    """Write one log line; one that is too long becomes several."""
    head = {"@timestamp": _timestamp(time.time() if created is None else created), "@level": _level(level)}
    if request_id:
        head["request_id"] = request_id
    line = _encode({**head, "@message": message, **(fields or {})})
    if len(line) <= _MAX_LINE:
        _write(fd, line)
        return
    if fields:
        text = _encode(fields).decode(errors="replace").rstrip("\n")
        message += "\n" + text
    for i in range(0, len(message), _MAX_PART):
        _write(fd, _encode({**head, "@message": message[i : i + _MAX_PART]}))


def _encode(fields):
    try:
        text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False, default=str, allow_nan=False)
    except (TypeError, ValueError):  # Keys that are no strings, or a cycle.
        text = json.dumps({str(k): str(v) for k, v in fields.items()}, ensure_ascii=False)
    return text.encode(errors="backslashreplace") + b"\n"


def _write(fd, line):
    while line:
        line = line[os.write(fd, line) :]


def _timestamp(seconds):
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{micro:06d}Z"


def _level(number):
    if number < logging.DEBUG:
        return "trace"
    if number < logging.INFO:
        return "debug"
    if number < logging.WARNING:
        return "info"
    if number < logging.ERROR:
        return "warn"
    return "error"
