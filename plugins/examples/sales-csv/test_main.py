"""Tests of the function that need no node: python3 -m unittest, with the SDK installed."""

import unittest

import covey
from main import handler

FILE = b"""\xef\xbb\xbfRegion,date,product,quantity,unit_price,note
north,2026-03-01,nest,2,10.10,"with ""quotes"",
and a second line"
south,2026-01-31,egg,100,0.01,

north,2025-12-24,egg,1,0.05,
"""


def run(file, **attributes):
    return list(handler(file, covey.Context("test", attributes=attributes)))


class SalesTest(unittest.TestCase):
    def test_total(self):
        self.assertEqual(
            run(FILE),
            [{"total": {"orders": 3, "quantity": 103, "revenue": "21.25", "first": "2025-12-24", "last": "2026-03-01"}}],
        )

    def test_groups(self):
        lines = run(FILE, by="region, year")
        self.assertEqual(
            lines[:-1],
            [
                {"region": "north", "year": "2026", "orders": 1, "quantity": 2, "revenue": "20.20"},
                {"region": "south", "year": "2026", "orders": 1, "quantity": 100, "revenue": "1.00"},
                {"region": "north", "year": "2025", "orders": 1, "quantity": 1, "revenue": "0.05"},
            ],
        )

    def test_mistakes(self):
        for file, by, text in (
            (b"", "", "no column date, region"),
            (b"\xff\xfe", "", "not UTF-8 at byte 0"),
            (FILE, "colour", "no such column"),
            (FILE.replace(b"100", b"many"), "", "line 4"),
            (FILE.replace(b",0.01", b",dear"), "", "line 4"),
            (FILE + b"north\n", "", "line 7"),
        ):
            with self.assertRaises(covey.Error) as caught:
                run(file, by=by)
            self.assertEqual(caught.exception.type, "InvalidInput")
            self.assertIn(text, caught.exception.message)

    def test_cancelled(self):
        context = covey.Context("test")
        context.cancelled.set()
        with self.assertRaises(covey.Cancelled):
            list(handler(FILE + b"north,2026-03-01,nest,1,1,\n" * 20000, context))


if __name__ == "__main__":
    unittest.main()
