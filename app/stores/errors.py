"""How a store fails, and what it refuses."""


class StoreError(Exception):
    """A store that cannot be opened; its text is one readable line."""


class StoreUnavailableError(Exception):
    """A store that was opened and does not answer: its disk is full, it cannot be reached, it was closed."""


class NameConflictError(Exception):
    """A name that another program holds."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(f'the name "{name}" belongs to the program {holder}; "replace": true moves it')


class TooManySessionsError(Exception):
    """A client has, or all have, as many sessions as may be."""
