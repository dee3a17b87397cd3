"""Calls another function while it is being imported."""

import threading

import covey

early = covey.invoke("config", {"for": "eager"}).json()
threaded = []
thread = threading.Thread(target=lambda: threaded.append(covey.invoke("config", {"for": "thread"}).json()))
thread.start()
thread.join()


def handler(event, context):
    return {"early": early, "threaded": threaded}
