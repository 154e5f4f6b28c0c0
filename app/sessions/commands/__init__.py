"""The commands of a run: each is one class with its fields and its effect, found by its `do`."""

from app.sessions.commands.base import Command
from app.sessions.commands.gradients import Backward, ClearGrad, Grad, Unchain, UnchainBackward
from app.sessions.commands.modules import Call, Load, MakeLayer, MakeModel, ResetState, load_state
from app.sessions.commands.operations import Apply
from app.sessions.commands.optimizers import MakeOptimizer, Step
from app.sessions.commands.single import ApplyRequest, BackwardRequest, ClearGradRequest, VariableRequest
from app.sessions.commands.variables import Assign, Delete, MakeVariable, Set

_COMMANDS: tuple[type[Command], ...] = (
    MakeVariable,
    Apply,
    Backward,
    Grad,
    Assign,
    ClearGrad,
    Unchain,
    UnchainBackward,
    Delete,
    Set,
    MakeLayer,
    MakeModel,
    Call,
    ResetState,
    Load,
    MakeOptimizer,
    Step,
)
#: Command by its `do`.
COMMANDS = {command.name_of: command for command in _COMMANDS}
#: Request by the `do` of its command, for commands that have a path of their own.
SINGLE: dict[str, type[Command]] = {
    request.name_of: request for request in (VariableRequest, ApplyRequest, BackwardRequest, ClearGradRequest)
}

__all__ = ["COMMANDS", "SINGLE", "Command", "Load", "load_state"]
