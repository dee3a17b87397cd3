"""Sums up a CSV file of sales.

The payload is the file, with a header line and at least the columns date (YYYY-MM-DD), region, product, quantity and
unit_price, in any order. The attribute "by" names one or more columns to group by, separated by commas; "month" and
"year" are made of the date. Without it, one line sums up all. The answer is a stream of JSON lines, the largest
revenue first, and a last line with the totals::

    {"region": "north", "orders": 17, "quantity": 40, "revenue": "1234.50"}
    {"total": {"orders": 17, "quantity": 40, "revenue": "1234.50", "first": "2026-01-02", "last": "2026-11-30"}}

Money is decimal from end to end. A line that cannot be read fails the call and names its number.
"""

import csv
import io
from decimal import Decimal, InvalidOperation

import covey

REQUIRED = ("date", "region", "product", "quantity", "unit_price")


class Sum:
    """What is added up of a group of sales."""

    __slots__ = ("orders", "quantity", "revenue")

    def __init__(self):
        self.orders = 0
        self.quantity = 0
        self.revenue = Decimal(0)

    def add(self, quantity, revenue):
        self.orders += 1
        self.quantity += quantity
        self.revenue += revenue

    def values(self):
        return {"orders": self.orders, "quantity": self.quantity, "revenue": f"{self.revenue:.2f}"}


@covey.raw
def handler(payload, context):
    """Stream the sums of a CSV file."""
    by = [name.strip() for name in context.attributes.get("by", "").split(",") if name.strip()]
    groups, total, first, last = add_up(io.StringIO(decode(payload), newline=""), by, context)
    context.set_content_type("application/x-ndjson")
    for key, group in sorted(groups.items(), key=lambda item: (-item[1].revenue, item[0])):
        yield {**dict(zip(by, key)), **group.values()}
    yield {"total": {**total.values(), "first": first, "last": last}}


def decode(payload):
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise covey.Error("InvalidInput", f"the file is not UTF-8 at byte {err.start}") from None


def add_up(lines, by, context):
    """Return the groups, the total, and the first and last date."""
    reader = csv.reader(lines)
    columns = {name.strip().lower(): i for i, name in enumerate(next(reader, ()))}
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise covey.Error("InvalidInput", f"the header has no column {', '.join(missing)}")
    keys = [key_of(name, columns) for name in by]
    date, quantity, price = columns["date"], columns["quantity"], columns["unit_price"]
    groups, total, first, last = {}, Sum(), None, None
    for row in reader:
        if not row:
            continue
        try:
            n = int(row[quantity])
            revenue = n * Decimal(row[price])
            day = row[date]
            key = tuple(k(row) for k in keys)
        except (ValueError, InvalidOperation, IndexError) as err:
            raise covey.Error("InvalidInput", f"line {reader.line_num} cannot be read: {err!r}") from None
        group = groups.get(key)
        if group is None:
            group = groups[key] = Sum()
        group.add(n, revenue)
        total.add(n, revenue)
        if first is None or day < first:
            first = day
        if last is None or day > last:
            last = day
        if total.orders % 10000 == 0 and context.cancelled.is_set():
            raise covey.Cancelled()
    return groups if by else {}, total, first, last


def key_of(name, columns):
    """Return a function that takes a group's key out of a row."""
    date = columns["date"]
    if name == "month":
        return lambda row: row[date][:7]
    if name == "year":
        return lambda row: row[date][:4]
    if name not in columns:
        raise covey.Error("InvalidInput", f"cannot group by {name}: there is no such column")
    column = columns[name]
    return lambda row: row[column]
