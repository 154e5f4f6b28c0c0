"""Calls of Python functions on symbols: traced to a program, which runs on the values of the arguments."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback import trees
from pullback.config import is_recording, is_training
from pullback.current import current, tracing
from pullback.errors import (
    BadAttributeError,
    NotDifferentiableError,
    NotScalarError,
    ShapeMismatchError,
)
from pullback.recording.environment import Environment, TooLargeError, draws
from pullback.recording.kept import Result, Traced, Traces, traces_of
from pullback.recording.trace import Argument, Symbol, Trace
from pullback.values import FLOAT32, Shape, Value, as_raw, canonical, dtype_of, shape_of

Function = Callable[..., Any]
Aval = tuple[Shape, np.dtype[Any]]


@dataclass
class Inside:
    """Function called on symbols inside of another one that is traced: its nodes are written down there."""

    trace: Trace
    chosen: Any
    xs: list[Symbol]
    y: Any
    aux: Any

    @property
    def ys(self) -> list[Symbol]:
        """The leaves of the result."""
        return trees.leaves(self.y)

    def gradients(self, y: Symbol) -> list[Symbol]:
        """Gradients of a scalar with respect to each differentiated leaf."""
        return [self.trace.node("grad", [y, x])[0] for x in self.xs]

    def in_form(self, leaves: Iterable[Any]) -> Any:
        """Values in the form of the differentiated arguments."""
        return trees.unflatten(self.chosen, iter(leaves))


@dataclass
class Call:
    """Function called with values: its trace, and the inputs of its program."""

    traced: Traced
    client: Any
    chosen: Any
    raws: list[Value]
    inputs: dict[str, Value]

    @property
    def xs(self) -> Sequence[str]:
        """Names of the differentiated inputs, in order."""
        return self.traced.xs

    @property
    def ys(self) -> list[str]:
        """Names of the outputs, in order."""
        return [y.name for y in trees.leaves(self.traced.y)]

    @property
    def wrt(self) -> list[str]:
        """The differentiated inputs that the program has."""
        return [x for x in self.xs if x in self.inputs]

    def ask(self, call: str, **options: Any) -> Any:
        """Make a call of the client about this program with these inputs."""
        return self.traced.program.ask(self.client, call, inputs=self.inputs, **options)

    def only_output(self) -> str:
        """The name of the only result.

        Raises:
            NotScalarError: there are several, or none.
        """
        only: Result = only_leaf(self.traced.y)
        return only.name

    def value(self, values: Mapping[str, Any]) -> Any:
        """The result."""
        return trees.unflatten(self.traced.y, iter([values[y] for y in self.ys]))

    def aux(self, values: Mapping[str, Any]) -> Any:
        """The second part of what the function returned."""
        return trees.map_leaves(lambda leaf: values[leaf.name] if type(leaf) is Result else leaf, self.traced.aux)

    def in_form(self, found: Mapping[str, Any], before: Shape = ()) -> Any:
        """Results by name in the form of the arguments; zeros for those that the function does not use."""
        zeros = (canonical(np.zeros((*before, *shape_of(raw)), dtype_of(raw))) for raw in self.raws)
        return trees.unflatten(self.chosen, iter([found.get(x, zero) for x, zero in zip(self.xs, zeros, strict=True)]))

    def directions(self, given: Any, primals: Any) -> dict[str, Any]:
        """Tangents or vectors of the inputs that the program has."""
        leaves = trees.leaves(list(given), list(primals))
        return {x: as_raw(t) for x, t in zip(self.xs, leaves, strict=True) if x in self.inputs}


def places_of(argnums: Any, count: int) -> list[int]:
    """Positions of the arguments that are chosen, of a call with `count` of them.

    Raises:
        BadAttributeError: there is no such argument, or it is named twice.
    """
    numbers = list(argnums) if isinstance(argnums, (list, tuple)) else [argnums]
    for number in numbers:
        if not -count <= number < count:
            raise BadAttributeError(f"argnums: there is no argument {number}; the call has {count}")
    if len({number % count for number in numbers}) < len(numbers):
        raise BadAttributeError(f"argnums: {argnums} names an argument twice")
    return numbers


def picked(args: Sequence[Any], argnums: Any) -> Any:
    """The arguments that are chosen: a tuple where `argnums` is one."""
    found = [args[number] for number in places_of(argnums, len(args))]
    return tuple(found) if isinstance(argnums, (list, tuple)) else found[0]


def is_inside() -> bool:
    """Return whether a function is being traced."""
    return tracing.get() is not None


def called_inside(
    f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool = False
) -> Inside:
    """Call a function on new symbols in the trace that is under way."""
    trace = tracing.get()
    assert trace is not None
    chosen = picked(args, argnums)
    leaves = trees.leaves(chosen)
    for x in leaves:
        dtype = trace.known.get(x.name, (None, FLOAT32))[1] if type(x) is Symbol else dtype_of(as_raw(x))
        check_floating(dtype)
    xs = [trace.symbol(x) for x in leaves]
    symbols = trees.unflatten(chosen, iter(xs))
    full = list(args)
    for number, x in zip(
        places_of(argnums, len(args)), symbols if isinstance(argnums, (list, tuple)) else [symbols], strict=True
    ):
        full[number] = x
    y, aux = split_aux(f, f(*full, **keywords), has_aux)
    return Inside(trace, chosen, xs, trees.map_leaves(functools.partial(as_node, trace), y), aux)


def called(f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool = False) -> Call:
    """Trace a function of floating arguments, and bind their values.

    Raises:
        NotDifferentiableError: a chosen argument is not floating.
        TraceError: the function looks at a value.
    """
    tree = (tuple(args), keywords)
    count = len(trees.leaves(tree))
    indices = trees.unflatten(tree, iter(range(count)))
    symbols: dict[int, Aval] = {}
    arguments: dict[int, Value] = {}
    leaves = trees.leaves(tree)
    chosen = trees.leaves(picked(indices[0], argnums))
    for place in chosen:
        raw = as_raw(leaves[place])
        check_floating(dtype_of(raw))
        arguments[place] = raw
        symbols[place] = shape_of(raw), dtype_of(raw)
    tracer = Tracer(f, tree, chosen, symbols, has_aux)
    traced, inputs = tracer.traced(arguments)
    return Call(traced, tracer.client, picked(args, argnums), [arguments[place] for place in chosen], inputs)


class Tracer:
    """One call of a function, from its arguments to a trace of it that fits them.

    f: the function.
    tree: (args, keywords).
    chosen: places of the leaves that are differentiated.
    symbols: shape and dtype of each leaf that is an input of the program, by place; other leaves reach the function as
        they are.
    weak: those of them that are Python numbers, which adapt to float32 where they stand as they are.
    is_kept: whether the trace is kept for later calls, until something changes that the function is seen to read.
    """

    def __init__(
        self,
        f: Function,
        tree: tuple[tuple[Any, ...], dict[str, Any]],
        chosen: Sequence[int],
        symbols: dict[int, Aval],
        has_aux: bool = False,
        weak: Iterable[int] = (),
        *,
        is_kept: bool = False,
    ) -> None:
        self.client = current().client
        self._f = f
        self._tree = tree
        self._leaves = trees.leaves(tree)
        self._chosen = list(chosen)
        self._symbols = dict(symbols)
        self._has_aux = has_aux
        self._is_kept = is_kept
        self._weak: set[int] = set()
        if any(dtype == FLOAT32 for _, dtype in symbols.values()):
            # Beside float32 a Python number has no dtype of its own, which inputs have.
            self._weak = set(weak)
            self._symbols = {place: aval for place, aval in symbols.items() if place not in self._weak}

    def traced(self, arguments: Mapping[int, Value]) -> tuple[Traced, dict[str, Value]]:
        """Return a trace that fits the arguments, and its inputs.

        arguments: values of the symbols by place.
        """
        traces = traces_of(self.client)
        environment = self._environment() if self._is_kept else None
        if environment is None:
            return self._fitting(self._trace(traces, ()), arguments)
        key = self._key(environment)
        traced = traces.get(key)
        inputs = None if traced is None else traced.bound(arguments)
        if traced is not None and inputs is not None:
            return traced, inputs
        before = draws()
        traced = self._trace(traces, environment.held)
        now = self._environment()
        # A function that changes what it reads, or draws random numbers, is called each time.
        if now is not None and (now.key, draws()) == (environment.key, before):
            traces.put(key, traced)
        return self._fitting(traced, arguments)

    def _fitting(self, traced: Traced, arguments: Mapping[int, Value]) -> tuple[Traced, dict[str, Value]]:
        """A trace that was just made, and its inputs."""
        inputs = traced.bound(arguments)
        assert inputs is not None
        return traced, inputs

    def _environment(self) -> Environment | None:
        """All that the function can be seen to read, None where it is too much."""
        try:
            return Environment(self._f)
        except (TooLargeError, RecursionError):
            return None

    def _options(self) -> Hashable:
        return (
            _hashable(trees.structure(self._tree)),
            tuple(self._chosen),
            self._has_aux,
            is_recording(),
            is_training(),
        )

    def _key(self, environment: Environment) -> Hashable:
        """The key of a trace."""
        values = tuple((place, repr(self._leaves[place])) for place in sorted(self._weak))
        shapes = tuple((place, shape, str(dtype)) for place, (shape, dtype) in sorted(self._symbols.items()))
        return environment.key, self._options(), shapes, values

    def _trace(self, traces: Traces, held: Iterable[Any]) -> Traced:
        trace = Trace(self.client)
        full = list(self._leaves)
        made = {place: trace.input(Argument(place), *aval) for place, aval in sorted(self._symbols.items())}
        for place, symbol in made.items():
            full[place] = symbol
        args, keywords = trees.unflatten(self._tree, iter(full))
        try:
            with trace.active():
                y, aux = split_aux(self._f, self._f(*args, **keywords), self._has_aux)
            y = trees.map_leaves(functools.partial(as_node, trace), y)
            for leaf in trees.leaves(aux):
                if type(leaf) is Symbol:
                    trace.check_own("return", leaf)
            outputs = [leaf.name for leaf in trees.leaves([y, aux]) if type(leaf) is Symbol]
            graph, needed = trace.program(list(dict.fromkeys(outputs)))
        finally:
            trace.finish()
        return Traced(
            traces.program(graph),
            {name: trace.inputs[name] for name in needed},
            {name: trace.known[name] for name in needed},
            tuple(made[place].name if place in made else "" for place in self._chosen),
            trees.map_leaves(_result, y),
            trees.map_leaves(_result, aux),
            list(held),
        )


def split_aux(f: Function, y: Any, has_aux: bool) -> tuple[Any, Any]:
    """What a function returned as (result, aux).

    Raises:
        BadAttributeError: `has_aux`, and it is no pair.
    """
    if not has_aux:
        return y, None
    if not (isinstance(y, tuple) and len(y) == 2):
        raise BadAttributeError(f"has_aux: {getattr(f, '__name__', f)} returned {type(y).__name__}; expected a pair")
    return y


def as_node(trace: Trace, leaf: Any) -> Symbol:
    """A leaf of a result as a node: an input, or a plain value, becomes one.

    Raises:
        InvalidValueError: it is no value.
        TraceError: it is a symbol of another trace.
    """
    if type(leaf) is Symbol:
        trace.check_own("return", leaf)
        if leaf.name not in trace.inputs:
            return leaf
    symbol = leaf if type(leaf) is Symbol else trace.constant(leaf)
    dtype = trace.known[symbol.name][1]
    if dtype.kind == "f":
        return trace.symbol(symbol)
    return trace.node("astype", [symbol], {"dtype": str(dtype)})[0]


def only_leaf(y: Any) -> Any:
    """The only leaf of a result that is no container.

    Raises:
        NotScalarError: there are several, or none.
    """
    if type(y) not in (Symbol, Result):
        raise NotScalarError(
            f"expected a function of one element; this one returns {len(trees.leaves(y))} values in a "
            f"{type(y).__name__}"
        )
    return y


def check_floating(dtype: np.dtype[Any]) -> None:
    """Make sure that an argument can be differentiated.

    Raises:
        NotDifferentiableError: it is not floating.
    """
    if dtype.kind != "f":
        raise NotDifferentiableError(f"an argument is {dtype}; only floating ones are differentiated")


def check_scalar(shape: Shape) -> None:
    """Make sure that a result has one element.

    Raises:
        NotScalarError: it has more, or none.
    """
    if math.prod(shape) != 1:
        raise NotScalarError(f"expected a function of one element, this one returns shape {shape}; reduce it first")


def check_form(what: str, given: Any, expected: Any) -> None:
    """Make sure that two trees have the same containers, and leaves of the same shapes.

    Raises:
        ShapeMismatchError: they do not.
    """
    if trees.structure(given) != trees.structure(expected):
        raise ShapeMismatchError(f"{what}: {given!r} is not in the form of {expected!r}")
    for g, x in zip(trees.leaves(given, expected), trees.leaves(expected), strict=True):
        shapes = [leaf.shape if type(leaf) is Symbol else shape_of(as_raw(leaf)) for leaf in (g, x)]
        if shapes[0] != shapes[1]:
            raise ShapeMismatchError(f"{what}: expected shape {shapes[1]}, got {shapes[0]}")


def _result(leaf: Any) -> Any:
    return Result(leaf.name) if type(leaf) is Symbol else leaf


def _hashable(form: Any) -> Hashable:
    if isinstance(form, dict):
        # 1, True and 1.0 are equal keys.
        return (dict, *((type(key), key, _hashable(item)) for key, item in form.items()))
    return tuple(map(_hashable, form)) if isinstance(form, tuple) else form
