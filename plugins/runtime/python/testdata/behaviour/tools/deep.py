"""A module in a folder, which is a package without an __init__.py."""


def handler(event, context):
    return {"name": __name__}
