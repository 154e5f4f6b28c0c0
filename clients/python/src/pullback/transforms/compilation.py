"""Compiled functions: a Python function of numbers and arrays becomes a program that the server compiles once."""

from __future__ import annotations

import functools
from typing import Any

from pullback.core import trees
from pullback.core.attributes import NATURAL, NUMBER, Attribute
from pullback.core.values import Value, as_raw, dtype_of, shape_of
from pullback.errors import InvalidValueError
from pullback.recording.trace_cache import TracedFunction
from pullback.transforms.calls import Function, Tracer, is_inside, pick, places_of
from pullback.transforms.derivatives import grad

#: Limits of a program with several steps of a descent: nodes, and steps.
_STEP_NODES, _MOST_STEPS = 128, 8


def compile(f: Function) -> Function:
    """Compile a function to a program, so that each call is one request; `compiled` is the same, for decorators.

    f: a function of numbers, arrays, and nested lists, tuples and dicts of them, which returns such values. It is
        called once for each form of arguments (containers, shapes, dtypes), with symbols for all of them, and cannot
        branch on their values. Arrays and Variables that it reads are inputs: each call sends their present values.
        For everything else JAX's rule of purity holds: its state at the time of tracing counts. If the closure, the
        globals, the containers or the instances that the function itself reads change, it is traced again; changes
        behind methods, classes or modules, and of clocks, files, iterators and random generators, go unnoticed.
        Beside float32 values a Python number is a constant of the program, so that each number takes a trace.
    Returns a function of the same arguments. `f.source(*args)` is the program as text. It may be combined with other
    transforms, inside (`compile(value_and_grad(loss))`) and outside.

    >>> @compiled
    ... def energy(p):
    ...     return p["m"] * p["v"] ** 2 / 2
    >>> energy({"m": 2.0, "v": 3.0})
    9.0

    Raises (when called):
        TraceError: the function reads the value of a symbol.
        InvalidValueError: an argument or a result is not a value, or an argument is a Variable.
        NotSupportedError: the function draws random numbers.
    """

    @functools.wraps(f)
    def call(*args: Any, **keywords: Any) -> Any:
        if is_inside():
            return f(*args, **keywords)
        tracer, traced, inputs = _trace(f, args, keywords)
        ys = trees.leaves(traced.y)
        if not ys:
            return traced.y
        values = traced.program.ask(tracer.client, "evaluate", inputs=inputs).values
        return trees.unflatten(traced.y, iter([values[y.name] for y in ys]))

    def source(*args: Any, **keywords: Any) -> str:
        tracer, traced, _ = _trace(f, args, keywords)
        text: str = tracer.client.programs.get(traced.program.id(tracer.client)).expr
        return text

    call.source = source  # type: ignore[attr-defined]
    return call


compiled = compile


def _trace(
    f: Function, args: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[Tracer, TracedFunction, dict[str, Value]]:
    """Trace a function with symbols for all arguments; return the tracer, the traced function and its inputs."""
    leaves = trees.leaves((args, keywords))
    values = {place: _value_of(leaf) for place, leaf in enumerate(leaves)}
    symbols = {place: (shape_of(x), dtype_of(x)) for place, x in values.items()}
    weak = [place for place, leaf in enumerate(leaves) if type(leaf) in (int, float)]
    tracer = Tracer(f, (args, keywords), list(values), symbols, weak=weak, is_kept=True)
    return tracer, *tracer.bind(values)


def _value_of(leaf: Any) -> Value:
    """Return an argument as a raw value.

    Raises:
        InvalidValueError: the argument is not a value, or is a Variable.
    """
    if hasattr(type(leaf), "_recorder"):
        raise InvalidValueError("a compiled function takes numbers and arrays, no variables; give it `x.data`")
    return as_raw(leaf)


def descent(loss: Function, argnums: int | tuple[int, ...] | list[int] = 0) -> Function:
    """Compile gradient descent on a loss; several steps share a program, and so a request.

    loss: a function as for `grad`. It is traced as by `compile`, for each form of arguments and each number of steps in
        a program.
    argnums: positions of the arguments to optimize.
    Returns a function of the arguments of the loss, `learning_rate` and `steps`, which makes that number of steps
    `x - learning_rate * gradient` and returns the optimized arguments in their form.

    >>> descend = descent(lambda x, y: (x - 3.0) ** 2 + (y + 1.0) ** 2, argnums=(0, 1))
    >>> x, y = descend(0.0, 0.0, learning_rate=0.25, steps=60)
    >>> round(x, 12), round(y, 12)
    (3.0, -1.0)

    Raises (when called):
        BadAttributeError: `steps` is not a non-negative integer, or `learning_rate` not a number.
        TraceError, InvalidValueError, NotScalarError, NotDifferentiableError: as for `compile` and `grad`.
    """
    gradient = grad(loss, argnums)

    @functools.wraps(loss)
    def descend(*args: Any, learning_rate: Any, steps: int) -> Any:
        left = Attribute("steps", NATURAL).parse(steps, "descent")
        if is_inside():
            return _descend(gradient, argnums, args, learning_rate, left)
        rate = float(Attribute("learning_rate", NUMBER).parse(learning_rate, "descent"))
        for leaf in trees.leaves(args):
            _value_of(leaf)
        most = 1
        if left > 1:
            _, one, _ = _trace(_steps(gradient, argnums, 1), (args, rate), {})
            most = max(1, min(_MOST_STEPS, _STEP_NODES // max(1, len(one.program.graph["nodes"]))))
        full = trees.map_leaves(_value_of, args)
        while left:
            count = 1 << (min(left, most).bit_length() - 1)
            full = _replace(full, argnums, compile(_steps(gradient, argnums, count))(full, rate))
            left -= count
        return pick(full, argnums)

    return descend


def _steps(gradient: Function, argnums: Any, count: int) -> Function:
    """Return a function that makes `count` steps."""

    def steps(args: Any, rate: Any) -> Any:
        return _descend(gradient, argnums, args, rate, count)

    return steps


def _descend(gradient: Function, argnums: Any, args: tuple[Any, ...], rate: Any, steps: int) -> Any:
    """Make `steps` steps; return the optimized arguments."""
    for _ in range(steps):
        chosen = pick(args, argnums)
        slopes = trees.leaves(gradient(*args), chosen)
        moved = [x - rate * g for x, g in zip(trees.leaves(chosen), slopes, strict=True)]
        args = _replace(args, argnums, trees.unflatten(chosen, iter(moved)))
    return pick(args, argnums)


def _replace(args: tuple[Any, ...], argnums: Any, chosen: Any) -> tuple[Any, ...]:
    """Return the arguments with those that `argnums` names replaced."""
    full = list(args)
    several = chosen if isinstance(argnums, (list, tuple)) else [chosen]
    for place, x in zip(places_of(argnums, len(args)), several, strict=True):
        full[place] = x
    return tuple(full)
