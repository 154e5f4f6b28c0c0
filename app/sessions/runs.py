"""A run: commands in order on one session, and values fetched afterwards."""

import copy
from collections.abc import Sequence
from typing import Any

from app.sessions.commands import COMMANDS, Command, load_state
from app.sessions.errors import SessionError
from app.sessions.session import Constant, Module, Session, SessionObject, Steps, check_quota
from app.wire.schemas import LONGEST_NEAR, check_body
from app.wire.values import encode, encode_all
from engine.core import AutogradError, Fault, InvalidValueError, Loc, Value, Variable, dtype_of, nearest, shape_of
from engine.graph import quoted
from engine.nn import loads, state_dict

#: Aspects of a variable that can be fetched.
ASPECTS = ("value", "grad", "shape", "dtype", "creator", "generation")
_DEFAULT_ASPECTS = ("value", "grad")


def read(documents: Sequence[Any]) -> list[Command]:
    """Read the commands of a request.

    Raises:
        InvalidValueError: with every wrong field.
    """
    found: list[Command] = []
    faults: list[Fault] = []
    for n, document in enumerate(documents):
        loc: Loc = ("commands", n)
        try:
            found.append(_read_one(document))
        except InvalidValueError as error:
            faults += [Fault(loc + fault.loc, f"command {n}: {fault.msg}") for fault in error.faults]
    if faults:
        raise InvalidValueError(faults[0].msg, faults=faults)
    return found


def _read_one(document: Any) -> Command:
    if not isinstance(document, dict):
        raise InvalidValueError("expected an object")
    do = document.get("do")
    if not isinstance(do, str) or do not in COMMANDS:
        near = nearest(do[:LONGEST_NEAR], list(COMMANDS)) if isinstance(do, str) else ""
        given = f"do is {quoted(do)}" if isinstance(do, str) else '"do" is missing'
        raise InvalidValueError(f"{given}{near}; commands are {', '.join(COMMANDS)}", ("do",))
    return check_body(COMMANDS[do], document)


def execute(session: Session, commands: Sequence[Command]) -> list[str]:
    """Run all commands; return the ids that they made. If it raises, the session may be half changed.

    Raises:
        AutogradError, SessionError: naming the command.
        DeadlineExceededError: the run takes too long.
    """
    check_quota("commands in one run", len(commands), session.quotas.commands, "MAX_COMMANDS")
    made: list[str] = []
    for n, command in enumerate(commands):
        session.check_time()
        try:
            made += command.run(session)
        except (AutogradError, SessionError) as error:
            raise located(error, f"command {n} ({_shown(command)}): ", ("commands", n)) from error
    session.check_quotas()
    return made


def execute_one(session: Session, command: Command) -> Sequence[str]:
    """Run one command; see `execute`."""
    try:
        made = command.run(session)
    except (AutogradError, SessionError) as error:
        raise located(error, f"{_shown(command)}: ", ()) from error
    session.check_quotas()
    return made


def located(error: AutogradError | SessionError, where: str, loc: Loc) -> AutogradError | SessionError:
    """Return the same error with `loc` before its paths and `where` before its texts."""
    found = copy.copy(error)
    found.detail = where + error.detail
    found.args = (found.detail,)
    found.faults = tuple(fault._replace(loc=loc + fault.loc, msg=where + fault.msg) for fault in error.faults) or (
        Fault(loc, found.detail),
    )
    return found


def _shown(command: Command) -> str:
    return " ".join(filter(None, (command.name_of, getattr(command, "op", None) or getattr(command, "kind", None))))


def fetch(session: Session, wanted: Sequence[Any], encoding: str, media_type: str) -> dict[str, Any]:
    """Fetch ids, each an id or {"id", "what"}.

    Raises:
        UnknownVariableError: an id is unknown.
        InvalidValueError: "what" names an unknown aspect.
    """
    found = {}
    for n, item in enumerate(wanted):
        loc: Loc = ("fetch", n)
        name, aspects = _aspects(item, loc)
        found[name] = show(session.find(name, loc), aspects, encoding, media_type)
    return found


def state_of(session: Session, name: str) -> dict[str, Any]:
    """Return the state of a layer, a model or an optimizer as arrays by name.

    Raises:
        UnknownVariableError, InvalidValueError: the id is unknown, or has no state.
    """
    held = session.find(name, ("id",))
    if isinstance(held, Steps):
        return held.optimizer.state_dict()
    return state_dict(session.module(name, ("id",)).layer)


def load_file(session: Session, name: str, data: bytes) -> None:
    """Load a safetensors file into a layer, a model or an optimizer.

    Raises:
        AutogradError, SessionError: it is not such a file, or does not fit.
    """
    state = loads(data)
    session.spend(sum(array.nbytes for array in state.values()))
    load_state(session, name, state)
    session.check_quotas()


def _aspects(item: Any, loc: Loc) -> tuple[str, Sequence[str]]:
    if isinstance(item, str):
        return item, _DEFAULT_ASPECTS
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or set(item) - {"id", "what"}:
        raise InvalidValueError('expected an id, or {"id", "what"}', loc)
    what = item.get("what", list(_DEFAULT_ASPECTS))
    if not isinstance(what, list) or any(aspect not in ASPECTS for aspect in what):
        raise InvalidValueError(f"expected a list of {', '.join(ASPECTS)}", (*loc, "what"))
    return item["id"], what


def show(held: SessionObject, aspects: Sequence[str], encoding: str, media_type: str) -> dict[str, Any]:
    """Encode the aspects of a variable, or the state of a layer, a model or an optimizer."""
    if isinstance(held, Module):
        return {"state": encode_all(state_dict(held.layer), encoding, media_type)}
    if isinstance(held, Steps):
        return {"state": encode_all(held.optimizer.state_dict(), encoding, media_type)}
    return {aspect: _aspect(held, aspect, encoding, media_type) for aspect in aspects}


def _aspect(held: Variable | Constant, aspect: str, encoding: str, media_type: str) -> Any:
    value: Value = held.data if isinstance(held, Variable) else held.value
    if aspect == "value":
        return encode(value, encoding, media_type)
    if aspect == "shape":
        return list(shape_of(value))
    if aspect == "dtype":
        return str(dtype_of(value))
    if isinstance(held, Constant):
        return 0 if aspect == "generation" else None
    if aspect == "generation":
        return held.generation
    if aspect == "creator":
        return None if held.creator is None else held.creator.name
    return None if held.grad is None else encode(held.grad.data, encoding, media_type)
