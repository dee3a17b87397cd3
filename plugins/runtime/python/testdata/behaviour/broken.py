"""Does not compile, on purpose."""

def handler(event, context)
    return None
