"""The errors that cross the boundary of the process."""


class Error(Exception):
    """An error with a type that callers can branch on.

    A handler raises one to answer its caller; invoke raises one for the error of the function that it called.
    """

    def __init__(self, type, message="", *, stack="", platform=False, unhandled=False):
        super().__init__(type, message)
        self.type = type
        """A short stable name such as "NotFound"."""
        self.message = message
        """For people."""
        self.stack = stack
        """Where the other function fell over the error, if it did; lines for people."""
        self.platform = platform
        """True if Covey and not the function failed. Ignored in a handler's error."""
        self.unhandled = unhandled
        """True if the function did not choose the error but fell over it."""

    def __str__(self):
        return f"{self.type}: {self.message}"


class NotStarted(Error):
    """A host call that certainly had no effect: it may be tried again."""

    def __init__(self, type, message="", *, retry_after=0.0):
        super().__init__(type, message, platform=True)
        self.retry_after = retry_after
        """The node's advice in seconds; zero if it gives none."""


class Cancelled(Error):
    """Nobody waits for the call any more."""

    def __init__(self, message="the caller has given up"):
        super().__init__("Cancelled", message)
