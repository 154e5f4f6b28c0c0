"""Calls of functions by transforms: the function is traced to a program, which runs on the values of the arguments."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.core import trees
from pullback.core.config import is_recording, is_training
from pullback.core.current import current, tracing
from pullback.core.values import FLOAT32, Shape, Value, as_raw, canonical, dtype_of, shape_of
from pullback.errors import (
    BadAttributeError,
    NotDifferentiableError,
    NotScalarError,
    ShapeMismatchError,
)
from pullback.recording.environment import Environment, TooLargeError, draws
from pullback.recording.trace import Argument, Symbol, Trace
from pullback.recording.trace_cache import Result, TraceCache, TracedFunction, trace_cache_of

Function = Callable[..., Any]
Aval = tuple[Shape, np.dtype[Any]]


@dataclass
class InnerCall:
    """Call of a function on new symbols of the current trace, by a transform inside of a traced function."""

    trace: Trace
    chosen: Any
    xs: list[Symbol]
    y: Any
    aux: Any

    @property
    def ys(self) -> list[Symbol]:
        """Leaves of the result."""
        return trees.leaves(self.y)

    def gradients(self, y: Symbol) -> list[Symbol]:
        """Return the gradients of a scalar with respect to each differentiated leaf."""
        return [self.trace.node("grad", [y, x])[0] for x in self.xs]

    def in_form(self, leaves: Iterable[Any]) -> Any:
        """Return values in the form of the differentiated arguments."""
        return trees.unflatten(self.chosen, iter(leaves))


@dataclass
class Call:
    """Call of a function with values: the traced function, and the inputs of its program."""

    traced: TracedFunction
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
        """Names of the differentiated inputs that the program needs."""
        return [x for x in self.xs if x in self.inputs]

    def ask(self, call: str, **options: Any) -> Any:
        """Make a call of the client with this program and these inputs."""
        return self.traced.program.ask(self.client, call, inputs=self.inputs, **options)

    def only_output(self) -> str:
        """Return the name of the only output.

        Raises:
            NotScalarError: there are several outputs, or none.
        """
        only: Result = only_leaf(self.traced.y)
        return only.name

    def value(self, values: Mapping[str, Any]) -> Any:
        """Return the result of the function, from the values of outputs by name."""
        return trees.unflatten(self.traced.y, iter([values[y] for y in self.ys]))

    def aux(self, values: Mapping[str, Any]) -> Any:
        """Return the auxiliary result of the function, from the values of outputs by name."""
        return trees.map_leaves(lambda leaf: values[leaf.name] if type(leaf) is Result else leaf, self.traced.aux)

    def in_form(self, found: Mapping[str, Any], before: Shape = ()) -> Any:
        """Return derivatives by input in the form of the arguments; zeros for inputs that the function does not use."""
        zeros = (canonical(np.zeros((*before, *shape_of(raw)), dtype_of(raw))) for raw in self.raws)
        return trees.unflatten(self.chosen, iter([found.get(x, zero) for x, zero in zip(self.xs, zeros, strict=True)]))

    def directions(self, given: Any, primals: Any) -> dict[str, Any]:
        """Return tangents or vectors by name, for the inputs that the program needs."""
        leaves = trees.leaves(list(given), list(primals))
        return {x: as_raw(t) for x, t in zip(self.xs, leaves, strict=True) if x in self.inputs}


def places_of(argnums: Any, count: int) -> list[int]:
    """Return the positions that `argnums` names in a call with `count` arguments.

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


def pick(args: Sequence[Any], argnums: Any) -> Any:
    """Return the argument that `argnums` names; a tuple of arguments if `argnums` is a tuple or a list."""
    found = [args[number] for number in places_of(argnums, len(args))]
    return tuple(found) if isinstance(argnums, (list, tuple)) else found[0]


def is_inside() -> bool:
    """Return whether a function is being traced."""
    return tracing.get() is not None


def call_inside(
    f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool = False
) -> InnerCall:
    """Call a function on new symbols of the current trace."""
    trace = tracing.get()
    assert trace is not None
    chosen = pick(args, argnums)
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
    return InnerCall(trace, chosen, xs, trees.map_leaves(functools.partial(as_node, trace), y), aux)


def call_traced(
    f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool = False
) -> Call:
    """Trace a function with symbols for the arguments that `argnums` names, and bind their values.

    Raises:
        NotDifferentiableError: one of these arguments is not floating.
        TraceError: the function reads the value of a symbol.
    """
    tree = (tuple(args), keywords)
    count = len(trees.leaves(tree))
    indices = trees.unflatten(tree, iter(range(count)))
    symbols: dict[int, Aval] = {}
    arguments: dict[int, Value] = {}
    leaves = trees.leaves(tree)
    chosen = trees.leaves(pick(indices[0], argnums))
    for place in chosen:
        raw = as_raw(leaves[place])
        check_floating(dtype_of(raw))
        arguments[place] = raw
        symbols[place] = shape_of(raw), dtype_of(raw)
    tracer = Tracer(f, tree, chosen, symbols, has_aux)
    traced, inputs = tracer.bind(arguments)
    return Call(traced, tracer.client, pick(args, argnums), [arguments[place] for place in chosen], inputs)


