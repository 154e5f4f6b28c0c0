"""Errors of stores."""


class StoreError(Exception):
    """A store cannot be opened; the text is one readable line."""


class StoreUnavailableError(Exception):
    """A store that was opened does not answer: it cannot be reached, was closed, or its file was removed."""


class StorageFullError(StoreUnavailableError):
    """The disk or the memory of the store is full: nothing was kept."""


class DamagedError(StoreUnavailableError):
    """Stored data is not what was written.

    Args:
        what: is damaged, for the operator of the server.
        detail: for the client.
        reason: for the operator.
    """

    def __init__(self, what: str, detail: str, reason: object) -> None:
        super().__init__(detail)
        self.what = what
        self.reason = str(reason)


class NameConflictError(Exception):
    """The name belongs to another program."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(f'the name "{name}" belongs to the program {holder}; "replace": true moves it')


class TooManySessionsError(Exception):
    """The number of sessions, of one client or in all, is at its limit."""
