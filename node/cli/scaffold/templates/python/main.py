"""A function for Covey. What it prints goes to its log."""


def handler(event, context):
    """Greet. The event is JSON, and so is what is returned."""
    name = event.get("name")
    if not name:
        raise ValueError("the event has no name")
    print("greeting", name)
    return {"greeting": f"Hello, {name}!"}
