"""Exceptions on their way out of the process, and into it."""

import os
import traceback

from covey import Error, NotStarted

from . import wire

_OURS = os.path.dirname(os.path.abspath(__file__))


def of(exc, kind=wire.KIND_UNHANDLED):
    """Return kind, type, message and stack of an exception. kind is for one that is no covey.Error."""
    if isinstance(exc, Error):
        if kind == wire.KIND_UNHANDLED:
            kind = wire.KIND_UNHANDLED if exc.unhandled else wire.KIND_FUNCTION
        stack = exc.stack
        if kind == wire.KIND_INIT and not stack:
            stack = trace(exc)
        return kind, str(exc.type), str(exc.message), str(stack)
    return kind, type(exc).__name__, _text(exc), trace(exc)


def trace(exc):
    """Return the traceback as Python prints it, without the runtime's own frames at its top."""
    frames = exc.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    try:
        return "".join(traceback.format_exception(type(exc), exc, frames))
    except Exception:  # Its __str__ may be broken too.
        return "".join(traceback.format_tb(frames)) + type(exc).__name__


def _text(exc):
    try:
        return str(exc)
    except Exception:
        return "(the exception has no text)"


def from_answer(type_, body):
    """Return the exception for an ERROR or a REFUSED that answered a host call."""
    if type_ == wire.REFUSED:
        code, message, retry_after = wire.parse_refusal(body)
        return NotStarted(code, message, retry_after=retry_after)
    kind, error_type, message, stack = wire.parse_failure(body)
    return Error(
        error_type,
        message,
        stack=stack,
        platform=kind == wire.KIND_PLATFORM,
        unhandled=kind == wire.KIND_UNHANDLED,
    )
