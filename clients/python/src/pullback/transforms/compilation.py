"""Compiled functions: Python functions of numbers and arrays as programs that the server compiles once."""

from __future__ import annotations

import functools
from typing import Any

from pullback import trees
from pullback.attributes import NATURAL, NUMBER, Attribute
from pullback.errors import InvalidValueError
from pullback.recording.kept import Traced
from pullback.transforms.calls import Function, Tracer, is_inside, picked, places_of
from pullback.transforms.derivatives import grad
from pullback.values import Value, as_raw, dtype_of, shape_of

#: Nodes of a program that makes several steps of a descent, and the most steps.
_STEP_NODES, _MOST_STEPS = 128, 8


def compile(f: Function) -> Function:
    """The same function as one program, whose calls are one request each; `@compiled` is another name for it.

    f: takes numbers, arrays, and nested lists, tuples and dicts of them, and returns such. It is called once for each
        form of arguments (containers, shapes, dtypes) on symbols in place of all of them: it cannot branch on values.
        Arrays and Variables that it reads are inputs: their present values are sent with each call. Everything else
        follows JAX's rule of purity: it counts as it was when the function was called. A change in the closure, the
        globals, the containers or the instances that the function itself reads is noticed, and it is called again; one
        behind methods, classes or modules, a clock, a file, an iterator or a random generator is not.
        Beside float32 a Python number stands in the program, which is then another one for each number.
    Returns a function of the same arguments. `f.source(*args)` is the program as text. Transforms may be inside
    (`compile(value_and_grad(loss))`) and outside.

    >>> @compiled
    ... def energy(p):
    ...     return p["m"] * p["v"] ** 2 / 2
    >>> energy({"m": 2.0, "v": 3.0})
    9.0

    Raises (when called):
        TraceError: the function looks at a value.
        InvalidValueError: it takes or returns something that is no value; an argument is a Variable.
        NotSupportedError: it draws random numbers.
    """

    @functools.wraps(f)
    def call(*args: Any, **keywords: Any) -> Any:
        if is_inside():
            return f(*args, **keywords)
        tracer, traced, inputs = _traced(f, args, keywords)
        ys = trees.leaves(traced.y)
        if not ys:
            return traced.y
        values = traced.program.ask(tracer.client, "evaluate", inputs=inputs).values
        return trees.unflatten(traced.y, iter([values[y.name] for y in ys]))

    def source(*args: Any, **keywords: Any) -> str:
        tracer, traced, _ = _traced(f, args, keywords)
        text: str = tracer.client.programs.get(traced.program.id(tracer.client)).expr
        return text

    call.source = source  # type: ignore[attr-defined]
    return call


compiled = compile


def _traced(f: Function, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Tracer, Traced, dict[str, Value]]:
    """A trace in which all arguments are symbols."""
    leaves = trees.leaves((args, keywords))
    values = {place: _taken(leaf) for place, leaf in enumerate(leaves)}
    symbols = {place: (shape_of(x), dtype_of(x)) for place, x in values.items()}
    weak = [place for place, leaf in enumerate(leaves) if type(leaf) in (int, float)]
    tracer = Tracer(f, (args, keywords), list(values), symbols, weak=weak, is_kept=True)
    return tracer, *tracer.traced(values)


def _taken(leaf: Any) -> Value:
    """An argument as a raw value.

    Raises:
        InvalidValueError: it is none, or a Variable.
    """
    if hasattr(type(leaf), "_recorder"):
        raise InvalidValueError("a compiled function takes numbers and arrays, no variables; give it `x.data`")
    return as_raw(leaf)


def descent(loss: Function, argnums: int | tuple[int, ...] | list[int] = 0) -> Function:
    """Gradient descent as few requests: as many steps in one program as it is large enough for.

    loss: as of `grad`; traced once for each form of arguments and number of steps in a program, as by `compile`.
    argnums: which arguments are moved.
    Returns a function of the arguments of the loss, `learning_rate` and `steps`, that returns the arguments which were
    moved after so many steps `x - learning_rate * gradient`, in their form.

    >>> descend = descent(lambda x, y: (x - 3.0) ** 2 + (y + 1.0) ** 2, argnums=(0, 1))
    >>> x, y = descend(0.0, 0.0, learning_rate=0.25, steps=60)
    >>> round(x, 12), round(y, 12)
    (3.0, -1.0)

    Raises (when called):
        BadAttributeError: steps is no integer from 0, learning_rate no number.
        TraceError, InvalidValueError, NotScalarError, NotDifferentiableError: as of `compile` and `grad`.
    """
    gradient = grad(loss, argnums)

    @functools.wraps(loss)
    def descend(*args: Any, learning_rate: Any, steps: int) -> Any:
        left = Attribute("steps", NATURAL).parse(steps, "descent")
        if is_inside():
            return _descended(gradient, argnums, args, learning_rate, left)
        rate = float(Attribute("learning_rate", NUMBER).parse(learning_rate, "descent"))
        for leaf in trees.leaves(args):
            _taken(leaf)
        most = 1
        if left > 1:
            _, one, _ = _traced(_stepped(gradient, argnums, 1), (args, rate), {})
            most = max(1, min(_MOST_STEPS, _STEP_NODES // max(1, len(one.program.graph["nodes"]))))
        full = trees.map_leaves(_taken, args)
        while left:
            count = 1 << (min(left, most).bit_length() - 1)
            full = _replaced(full, argnums, compile(_stepped(gradient, argnums, count))(full, rate))
            left -= count
        return picked(full, argnums)

    return descend


def _stepped(gradient: Function, argnums: Any, count: int) -> Function:
    """So many steps as one function."""

    def steps(args: Any, rate: Any) -> Any:
        return _descended(gradient, argnums, args, rate, count)

    return steps


def _descended(gradient: Function, argnums: Any, args: tuple[Any, ...], rate: Any, steps: int) -> Any:
    """The arguments that are moved, after these steps."""
    for _ in range(steps):
        chosen = picked(args, argnums)
        slopes = trees.leaves(gradient(*args), chosen)
        moved = [x - rate * g for x, g in zip(trees.leaves(chosen), slopes, strict=True)]
        args = _replaced(args, argnums, trees.unflatten(chosen, iter(moved)))
    return picked(args, argnums)


def _replaced(args: tuple[Any, ...], argnums: Any, chosen: Any) -> tuple[Any, ...]:
    """The arguments with others in the place of those that are chosen."""
    full = list(args)
    several = chosen if isinstance(argnums, (list, tuple)) else [chosen]
    for place, x in zip(places_of(argnums, len(args)), several, strict=True):
        full[place] = x
    return tuple(full)
