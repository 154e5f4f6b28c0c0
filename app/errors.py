"""Refusals that any room of the server may raise: too much work, too little time."""


class OverloadedError(Exception):
    """The server is busy, and its queue is full.

    Args:
        detail: what was wrong.
        wait_s: seconds after which it may be otherwise.
    """

    def __init__(self, detail: str, wait_s: float = 1.0) -> None:
        super().__init__(detail)
        self.wait_s = wait_s


class DeadlineExceededError(Exception):
    """Work was not finished in time."""


class WorkerDiedError(Exception):
    """The process that worked on a request has ended, or cannot be started."""


class UnauthorizedError(Exception):
    """A request has no key where one is needed, or one that is unknown or revoked.

    Args:
        detail: what was wrong.
        was_given: whether there was a key.
    """

    def __init__(self, detail: str, was_given: bool) -> None:
        super().__init__(detail)
        self.was_given = was_given


class ForbiddenError(Exception):
    """A key does not allow something.

    Args:
        detail: what was wrong.
        scope: scope that would allow it, empty if none would.
    """

    def __init__(self, detail: str, scope: str = "") -> None:
        super().__init__(detail)
        self.scope = scope


class RateLimitedError(Exception):
    """A key has used up what it may use in a time.

    Args:
        detail: what was wrong.
        wait_s: seconds until the next request is answered.
    """

    def __init__(self, detail: str, wait_s: float) -> None:
        super().__init__(detail)
        self.wait_s = wait_s
