"""Python functions and tapes as programs: trace a function on symbols, or read the tape of a variable."""

import inspect
from collections.abc import Callable
from itertools import count
from typing import Any

from engine.core import InvalidValueError, Symbol, Tracer, Variable, as_raw, aval, end, trees
from engine.graph import Graph, Limits, name_fault, normalized
from engine.plans.trace import FOREIGN, Trace, as_graph
from engine.tracers import Tape
from engine.transforms.calls import check_hidden

_TAPE = 1


def trace(f: Callable[..., Any], *examples: Any, limits: Limits | None = None) -> Graph:
    """Trace a Python function for arguments of these shapes and dtypes; return it as a program.

    f: called once, with symbols in place of arguments; it cannot branch on their values.
    examples: for each argument a value, or lists, tuples and dicts of values; only shapes and dtypes count. Inputs are
        named after the parameters of the function, and keys are appended after an underscore: `w_0`, `w_bias`.
    The outputs of the program are `out`, or `out_` and the keys of the list, tuple or dict that f returns.

    >>> from engine import functions as F
    >>> from engine.programs.text.write import as_text
    >>> print(as_text(trace(lambda x, w: F.sin(x * w["a"]) ** 2, 1.0, {"a": 2.0})))
    square(sin(x * w_a))

    Raises:
        InvalidValueError: the function branches on a value, or returns an object that is not a value.
        LimitExceededError: it has too many operations.
    """
    recorder, tape = Trace(limits), Tape(_TAPE, "trace")
    parameters = _parameters(f, len(examples))

    def given(name: str, example: Any) -> Any:
        known = aval(as_raw(example))
        symbol = recorder.input(name, known._replace(weak=None))
        return tape.leaf(symbol) if known.is_floating else symbol

    args = []
    for parameter, example in zip(parameters, examples, strict=True):
        names = [_checked("_".join([parameter, *map(str, path)])) for path in trees.paths(example)]
        leaves = map(given, names, trees.leaves(example))
        args.append(trees.unflatten(example, leaves))
    try:
        y = f(*args)
        outputs = {
            "_".join(["out", *map(str, path)]): _symbol(recorder, tape, leaf)
            for path, leaf in zip(trees.paths(y), trees.leaves(y), strict=True)
        }
        graph = as_graph(recorder, outputs)
    finally:
        end(recorder, tape)
    check_hidden(y)
    return graph


def read_tape(variable: Variable, limits: Limits | None = None) -> Graph:
    """Return the tape of a variable as a program whose output is `out`.

    Named leaves are its inputs, with their shapes and dtypes; other leaves are bound to their values.

    >>> from engine.programs.text.write import as_text
    >>> x, w = Variable(2.0, name="x"), Variable(3.0)
    >>> graph = read_tape(x * w + 1.0)
    >>> print(as_text(graph), graph.bound)
    x * x1 + 1.0 {'x1': 3.0}

    Raises:
        InvalidValueError: two leaves have the same name, or a name is not valid in a program.
    """
    nodes = _computed_from(variable)
    leaves = _leaf_names([v for v in nodes if v.creator is None])
    recorder, tape = Trace(limits), Tape(_TAPE)
    values: dict[Any, Any] = {v: recorder.input(name, aval(v.data)._replace(weak=None)) for v, name in leaves.items()}
    for v in nodes:
        if v.creator is not None:
            args = tuple(values[p] if isinstance(p, Variable) else p for p in v._parents)
            values[v] = v.creator.run(args, v._attrs or {})
    bound = {name: v.data for v, name in leaves.items() if v.name is None}
    return as_graph(recorder, {"out": _symbol(recorder, tape, values[variable])}, bound)


def _computed_from(variable: Variable) -> list[Variable]:
    """Return the variables on the tape of a variable, with itself, operands before results."""
    found = {variable: None}
    pending = [variable]
    while pending:
        for p in pending.pop()._parents:
            if isinstance(p, Variable) and p not in found:
                found[p] = None
                pending.append(p)
    return sorted(found, key=lambda v: v.generation)


def _leaf_names(leaves: list[Variable]) -> dict[Variable, str]:
    """Return the name of each leaf; `x1, x2, ...` for those without."""
    named: dict[str, Variable] = {}
    for v in leaves:
        if v.name is not None and named.setdefault(_checked(v.name), v) is not v:
            raise InvalidValueError(f'two variables are called "{v.name}"; an input has a name of its own')
    fresh = (name for n in count(1) if (name := f"x{n}") not in named)
    return {v: next(fresh) if v.name is None else _checked(v.name) for v in leaves}


def _symbol(recorder: Trace, tape: Tape, value: Any) -> Symbol:
    """Return a result of the function as a step of the trace."""
    value = tape.data(value)
    if isinstance(value, Tracer):
        value.check_alive()
    if isinstance(value, Symbol) and value.recorder is recorder:
        return value
    if isinstance(value, Tracer):
        raise InvalidValueError(f"trace: the function returns {FOREIGN}")
    return recorder.constant(as_raw(value))


def _parameters(f: Callable[..., Any], n: int) -> list[str]:
    """Return names for `n` positional arguments."""
    names: list[str] = []
    for parameter in inspect.signature(f).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{k}" for k in range(n - len(names))]
        elif parameter.kind is not parameter.KEYWORD_ONLY and len(names) < n:
            names.append(parameter.name)
    if len(names) < n:
        raise InvalidValueError(f"trace: {n} examples for a function of {len(names)} positional arguments")
    return names


def _checked(name: str) -> str:
    name = normalized(name)
    if fault := name_fault(name):
        raise InvalidValueError(fault)
    return name
