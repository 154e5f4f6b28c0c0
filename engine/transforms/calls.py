"""Calls of Python functions on tracers: arguments value_of apart, results put together, and the way back or forward."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.core import trees
from engine.core.backward import gradients
from engine.core.errors import (
    BadAttributeError,
    InvalidValueError,
    NotDifferentiableError,
    NotScalarError,
    ShapeMismatchError,
)
from engine.core.masking import everywhere, nonzero, settled, unmasked
from engine.core.operations import CALLS
from engine.core.tracer import Symbol, Tracer, end
from engine.core.values import as_raw, canonical, dtype_of, shape_of
from engine.core.variable import Variable
from engine.plans.basis import Basis
from engine.plans.sparsity import SMALLEST, pattern
from engine.tracers.batching import Batch
from engine.tracers.forward import Forward
from engine.tracers.reverse import Tape, Taped
from engine.transforms.axes import moved

Function = Callable[..., Any]

#: Numbers of levels, of which only the order counts: what begins later is inside of what is at work, in any thread.
_levels = itertools.count(1)


def next_level() -> int:
    """A level above all that there are."""
    return next(_levels)


def answer(tree: Any, lowered: Callable[[Any], Any]) -> Any:
    """The aux of a transform that has ended, `lowered` from its tracers to the values outside of it.

    Raises:
        LeakedValueError: a part of it belongs to a transform that ended before.
        InvalidValueError: see `check_hidden`.
    """
    found = trees.mapped(lowered, tree)
    check_hidden(found)
    for leaf in trees.leaves(found):
        if isinstance(leaf, Tracer):
            leaf.check_alive()
    return found


def check_hidden(tree: Any) -> None:
    """Make sure that no value of a transform that has ended is where it is not taken out.

    Raises:
        InvalidValueError: one is the key of a dict, or in a set.
    """
    if isinstance(tree, Tracer):
        return
    if isinstance(tree, dict):
        hidden, inside = list(tree), list(tree.values())
    elif isinstance(tree, list | tuple):
        hidden, inside = [], list(tree)
    else:
        is_opaque = isinstance(tree, set | frozenset | deque) or (isinstance(tree, np.ndarray) and tree.dtype == object)
        hidden, inside = list(tree.flat if isinstance(tree, np.ndarray) else tree) if is_opaque else [], []
    if any(isinstance(item, Tracer) and item.recorder.is_over for item in hidden):
        raise InvalidValueError(
            f"a traced value is {'a key of' if isinstance(tree, dict) else 'in'} a {type(tree).__name__}, where it is "
            "not taken out; return it in a list, a tuple or as the value of a key"
        )
    for item in inside:
        check_hidden(item)


class ReverseCall:
    """A function called on a tape: its result, and the way back from it."""

    def __init__(
        self,
        f: Function,
        args: Sequence[Any],
        keywords: dict[str, Any],
        argnums: Any,
        has_aux: bool,
        transform: str,
    ) -> None:
        self.chosen, places = choose(args, argnums)
        full = list(args)
        self.tape = Tape(next_level(), transform)
        taped = trees.mapped(lambda x: self.tape.leaf(floating(x)), self.chosen)
        self.xs = trees.leaves(taped)
        for place, x in zip(places, taped if isinstance(argnums, list | tuple) else [taped], strict=True):
            full[place] = x
        try:
            y, aux = with_aux(f, f(*full, **keywords), has_aux)
            self.y = trees.mapped(returned, y)
        finally:
            end(self.tape)
        check_hidden(self.y)
        self.aux = answer(aux, self.tape.data) if has_aux else None

    def result(self, value: Any) -> Any:
        """A value without the tape."""
        return plain(self.tape.data(value))

    def cotangents(self, pairs: Sequence[tuple[Any, Any]], *, is_basis: bool = False) -> list[Any]:
        """What comes back to every leaf of the arguments."""
        self.tape.check_fresh()
        mine = [(y, g) for y, g in pairs if isinstance(y, Taped) and y.recorder is self.tape]
        found = gradients(mine, self.xs, is_basis=is_basis) if mine else [None] * len(self.xs)
        return [zeros(self.tape.data(x)) if g is None else g for x, g in zip(self.xs, found, strict=True)]

    def back(self, pairs: Sequence[tuple[Any, Any]]) -> Any:
        """The same in the form of the arguments."""
        return trees.filled(self.chosen, map(plain, self.cotangents(pairs)))

    def rows(self) -> Any:
        """The Jacobian, by one batched pass back for each output."""
        found = []
        for y in trees.leaves(self.y):
            check_floating(y)
            batch = Batch(next_level(), size(y))
            g = batch.wrap(directions(y))
            parts = [batch.unwrap(part) for part in self.cotangents([(y, g)], is_basis=True)]
            parts = [CALLS["reshape"](p, (*shape_of(y), *shape_of(p)[1:])) for p in parts]
            found.append(trees.filled(self.chosen, map(plain, parts)))
        return trees.filled(self.y, iter(found))


def jacobian_by_columns(
    f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool, transform: str
) -> Any:
    """The Jacobian, by a batched forward pass for each leaf of the arguments, or one of few directions for all."""
    chosen, places = choose(args, argnums)
    xs = [floating(x) for x in trees.leaves(chosen)]

    def call(values: Sequence[Any]) -> tuple[Any, Any]:
        full = list(args)
        given = trees.filled(chosen, iter(values))
        for place, value in zip(places, given if isinstance(argnums, list | tuple) else [given], strict=True):
            full[place] = value
        return with_aux(f, f(*full, **keywords), has_aux)

    basis = _shared_basis(xs, call)
    if basis is not None:
        steps = basis.steps(lambda _: ())
        y, aux, tangents = _along(call, xs, [steps[str(k)] for k in range(len(xs))], basis.count, transform)
        starts = np.cumsum([0, *map(size, tangents)]) // basis.count
        blocks = [basis.columns(t, int(start)) for t, start in zip(tangents, starts, strict=False)]
        rows = [[block[str(k)] for k in range(len(xs))] for block in blocks]
    else:
        columns = []
        if not xs:
            y, aux = call(())
            tangents = trees.leaves(y)
        for k, x in enumerate(xs):
            seeds = [directions(x) if i == k else None for i in range(len(xs))]
            y, aux, tangents = _along(call, xs, seeds, size(x), transform)
            columns.append([directions_last(t, x) for t in tangents])
        rows = [[column[n] for column in columns] for n in range(len(tangents))]
    result = trees.filled(y, iter([trees.filled(chosen, map(plain, row)) for row in rows]))
    return (result, aux) if has_aux else result


class Pushed(NamedTuple):
    """A call along tangents: the result, aux, and for each leaf of the result its primal and its tangent (or None)."""

    y: Any
    aux: Any
    primals: list[Any]
    tangents: list[Any]
    has_choices: bool


def pushed(
    call: Callable[[Sequence[Any]], tuple[Any, Any]],
    xs: Sequence[Any],
    tangents: Sequence[Any],
    transform: str,
    wrap: Callable[[Any], Any] = everywhere,
) -> Pushed:
    """Call a function along tangents, with supports where they make a difference (then it is called once more).

    call: takes values of the leaves of the arguments; returns the result and aux.
    tangents: for each leaf, None for zeros.
    transform: what users call it.
    wrap: `masking.nonzero` where zeros of the tangents are structural ones.
    """
    calls: list[Pushed] = []

    def run(is_masked: bool) -> list[Any]:
        calls.append(_called(call, xs, [wrap(t) if is_masked and t is not None else t for t in tangents], transform))
        return calls[-1].tangents

    found = settled([*xs, *tangents], run, lambda: calls[-1].has_choices or wrap is nonzero)
    return calls[-1]._replace(tangents=found)


def _called(
    call: Callable[[Sequence[Any]], tuple[Any, Any]], xs: Sequence[Any], tangents: Sequence[Any], transform: str
) -> Pushed:
    forward = Forward(next_level(), transform)
    try:
        with np.errstate(all="ignore"):
            y, aux = call([*map(forward.pair, xs, tangents)])
        pairs = [forward.parts(returned(leaf)) for leaf in trees.leaves(y)]
    finally:
        end(forward)
    check_hidden(y)
    aux = answer(aux, lambda leaf: forward.parts(leaf)[0])
    return Pushed(y, aux, [p for p, _ in pairs], [unmasked(t) for _, t in pairs], forward.has_choices)


def _along(
    call: Callable[[Sequence[Any]], tuple[Any, Any]],
    xs: Sequence[Any],
    directions: Sequence[Any],
    count: int,
    transform: str,
) -> tuple[Any, Any, list[Any]]:
    """The result along so many directions of a basis, aux, and for each leaf of the result all its tangents."""
    batch = Batch(next_level(), count)
    try:
        found = pushed(call, xs, [None if t is None else batch.wrap(t) for t in directions], transform, nonzero)
    finally:
        end(batch)
    for primal in found.primals:
        check_floating(primal)
    tangents = [batch.unwrap(zeros(p) if t is None else t) for p, t in zip(found.primals, found.tangents, strict=True)]
    return found.y, found.aux, tangents


def _shared_basis(xs: Sequence[Any], call: Callable[[Sequence[Any]], tuple[Any, Any]]) -> Basis | None:
    """Directions that elements of several arguments share, where a trace shows that they can."""
    if size(list(xs)) < SMALLEST or any(type(x) is not Symbol or x.recorder is not xs[0].recorder for x in xs):
        return None
    trace = xs[0].recorder
    are_inputs = all(trace.steps[x.place].name for x in xs) and len({x.place for x in xs}) == len(xs)
    # What is computed from any other step may have been simplified to what does not read it.
    alone = xs if are_inputs else [trace.cut(x) for x in xs]
    ys = [value_of(leaf) for leaf in trees.leaves(call(alone)[0])]
    if any(type(y) is not Symbol or y.recorder is not trace for y in ys):
        return None
    basis = Basis(trace, {str(k): x.aval for k, x in enumerate(xs)}, None, pattern(trace, ys, alone))
    return basis if basis.is_shared else None


def directions(x: Any) -> Any:
    """Directions along each element of a value, one a row."""
    n = size(x)
    eye = np.eye(n, dtype=dtype_of(x)).reshape((n, *shape_of(x)))
    return eye


def directions_last(tangents: Any, x: Any) -> Any:
    """The axis of directions at the end, in the shape and dtype of what they are directions of."""
    last = moved(tangents, 0, -1)
    found = CALLS["reshape"](last, (*shape_of(last)[:-1], *shape_of(x)))
    return found if dtype_of(found) == dtype_of(x) else CALLS["astype"](found, str(dtype_of(x)))


def choose(args: Sequence[Any], argnums: Any) -> tuple[Any, list[int]]:
    """The arguments to differentiate with respect to: one, or a tuple of them; and their places."""
    places = []
    for n in argnums if isinstance(argnums, list | tuple) else [argnums]:
        if isinstance(n, bool) or not isinstance(n, int) or not -len(args) <= n < len(args):
            raise BadAttributeError(f"argnums is {n!r}; the function was called with {len(args)} positional arguments")
        places.append(n % len(args))
    if len(set(places)) < len(places):
        raise BadAttributeError(f"argnums {tuple(argnums)} name an argument twice")
    chosen = tuple(args[n] for n in places)
    return (chosen if isinstance(argnums, list | tuple) else chosen[0]), places


def with_aux(f: Function, y: Any, has_aux: bool) -> tuple[Any, Any]:
    """The result of a function and what it returns beside it."""
    if not has_aux:
        return y, None
    if not isinstance(y, tuple) or len(y) != 2:
        raise InvalidValueError(f"with has_aux, {getattr(f, '__name__', 'f')} returns a pair (result, aux)")
    return y


def only_element(y: Any) -> Any:
    """The one element that a function of which there is a gradient returns."""
    found = trees.leaves(y)
    if len(found) != 1 or found[0] is not y:
        raise NotScalarError(
            f"expected a function of one element; this one returns {len(found)} values in a {type(y).__name__}"
        )
    check_floating(y)
    if math.prod(shape_of(y)) != 1:
        raise NotScalarError(
            f"expected a function of one element, this one returns shape {shape_of(y)}; reduce it first"
        )
    return y


def floating(x: Any) -> Any:
    """A value to be differentiated with respect to."""
    x = value_of(x)
    if isinstance(x, Tracer):
        x.check_alive()
    if isinstance(x, Symbol) and x.aval.weak:
        # A number that is differentiated has a dtype of its own, as on a tape.
        x = x.recorder.cut(x)
    if dtype_of(x).kind != "f":
        raise NotDifferentiableError(f"an argument has dtype {dtype_of(x)}; expected a floating one to differentiate")
    return x


def value_of(x: Any) -> Any:
    """What a user gives or a function returns: a variable or tracer as it is, all else as a raw value."""
    return x if isinstance(x, Variable | Tracer) else as_raw(x)


def returned(y: Any) -> Any:
    """Take the result of a function, as `value_of`, while its transform is still at work.

    Raises:
        LeakedValueError: it belongs to a transform that has ended.
    """
    y = value_of(y)
    if isinstance(y, Tracer):
        y.check_alive()
    return y


def check_floating(y: Any) -> None:
    """A result that is differentiated has to be floating."""
    if dtype_of(y).kind != "f":
        raise NotDifferentiableError(f"the result has dtype {dtype_of(y)}; expected a floating one to differentiate")


def check_form(noun: str, given: Any, expected: Any) -> None:
    """Cotangents, tangents and vectors have the containers of what they belong to."""
    if trees.form(given) != trees.form(expected):
        raise ShapeMismatchError(f"{noun}: given {_shown(given)}; expected the form {_shown(expected)}")


def _shown(tree: Any) -> str:
    def shown(leaf: Any) -> str:
        value = value_of(leaf)
        return f"{dtype_of(value)}{list(shape_of(value))}"

    return str(trees.mapped(shown, tree)).replace("'", "")


def direction(noun: str, value: Any, x: Any) -> Any:
    """A cotangent or tangent in the shape and dtype of what it belongs to."""
    value = value_of(value)
    if shape_of(value) != shape_of(x):
        raise ShapeMismatchError(f"{noun}: shape {shape_of(value)}; expected {shape_of(x)}")
    if dtype_of(x).kind == "f" and dtype_of(value) != dtype_of(x):
        value = CALLS["astype"](value, str(dtype_of(x)))
    return value


def zeros(x: Any) -> Any:
    """Zeros in the shape and dtype of a value."""
    return CALLS["zeros_like"](x)


def size(tree: Any) -> int:
    """Elements of all leaves together."""
    return sum(math.prod(shape_of(value_of(leaf))) for leaf in trees.leaves(tree))


def plain(value: Any) -> Any:
    """What a user gets: no array is shared with another result or argument."""
    if isinstance(value, Tracer):
        value.check_alive()
        return value
    if isinstance(value, Variable):
        return value
    value = canonical(float(value) if type(value) is int else value)
    return value if type(value) is float else value.copy()
