"""Helps to test a handler without a node."""

from contextlib import contextmanager

from . import _host
from ._context import Context, _current
from ._host import Reply, encode


class _Fake:
    def __init__(self, invoke):
        self._invoke = invoke

    def call(self, op, target, body, content_type, context):
        if op != "invoke" or self._invoke is None:
            raise RuntimeError(f"{op} {target}: the test does not expect it")
        answer, answer_type = encode(self._invoke(target, Reply(body, content_type)))
        return Reply(answer, answer_type)

    async def acall(self, op, target, body, content_type, context):
        return self.call(op, target, body, content_type, context)


@contextmanager
def call(context=None, invoke=None):
    """Run the code inside as if for one call, and yield its Context.

    invoke stands for the functions that are called: it gets their name and the payload (a Reply, which is bytes with
    a method json()) and returns, or raises, what they answer::

        with covey.testing.call(invoke=lambda name, payload: {"ok": True}) as context:
            assert handler({"id": 7}, context) == {"ok": True}
    """
    context = context or Context("test")
    node, _host._node = _host._node, _Fake(invoke)
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
        _host._node = node
