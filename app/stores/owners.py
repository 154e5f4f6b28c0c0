"""Owners of programs and sessions: what each may do with those of others, and how much it may keep."""

from typing import NamedTuple

from app.errors import ForbiddenError


class Allowance(NamedTuple):
    """Most that one owner may keep; None: as much as the store allows.

    programs: claims on programs. sessions: sessions that live. session_bytes: of all its sessions.
    """

    programs: int | None = None
    sessions: int | None = None
    session_bytes: int | None = None


class Caller(NamedTuple):
    """Owner on whose behalf a request is answered.

    owner: id of its key; empty where no keys are needed, and of all that was made without keys.
    is_admin: whether it may also look at and delete what others own, and owns what was made without keys.
    allowance: most that it may keep.
    """

    owner: str = ""
    is_admin: bool = True
    allowance: Allowance = Allowance()

    def owns(self, owner: str) -> bool:
        """Return whether something of this owner belongs to the caller."""
        return owner == self.owner or (self.is_admin and not owner)

    def check_looks(self, owner: str) -> None:
        """Raise ForbiddenError unless the caller may look at, or delete, a session of this owner."""
        if not (self.is_admin or self.owns(owner)):
            raise ForbiddenError("the session belongs to another key")

    def check_changes(self, owner: str) -> None:
        """Raise ForbiddenError unless the caller may change a session of this owner."""
        if not self.owns(owner):
            raise ForbiddenError("the session belongs to another key, and is not changed by any other")


#: The caller of a server without keys, and of one with keys whose request has none.
ANYONE, GUEST = Caller(), Caller("guest", is_admin=False, allowance=Allowance(0, 0, 0))
