"""Commands that make, change and drop variables, and the session's flags."""

from typing import Any

from pydantic import Field, StrictBool, StrictStr

from app.sessions.commands.base import Command, Id, Ids, Made, bind_all, raw_of, value_of
from app.sessions.session import Constant, Session, SessionObject
from app.wire.schemas import Value
from engine.core import InvalidValueError, Variable, as_raw
from engine.graph import quoted


class MakeVariable(Command, do="variable"):
    """A leaf."""

    id: Id | None = None
    value: Value
    name: StrictStr | None = Field(None, description="Name in pictures.")
    constant: StrictBool = Field(False, description="Compute and keep no gradient for it.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        raw = value_of(session, self.value, ("value",))
        held: SessionObject = Constant(raw, self.name) if self.constant else _leaf(raw, self.name)
        return bind_all(session, [held], None if self.id is None else [self.id])


class Assign(Command, do="assign"):
    """New data for a variable; one that was computed becomes a leaf."""

    id: Id
    value: Value = None
    source: Id | None = Field(None, alias="from", description="Id of a variable with the data, in place of value.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        given = self.model_fields_set
        if ("value" in given) == ("source" in given):
            raise InvalidValueError('exactly one of "value" and "from" is expected')
        raw = value_of(session, self.value, ("value",)) if "value" in given else None
        if self.source is not None:
            raw = as_raw(raw_of(session.operand(self.source, ("from",))))
        held = session.find(self.id, ("id",))
        if isinstance(held, Constant):
            held.value = raw
            return ()
        v = session.variable(self.id, ("id",))
        v.unchain()
        v.data = raw
        return ()


class Delete(Command, do="delete"):
    """Drop ids; the tape keeps the variables that it needs."""

    ids: Ids

    def run(self, session: Session) -> Made:
        """See `Command`."""
        for n, name in enumerate(self.ids):
            session.find(name, ("ids", n))
            if "." in name:
                raise InvalidValueError(f"{quoted(name)} is a parameter; delete its layer instead", ("ids", n))
        for n, name in enumerate(self.ids):
            session.find(name, ("ids", n))
            del session.ids[session.new_id(name, ("ids", n))]
        return ()


class Set(Command, do="set"):
    """Set flags from here on."""

    nograd: StrictBool | None = Field(None, description="Record nothing.")
    train: StrictBool | None = Field(None, description="Activate random operations.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        if self.nograd is None and self.train is None:
            raise InvalidValueError('nothing to set; expected "nograd" or "train"')
        session.nograd = session.nograd if self.nograd is None else self.nograd
        session.train = session.train if self.train is None else self.train
        return ()


def _leaf(raw: Any, name: str | None) -> Variable:
    v = Variable._leaf(raw)
    v.name = name
    return v
