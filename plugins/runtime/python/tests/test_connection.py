"""Frames over a real socket, in all sizes and pieces."""

import array
import os
import socket
import threading
import unittest

from covey_runtime import wire
from covey_runtime.connection import Connection


class ConnectionTest(unittest.TestCase):
    def setUp(self):
        self.left, self.right = socket.socketpair()
        self.addCleanup(self.left.close)
        self.addCleanup(self.right.close)
        self.reader = Connection(self.right, carries_files=True)

    def receive(self, count):
        frames = []
        while len(frames) < count:
            frames.extend(self.reader.read())
        return frames

    def test_byte_by_byte(self):
        data = b"".join(
            wire.HEADER.pack(len(body) + 2, wire.INVOKE, 0, 2, i + 1) + b"hd" + body
            for i, body in enumerate((b"", b"x", b"y" * 300))
        )
        frames = []
        for i in range(len(data)):
            self.left.sendall(data[i : i + 1])
            frames.extend(self.reader.read())
        self.assertEqual([(f[0], f[2], f[3], len(f[4])) for f in frames], [(3, 2, 1, 2), (3, 2, 2, 3), (3, 2, 3, 302)])

    def test_many_in_one_read(self):
        self.left.sendall(b"".join(wire.HEADER.pack(3, wire.CREDIT, 0, 0, i) + b"abc" for i in range(1000)))
        self.assertEqual([f[3] for f in self.receive(1000)], list(range(1000)))

    def test_sizes_around_the_limits(self):
        writer = Connection(self.left)
        head = b"h" * 10
        for size in (0, 1, 32 << 10, (64 << 10) - 10, 64 << 10, wire.MAX_PAYLOAD - 10):
            body = os.urandom(size)
            thread = threading.Thread(target=writer.send, args=(wire.RESULT, 0, 7, head, body))
            thread.start()
            (frame,) = self.receive(1)
            thread.join()
            self.assertEqual((frame[0], frame[1], frame[2], frame[3]), (wire.RESULT, 0, 10, 7))
            self.assertEqual(bytes(frame[4]), head + body)

    def test_large_body_goes_in_chunks(self):
        writer = Connection(self.left)
        body = os.urandom(2 * wire.MAX_PAYLOAD + 5)
        for type_, flag in ((wire.RESULT, wire.ANSWER), (wire.HOSTCALL, 0)):
            thread = threading.Thread(target=writer.send, args=(type_, 0, 7, b"head", body))
            thread.start()
            frames = self.receive(4)
            thread.join()
            self.assertEqual(frames[0][:2], (type_, wire.MORE))
            self.assertEqual(bytes(frames[0][4]), b"head" + wire.u64(len(body)))
            self.assertEqual([f[1] for f in frames[1:]], [flag, flag, flag | wire.END])
            self.assertEqual(b"".join(f[4] for f in frames[1:]), body)

    def test_nothing_there(self):
        with self.assertRaises(BlockingIOError):
            self.reader.read(socket.MSG_DONTWAIT)

    def test_large_frame_without_waiting(self):
        body = os.urandom(500_000)
        thread = threading.Thread(target=Connection(self.left).send, args=(wire.INVOKE, 0, 1, b"", body))
        thread.start()
        frames = []
        while not frames:
            try:
                frames.extend(self.reader.read(socket.MSG_DONTWAIT))
            except BlockingIOError:
                pass
        thread.join()
        self.assertEqual(bytes(frames[0][4]), body)

    def test_end(self):
        self.left.close()
        with self.assertRaises(EOFError):
            self.reader.read()

    def test_end_inside_a_large_frame(self):
        self.left.sendall(wire.HEADER.pack(100_000, wire.INVOKE, 0, 0, 1) + b"x")
        self.left.close()
        with self.assertRaises(EOFError):
            while True:
                self.reader.read()

    def test_descriptors_come_with_their_frame(self):
        r, w = os.pipe()
        self.addCleanup(os.close, r)
        self.left.sendall(wire.HEADER.pack(0, wire.CANCEL, 0, 0, 1))
        hello = wire.HEADER.pack(0, wire.HELLO, wire.LANE, 0, 0)
        self.left.sendmsg([hello], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [w]))])
        os.close(w)
        self.left.sendall(wire.HEADER.pack(0, wire.CANCEL, 0, 0, 2))
        frames = self.receive(3)
        self.assertEqual([f[0] for f in frames], [wire.CANCEL, wire.HELLO, wire.CANCEL])
        (fd,) = self.reader.files
        self.assertFalse(os.get_inheritable(fd))
        os.write(fd, b"through")
        os.close(fd)
        self.assertEqual(os.read(r, 100), b"through")


if __name__ == "__main__":
    unittest.main()
