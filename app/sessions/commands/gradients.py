"""Commands that compute, name and forget gradients and tapes."""

from pydantic import Field, StrictBool

from app.sessions.commands.base import Command, Id, IdOrValue, Ids, Made, bind_all, value_of
from app.sessions.session import Constant, Module, Session
from engine.core import NoGradientError, Variable
from engine.graph import quoted
from engine.programs import WORDS


class Backward(Command, do="backward"):
    """Add the gradient of a variable to every leaf that it was computed from."""

    of: Id
    create_graph: StrictBool = False
    retain_grad: StrictBool = False
    cotangent: IdOrValue = Field(None, description="Cotangent to start from, an id or a value; default: ones.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        v = session.variable(self.of, ("of",))
        cotangent = self.cotangent
        if isinstance(cotangent, str) and cotangent not in WORDS:
            cotangent = session.operand(cotangent, ("cotangent",))
        elif cotangent is not None:
            cotangent = value_of(session, cotangent, ("cotangent",), v.dtype if v.dtype.kind == "f" else None)
        with session.mode():
            v.backward(create_graph=self.create_graph, retain_grad=self.retain_grad, cotangent=cotangent)
        if self.create_graph:
            session.spend(0)
        return ()


class Grad(Command, do="grad"):
    """Bind the gradient of a variable to an id, so that it can be an operand."""

    of: Id
    out: Id | None = None

    def run(self, session: Session) -> Made:
        """See `Command`."""
        v = session.variable(self.of, ("of",))
        if v.grad is None:
            raise NoGradientError(
                f"{quoted(self.of)} has no gradient; run backward from a variable that depends on it first", ("of",)
            )
        return bind_all(session, [v.grad], None if self.out is None else [self.out])


class ClearGrad(Command, do="cleargrad"):
    """Drop gradients; of a layer or model those of its parameters."""

    ids: Ids | None = Field(None, description="Default: all.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        if self.ids is None:
            for held in session.variables().values():
                if isinstance(held, Variable):
                    held.cleargrad()
            return ()
        for n, name in enumerate(self.ids):
            found = session.find(name, ("ids", n))
            if isinstance(found, Module):
                found.layer.cleargrads()
            elif not isinstance(found, Constant):
                session.variable(name, ("ids", n)).cleargrad()
        return ()


class Unchain(Command, do="unchain"):
    """Cut a variable from the variables that it was computed from."""

    id: Id

    def run(self, session: Session) -> Made:
        """See `Command`."""
        session.variable(self.id, ("id",)).unchain()
        return ()


class UnchainBackward(Command, do="unchain_backward"):
    """Cut all variables that a variable was computed from from their own."""

    id: Id

    def run(self, session: Session) -> Made:
        """See `Command`."""
        session.variable(self.id, ("id",)).unchain_backward()
        return ()