class Tracer:
    """Tracer of one call of a function, with a cache.

    f: the function.
    tree: (args, keywords).
    chosen: places of the leaves that are differentiated.
    symbols: shape and dtype of each leaf that becomes an input, by place; other leaves are passed to the function
        unchanged.
    weak: places of Python numbers; beside float32 values these are passed unchanged, so that they adopt the dtype.
    is_kept: look up and cache the traced function, as long as its environment does not change.
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
            # An input has a dtype; a Python number adopts float32.
            self._weak = set(weak)
            self._symbols = {place: aval for place, aval in symbols.items() if place not in self._weak}

    def bind(self, arguments: Mapping[int, Value]) -> tuple[TracedFunction, dict[str, Value]]:
        """Return the traced function, from the cache if possible, and its inputs.

        arguments: values of the symbols by place.
        """
        cache = trace_cache_of(self.client)
        environment = self._environment() if self._is_kept else None
        if environment is None:
            return self._bind_new(self._trace(cache, ()), arguments)
        key = self._key(environment)
        traced = cache.get(key)
        inputs = None if traced is None else traced.bound(arguments)
        if traced is not None and inputs is not None:
            return traced, inputs
        before = draws()
        traced = self._trace(cache, environment.held)
        now = self._environment()
        # A function that changes its environment or draws random numbers is not cached.
        if now is not None and (now.key, draws()) == (environment.key, before):
            cache.put(key, traced)
        return self._bind_new(traced, arguments)

    def _bind_new(
        self, traced: TracedFunction, arguments: Mapping[int, Value]
    ) -> tuple[TracedFunction, dict[str, Value]]:
        """Return a function that was just traced, and its inputs, which fit."""
        inputs = traced.bound(arguments)
        assert inputs is not None
        return traced, inputs

    def _environment(self) -> Environment | None:
        """Return the environment of the function, None if it is too large."""
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
        """Return the key of the cache entry."""
        values = tuple((place, repr(self._leaves[place])) for place in sorted(self._weak))
        shapes = tuple((place, shape, str(dtype)) for place, (shape, dtype) in sorted(self._symbols.items()))
        return environment.key, self._options(), shapes, values

    def _trace(self, cache: TraceCache, held: Iterable[Any]) -> TracedFunction:
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
        return TracedFunction(
            cache.program(graph),
            {name: trace.inputs[name] for name in needed},
            {name: trace.known[name] for name in needed},
            tuple(made[place].name if place in made else "" for place in self._chosen),
            trees.map_leaves(_result, y),
            trees.map_leaves(_result, aux),
            list(held),
        )


def split_aux(f: Function, y: Any, has_aux: bool) -> tuple[Any, Any]:
    """Split the return value of a function into result and auxiliary result (None without `has_aux`).

    Raises:
        BadAttributeError: `has_aux` is set, and the value is not a pair.
    """
    if not has_aux:
        return y, None
    if not (isinstance(y, tuple) and len(y) == 2):
        raise BadAttributeError(f"has_aux: {getattr(f, '__name__', f)} returned {type(y).__name__}; expected a pair")
    return y


def as_node(trace: Trace, leaf: Any) -> Symbol:
    """Return a leaf of a result as the symbol of a node; an input or a plain value gets a node.

    Raises:
        InvalidValueError: the leaf is not a value.
        TraceError: the leaf is a symbol of another trace.
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
    """Return a result that is a single leaf.

    Raises:
        NotScalarError: the result is a container.
    """
    if type(y) not in (Symbol, Result):
        raise NotScalarError(
            f"expected a function of one element; this one returns {len(trees.leaves(y))} values in a "
            f"{type(y).__name__}"
        )
    return y


def check_floating(dtype: np.dtype[Any]) -> None:
    """Check that the dtype of an argument is floating.

    Raises:
        NotDifferentiableError: it is not.
    """
    if dtype.kind != "f":
        raise NotDifferentiableError(f"an argument is {dtype}; only floating ones are differentiated")


def check_scalar(shape: Shape) -> None:
    """Check that a result has one element.

    Raises:
        NotScalarError: it has several, or none.
    """
    if math.prod(shape) != 1:
        raise NotScalarError(f"expected a function of one element, this one returns shape {shape}; reduce it first")


def check_form(what: str, given: Any, expected: Any) -> None:
    """Check that two trees have the same containers, and leaves of the same shapes.

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
