"""Commands that make optimizers and take their steps."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, StrictStr

from app.sessions.commands.base import Command, Id, Made
from app.sessions.commands.kinds import Config, check_config, check_kind
from app.sessions.session import Session
from engine.core import InvalidValueError
from engine.nn import HOOKS, OPTIMIZERS, resume, steps


class MakeOptimizer(Command, do="optimizer"):
    """An optimizer."""

    id: Id
    kind: StrictStr
    config: Config
    params: StrictStr | list[StrictStr] = Field(description="The id of a layer or model, or ids of variables.")
    hooks: list[dict[str, Any]] = Field(default_factory=list, description="In order: kind, and its configuration.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        check_kind("optimizer", self.kind, OPTIMIZERS)
        check_config(self.kind, self.config, OPTIMIZERS[self.kind])
        _check_hooks(self.hooks)
        if isinstance(self.params, str):
            session.module(self.params, ("params",))
        else:
            for n, name in enumerate(self.params):
                session.variable(name, ("params", n))
        session.bind(self.id, session.optimizer(self.kind, self.config, self.params, self.hooks), ("id",))
        return ()


class Step(Command, do="step"):
    """One step of an optimizer; changes to its configuration hold from this step on."""

    id: Id
    config: Annotated[
        dict[str, Any],
        Field(default_factory=dict, description="Changes to the configuration, such as a learning rate."),
    ]
    hooks: list[dict[str, Any]] | None = Field(None, description="Replace the hooks.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        if self.config or self.hooks is not None:
            self._configure(session)
        session.steps(self.id, ("id",)).optimizer.step()
        return ()

    def _configure(self, session: Session) -> None:
        before = session.steps(self.id, ("id",))
        config = {**before.config, **self.config}
        check_config(before.kind, config, OPTIMIZERS[before.kind])
        hooks = before.hooks if self.hooks is None else self.hooks
        _check_hooks(hooks)
        after = session.optimizer(before.kind, config, before.params, hooks)
        resume(after.optimizer, *steps(before.optimizer))
        session.ids[session.new_id(self.id, ("id",))] = after


def _check_hooks(hooks: Sequence[Mapping[str, Any]]) -> None:
    """Raise the faults of an optimizer's hooks."""
    for n, hook in enumerate(hooks):
        kind = hook.get("kind")
        if not isinstance(kind, str):
            raise InvalidValueError('a hook needs a "kind"', ("hooks", n))
        check_kind("hook", kind, HOOKS, ("hooks", n, "kind"))
        check_config(kind, {key: value for key, value in hook.items() if key != "kind"}, HOOKS[kind], ("hooks", n))
