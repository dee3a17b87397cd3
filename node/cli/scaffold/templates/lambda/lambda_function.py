"""A function as AWS Lambda runs it, and Covey too."""


def lambda_handler(event, context):
    """Greet. The event is JSON, and so is what is returned."""
    name = event.get("name")
    if not name:
        raise ValueError("the event has no name")
    print("greeting", name)
    return {"greeting": f"Hello, {name}!"}
