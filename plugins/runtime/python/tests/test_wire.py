"""The codec against bytes that plugins/frame made, and against bytes that nobody should."""

import json
import os
import random
import unittest

from covey_runtime import call, wire
from covey_runtime.connection import Assembly

with open(os.environ["COVEY_GOLDEN"], encoding="utf-8") as golden:
    GOLDEN = {name: bytes.fromhex(text) for name, text in json.load(golden).items()}


class GoldenTest(unittest.TestCase):
    def test_setup(self):
        s = wire.Setup(GOLDEN["setup"])
        self.assertEqual((s.app, s.function, s.version), ("birds", "quail", 300))
        self.assertEqual((s.handler, s.code, s.cache), ("main.handler", "/var/task", "/var/cache/covey"))
        self.assertEqual((s.memory, s.timeout, s.concurrency, s.preparing), (256 << 20, 30.0, 16, True))
        self.assertEqual(s.env, [("NEST", "twigs = moss"), ("ÜNI", "\U0001f426")])

    def test_invoke(self):
        c = call.parse_context(GOLDEN["invoke"], b"body")
        self.assertEqual((c.request_id, c.attempt, c.app, c.function), ("01J" + "x" * 200, 3, "birds", "quail"))
        self.assertEqual((c.version, c.node, c.content_type), (1 << 40, "node-7", "text/csv"))
        self.assertEqual((c.trace, c.depth, c.payload), ("00-4bf9-00f0-01", 4, b"body"))
        self.assertEqual(c.attributes, {"http.method": "PUT", "ünï": "é"})
        self.assertTrue(1.4 < c.remaining() <= 1.5)

    def test_invoke_without_anything(self):
        c = call.parse_context(b"", b"")
        self.assertEqual((c.request_id, c.attempt, c.depth, c.attributes, c.deadline), ("", 0, 0, {}, None))

    def test_greeting(self):
        self.assertEqual(wire.greeting(1 << 20, "covey-runtime-python/1"), GOLDEN["greeting"])
        self.assertEqual(wire.parse_greeting(GOLDEN["greeting"]), (1 << 20, 1 << 30))

    def test_result(self):
        encoded = wire.result("text/html", 201, [("a", "ü")], 1500, 0, 1 << 33, 64 << 20)
        self.assertEqual(encoded, GOLDEN["result"])
        self.assertEqual(wire.result("", 0, None, 0, 0, 0, 0), GOLDEN["empty result"])

    def test_failure(self):
        self.assertEqual(wire.failure(wire.KIND_INIT, "NoNest", "no nest", "line 1\nline 2"), GOLDEN["failure"])
        self.assertEqual(wire.parse_failure(GOLDEN["failure"]), (2, "NoNest", "no nest", "line 1\nline 2"))

    def test_long_failure(self):
        self.assertEqual(wire.failure(wire.KIND_FUNCTION, "T", "x" * 100000), GOLDEN["long failure"])
        # A character is not cut into two.
        self.assertEqual(wire.parse_failure(wire.failure(0, "T", "é" * 40000))[2], "é" * 32768)
        self.assertEqual(len(wire.parse_failure(wire.failure(0, "T", "a" + "é" * 40000))[2]), 32768)

    def test_refusal(self):
        self.assertEqual(wire.refusal("busy", "too many"), GOLDEN["refusal"])
        self.assertEqual(wire.parse_refusal(GOLDEN["refusal later"]), ("busy", "too many", 2.5))

    def test_host_request(self):
        encoded = wire.host_request("id", "invoke", "other:live", "application/json", 0.0000011)
        self.assertEqual(encoded, GOLDEN["host request"])

    def test_host_result(self):
        self.assertEqual(wire.parse_host_result(GOLDEN["host result"]), ("text/html", [("a", "b")]))

    def test_header(self):
        self.assertEqual(wire.HEADER.pack(70000, wire.RESULT, wire.MORE | wire.ANSWER, 300, 1 << 50), GOLDEN["header"])


class MalformedTest(unittest.TestCase):
    def test_messages_that_are_cut_off(self):
        """Every prefix decodes, with zeros for what is missing, or is a protocol error; nothing else."""
        for name, parse in (("setup", wire.Setup), ("invoke", lambda b: call.parse_context(b, b""))):
            data = GOLDEN[name]
            for n in range(len(data)):
                try:
                    parse(data[:n])
                except wire.ProtocolError:
                    pass

    def test_random_bytes(self):
        rand = random.Random(7)
        for _ in range(3000):
            data = rand.randbytes(rand.randrange(60))
            for parse in (wire.Setup, wire.parse_failure, wire.parse_refusal, wire.parse_host_result):
                try:
                    parse(data)
                except wire.ProtocolError:
                    pass

    def test_numbers(self):
        self.assertEqual(wire.Decoder(wire.uint(2**64 - 1)).uint(), 2**64 - 1)
        for data in (b"\x80", b"\xff" * 9 + b"\x02", b"\xff" * 11):
            with self.assertRaises(wire.ProtocolError):
                wire.Decoder(data).uint()

    def test_attributes_that_ask_for_more_memory_than_they_have(self):
        with self.assertRaises(wire.ProtocolError):
            wire.Decoder(wire.uint(1 << 40) + b"\0\0").attributes()

    def test_further_fields_are_skipped(self):
        self.assertEqual(wire.Setup(GOLDEN["setup"] + b"\x05later").timeout, 30.0)


class AssemblyTest(unittest.TestCase):
    def test_chunks_add_up(self):
        a = Assembly(5)
        self.assertFalse(a.add(0, 0, b"abc"))
        self.assertTrue(a.add(wire.END, 0, b"de"))
        self.assertEqual(a.body, b"abcde")

    def test_chunks_that_do_not(self):
        for flags, head, payload in ((0, 0, b"abcdef"), (0, 0, b""), (0, 1, b"ab"), (wire.END, 0, b"ab"), (0, 0, b"abcde")):
            with self.assertRaises(wire.ProtocolError):
                Assembly(5).add(flags, head, payload)


if __name__ == "__main__":
    unittest.main()
