"""An AWS Lambda function as people have it: behind an HTTP API, it takes sales as CSV and answers with a summary.

Zipped with this file at its top it is a package for Lambda's runtimes python3.9 and newer, and for Covey's runtime
lambda. The handler is lambda_function.lambda_handler.
"""

import base64
import collections
import csv
import decimal
import io
import json
import logging

logger = logging.getLogger()


class BadRow(Exception):
    """A row that cannot be counted."""


def lambda_handler(event, context):
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode("utf-8")
    try:
        summary = summarise(io.StringIO(body))
    except BadRow as error:
        logger.warning("sales refused: %s", error)
        return answer(400, {"error": str(error)})
    logger.info("%d rows of %d items", summary["rows"], len(summary["items"]))
    return answer(200, summary)


def summarise(text):
    """Adds up the columns item, count and price."""
    totals = collections.defaultdict(lambda: [0, decimal.Decimal()])
    rows = 0
    for rows, row in enumerate(csv.DictReader(text), start=1):
        try:
            count, price = int(row["count"]), decimal.Decimal(row["price"])
        except (KeyError, TypeError, ValueError, decimal.InvalidOperation):
            raise BadRow("row %d is not item, count, price" % rows) from None
        totals[row["item"]][0] += count
        totals[row["item"]][1] += count * price
    items = [{"item": item, "count": count, "total": str(total)} for item, (count, total) in sorted(totals.items())]
    return {"rows": rows, "items": items}


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
