"""The SDK as a function's own tests use it: without a node."""

import asyncio
import json
import logging
import os
import sys
import time
import unittest

import covey
import covey.testing


class ContextTest(unittest.TestCase):
    def test_defaults(self):
        c = covey.Context("id")
        self.assertEqual((c.request_id, c.attempt, c.app, c.version, c.attributes), ("id", 1, "default", 0, {}))
        self.assertIsNone(c.deadline)
        self.assertIsNone(c.remaining())
        self.assertIn("id", repr(c))

    def test_deadline(self):
        c = covey.Context(timeout=5)
        self.assertTrue(4 < c.remaining() <= 5)
        self.assertTrue(4 < c.deadline - time.time() <= 5)
        self.assertEqual(covey.Context(timeout=-1).remaining(), 0)

    def test_cancelled(self):
        c = covey.Context()
        self.assertFalse(c.cancelled.is_set())
        c._cancel()
        self.assertTrue(c.cancelled.is_set())
        early = covey.Context()
        early._cancel()
        self.assertTrue(early.cancelled.is_set())

    def test_status(self):
        with self.assertRaises(ValueError):
            covey.Context().set_status(99)

    def test_payload_is_bytes(self):
        self.assertEqual(covey.Context(payload=bytearray(b"x")).payload, b"x")

    def test_unknown_attributes_are_mistakes(self):
        with self.assertRaises(AttributeError):
            covey.Context().status = 201


class ErrorTest(unittest.TestCase):
    def test_error(self):
        err = covey.Error("NotFound", "no such bird")
        self.assertEqual((err.type, err.message, str(err)), ("NotFound", "no such bird", "NotFound: no such bird"))
        self.assertFalse(err.platform or err.unhandled)
        self.assertIsInstance(covey.NotStarted("busy"), covey.Error)


class InvokeTest(unittest.TestCase):
    def test_without_a_node(self):
        with self.assertRaisesRegex(RuntimeError, "no node"):
            covey.invoke("other", {})

    def test_fake(self):
        def other(name, payload):
            if name == "absent":
                raise covey.Error("NotFound", name)
            return {"name": name, "got": payload.json() if payload.content_type == "application/json" else len(payload)}

        with covey.testing.call(invoke=other) as context:
            self.assertIs(covey.current(), context)
            self.assertEqual(covey.invoke("resize:3", {"a": "é"}).json(), {"name": "resize:3", "got": {"a": "é"}})
            self.assertEqual(covey.invoke("resize", b"abc").json()["got"], 3)
            self.assertEqual(asyncio.run(covey.ainvoke("resize", "text")).json()["got"], 4)
            with self.assertRaises(covey.Error):
                covey.invoke("absent")
        self.assertIsNone(covey.current())

    def test_payload_that_is_no_json(self):
        with covey.testing.call(invoke=lambda name, payload: b""):
            for payload in ({1, 2}, float("inf"), object()):
                with self.assertRaises((TypeError, ValueError)):
                    covey.invoke("other", payload)

    def test_reply(self):
        with covey.testing.call(invoke=lambda name, payload: "chirp"):
            reply = covey.invoke("other")
        self.assertEqual((reply, reply.text()), (b"chirp", "chirp"))
        self.assertEqual(reply.content_type, "text/plain; charset=utf-8")


class LogTest(unittest.TestCase):
    def setUp(self):
        self.read, write = os.pipe()
        self.handler = covey.LogHandler(write)
        self.logger = logging.getLogger("nest")
        self.logger.propagate = False
        self.logger.setLevel(1)
        self.logger.addHandler(self.handler)
        self.addCleanup(os.close, self.read)
        self.addCleanup(os.close, write)
        self.addCleanup(self.logger.removeHandler, self.handler)

    def lines(self):
        return [json.loads(line) for line in os.read(self.read, 1 << 20).decode().splitlines()]

    def test_fields(self):
        with covey.testing.call(covey.Context("call-1")):
            self.logger.warning("low on %s\nsecond", "twigs", extra={"left": 3, "where": object})
        (line,) = self.lines()
        self.assertEqual((line["@level"], line["@message"]), ("warn", "low on twigs\nsecond"))
        self.assertEqual((line["request_id"], line["@module"], line["left"]), ("call-1", "nest", 3))
        self.assertRegex(line["@timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(line["where"], str(object))

    def test_levels(self):
        for level in (5, 10, 20, 30, 40, 50):
            self.logger.log(level, "x")
        self.assertEqual([line["@level"] for line in self.lines()], ["trace", "debug", "info", "warn", "error", "error"])

    def test_exception(self):
        try:
            raise LookupError("no worm")
        except LookupError:
            self.logger.exception("fell")
        self.assertRegex(self.lines()[0]["@message"], r"(?s)^fell\nTraceback.*LookupError: no worm$")

    def test_values_that_are_no_json(self):
        self.logger.info("half \ud83d", extra={"nan": float("nan"), "tuple keys": {(1, 2): 3}})
        (line,) = self.lines()
        self.assertEqual((line["nan"], line["tuple keys"]), ("nan", "{(1, 2): 3}"))

    def test_long_message(self):
        self.logger.info("x" * 30000, extra={"left": 3})
        lines = self.lines()
        self.assertEqual(sum(line["@message"].count("x") for line in lines), 30000)
        self.assertIn('"left":3', lines[-1]["@message"])

    def test_broken_message(self):
        stderr, sys.stderr = sys.stderr, open(os.devnull, "w")
        try:
            self.logger.info("%d", "no number")
        finally:
            sys.stderr.close()
            sys.stderr = stderr
        self.logger.info("next")
        self.assertEqual([line["@message"] for line in self.lines()], ["next"])


class RawTest(unittest.TestCase):
    def test_marks_the_handler(self):
        @covey.raw
        def handler(event, context):
            return event

        self.assertEqual(handler(b"x", None), b"x")


if __name__ == "__main__":
    unittest.main()
