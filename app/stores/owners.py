"""Owners of programs and sessions: what each may do with those of others, and how much it may keep."""

from typing import NamedTuple

from app.audit import audit
from app.errors import ForbiddenError
from engine.core import LimitExceededError


class Allowance(NamedTuple):
    """Most that one owner may keep; None: as much as the store allows.

    programs: claims on programs. sessions: sessions that live. session_bytes: of all its sessions.
    """

    programs: int | None = None
    sessions: int | None = None
    session_bytes: int | None = None

    def check_programs(self, count: int) -> None:
        """Raise LimitExceededError where the owner would have more programs than allowed."""
        if self.programs is not None and count > self.programs:
            limit = f"the quota of your key is {self.programs:,} (pullback keys create --max-programs)"
            raise LimitExceededError(f"you would have {count:,} programs, {limit}; delete some")


UNLIMITED = Allowance()


class Caller(NamedTuple):
    """Owner on whose behalf a request is answered.

    owner: id of its key; empty where no keys are needed, and of all that was made without keys.
    is_admin: whether it may also look at and delete what others own, and owns what was made without keys.
    allowance: most that it may keep.
    """

    owner: str = ""
    is_admin: bool = True
    allowance: Allowance = UNLIMITED

    def owns(self, owner: str) -> bool:
        """Return whether something of this owner belongs to the caller."""
        return owner == self.owner or (self.is_admin and not owner)

    @property
    def owned(self) -> tuple[str, ...]:
        """Owners whose things belong to the caller."""
        return (self.owner, "") if self.is_admin and self.owner else (self.owner,)

    def check_takes(self, name: str, owner: str) -> None:
        """Raise ForbiddenError unless the caller may give another program a name of this owner."""
        if not (self.is_admin or self.owns(owner)):
            raise ForbiddenError(f'the name "{name}" belongs to another key; choose another')

    def note_taken(self, name: str, owner: str) -> None:
        """Record that an admin gave another program a name of this owner."""
        if not self.owns(owner):
            audit(self.owner, f'take the name "{name}" from the key {owner}')

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
