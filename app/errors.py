"""Refusals that any room of the server may raise: too much work, too little time."""


class OverloadedError(Exception):
    """The server is busy, and its queue is full."""


class DeadlineExceededError(Exception):
    """Work was not finished in time."""


class WorkerDiedError(Exception):
    """The process that worked on a request has ended, or cannot be started."""
