"""gob and yamux against what a peer may send."""

import socket
import struct
import threading
import unittest

from covey_runtime import gob, yamux


class GobTest(unittest.TestCase):
    def test_numbers(self):
        for n in (0, 127, 128, 255, 256, 1 << 32, (1 << 64) - 1):
            self.assertEqual(gob.Value(gob.uint(n)).uint(), n)

    def test_request_in_pieces(self):
        header = gob.uint(3 + 4 + 3) + gob.uint(100 << 1) + b"\x01\x04ping\x01\x07\x00"
        argument = gob.uint(3) + gob.uint(gob.BOOL << 1) + b"\x00\x01"
        header = gob.uint(len(header) - 1) + header[1:]
        reader = gob.Reader()
        data = (header + argument) * 2
        requests = [r for i in range(len(data)) for r in reader.feed(data[i : i + 1])]
        self.assertEqual(requests, [("ping", 7, True)] * 2)

    def test_malformed(self):
        for data in (
            b"\xf0",  # a number of sixteen bytes
            gob.uint(1 << 40),  # a value larger than any
            b"\x02\x02\x00",  # a header that is a bool
            b"\x06\xff\xc8\x01\x7fxx",  # a string longer than its value
            b"\x04\xff\xc8\x01\x02",  # a header that does not end
        ):
            with self.assertRaises(gob.GobError):
                gob.Reader().feed(data)


def frame(kind, flags, stream, length, data=b""):
    return struct.pack(">BBHII", 0, kind, flags, stream, length) + data


class YamuxTest(unittest.TestCase):
    def setUp(self):
        self.client, server = socket.socketpair()
        self.client.settimeout(10)
        self.got = []
        self.streams = []
        self.error = None

        def accept(stream):
            self.streams.append(stream)
            return self.got.append

        self.session = yamux.Session(server, accept)
        self.thread = threading.Thread(target=self.run_session, daemon=True)
        self.thread.start()
        self.addCleanup(self.client.close)

    def run_session(self):
        try:
            self.session.run()
        except yamux.YamuxError as err:
            self.error = err

    def read_bytes(self, n):
        data = b""
        while len(data) < n:
            part = self.client.recv(n - len(data))
            self.assertTrue(part)
            data += part
        return data

    def read(self):
        _, kind, flags, stream, length = struct.unpack(">BBHII", self.read_bytes(12))
        return kind, flags, stream, length, self.read_bytes(length if kind == 0 else 0)

    def test_ping_and_stream(self):
        self.client.sendall(frame(2, 1, 0, 42))
        self.assertEqual(self.read(), (2, 2, 0, 42, b""))
        self.client.sendall(frame(1, 1, 3, 0) + frame(0, 0, 3, 5, b"hello"))
        self.assertEqual(self.read(), (1, 2, 3, 0, b""))
        self.assertEqual(self.read(), (1, 0, 3, 5, b""))
        self.client.sendall(frame(0, 4, 3, 0))
        self.assertEqual(self.read(), (1, 4, 3, 0, b""))
        self.assertEqual(self.got, [b"hello"])

    def test_write_waits_for_the_window(self):
        self.client.sendall(frame(1, 1, 1, 0))
        self.read()
        data = bytes(300 << 10)
        writer = threading.Thread(target=self.streams[0].write, args=(data,), daemon=True)
        writer.start()
        self.assertEqual(self.read()[3], 256 << 10)
        self.client.sendall(frame(1, 0, 1, 10))
        self.assertEqual(self.read()[3], 10)
        self.client.sendall(frame(1, 8, 1, 0))  # Reset: the rest is lost.
        writer.join(10)
        self.assertFalse(writer.is_alive())

    def test_broken_peer(self):
        self.client.sendall(b"\x09" + bytes(11))
        self.thread.join(10)
        self.assertIsInstance(self.error, yamux.YamuxError)

    def test_too_many_streams(self):
        for i in range(65):
            self.client.sendall(frame(1, 1, 2 * i + 1, 0))
        self.thread.join(10)
        self.assertIsInstance(self.error, yamux.YamuxError)


if __name__ == "__main__":
    unittest.main()
