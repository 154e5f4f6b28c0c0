"""Calls of Python functions on tracers: unpack arguments, pack results, and run backward and forward passes."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from engine.core import (
    ROW_CALLS,
    Aval,
    BadAttributeError,
    InvalidValueError,
    NotDifferentiableError,
    NotScalarError,
    Operand,
    Result,
    ShapeMismatchError,
    Symbol,
    Tracer,
    Variable,
    as_raw,
    canonical,
    dtype_of,
    end,
    full_support,
    gradients,
    nonzero,
    run_settled,
    shape_of,
    trees,
    unmask,
)
from engine.core.trees import Function, Tree
from engine.plans.basis import Basis
from engine.plans.sparsity import SMALLEST, pattern
from engine.plans.trace import Trace
from engine.tracers import Batch, Batched, Forward, Tape, Taped

#: A function of the leaves of its arguments, which returns its result and aux.
Call = Callable[[Sequence[Operand]], tuple[Tree, Tree]]

#: Levels of transforms, of which only the order counts: a transform that begins later is inside of those running.
_levels = itertools.count(1)


def next_level() -> int:
    """Return a level above all levels in use."""
    return next(_levels)


def answer(tree: Tree, outside: Function) -> Any:
    """Return the aux result of a transform that has ended, with `outside` applied to its tracers.

    outside: returns the value of a tracer outside of the transform.

    Raises:
        LeakedValueError: a leaf belongs to a transform that ended before.
        InvalidValueError: see `check_hidden`.
    """
    found = trees.map_leaves(outside, tree)
    check_hidden(found)
    for leaf in trees.leaves(found):
        if isinstance(leaf, Tracer):
            leaf.check_alive()
    return found


def check_hidden(tree: Any) -> None:
    """Check that no tracer of a transform that has ended is hidden where results are not unpacked.

    Raises:
        InvalidValueError: a tracer is a key of a dict, or is in a set, a deque or an array of objects.
    """
    if isinstance(tree, Tracer) or type(tree) is float:
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
    """Call of a function on a tape, and backward passes from its result.

    chosen: the arguments to differentiate with respect to. xs: their leaves on the tape.
    y: the result, with leaves on the tape. aux: the aux result, off the tape.
    """

    def __init__(
        self,
        f: Function,
        args: Sequence[Tree],
        keywords: dict[str, Tree],
        argnums: Any,
        has_aux: bool,
        transform: str,
    ) -> None:
        self.chosen, positions = choose(args, argnums)
        self.tape = Tape(next_level(), transform)
        taped = trees.map_leaves(lambda x: self.tape.leaf(floating(x)), self.chosen)
        self.xs = trees.leaves(taped)
        full = with_chosen(args, positions, taped, argnums)
        try:
            y, aux = with_aux(f, f(*full, **keywords), has_aux)
            self.y = trees.map_leaves(live_value, y)
        finally:
            end(self.tape)
        check_hidden(self.y)
        self.aux = answer(aux, self.tape.data) if has_aux else None

    def result(self, value: Operand) -> Result:
        """Return a value of the result off the tape, for the user."""
        return as_result(self.tape.data(value))

    def cotangents(
        self, pairs: Sequence[tuple[Operand, Operand]], wanted: Sequence[Operand] | None = None, **options: bool
    ) -> list[Result]:
        """Run a backward pass; return the cotangents of the leaves of the arguments, or of other values on the tape.

        pairs: values with their cotangents.
        wanted: the values on the tape whose cotangents to return; None for the leaves of the arguments.
        options: those of `backward.gradients`.
        """
        self.tape.check_fresh()
        wanted = self.xs if wanted is None else wanted
        mine = [(y, g) for y, g in pairs if self._is_mine(y)]
        own = [x for x in wanted if self._is_mine(x)]
        found = iter(gradients(mine, own, **options) if mine else [None] * len(own))
        slopes = [next(found) if self._is_mine(x) else None for x in wanted]
        return [zeros(self.tape.data(x)) if g is None else g for x, g in zip(wanted, slopes, strict=True)]

    def _is_mine(self, x: object) -> TypeGuard[Taped]:
        return isinstance(x, Taped) and x.recorder is self.tape

    def back(self, pairs: Sequence[tuple[Operand, Operand]]) -> Any:
        """Run a backward pass; return the cotangents of the arguments in their form."""
        return trees.unflatten(self.chosen, map(as_result, self.cotangents(pairs)))

    def rows(self, basis: Basis | None = None) -> Any:
        """Return the Jacobian, by batched backward passes over groups of outputs.

        basis: directions for all outputs together; None for the directions along each element.
        """
        ys = trees.leaves(self.y)
        for y in ys:
            check_floating(y)
        starts = [0, *itertools.accumulate(map(size, self.xs))]
        found: list[list[Operand]] = []
        for group in [ys] if basis is not None else _grouped(ys):
            own = _basis(group) if basis is None else basis
            batch = None if own.is_one else Batch(next_level(), own.count)
            pairs = [(y, g if batch is None else batch.wrap(g)) for y, g in zip(group, own.directions(), strict=True)]
            slopes = self.cotangents(pairs, is_basis=True)
            parts = slopes if batch is None else map(batch.unwrap, slopes)
            blocks = [own.rows(part, start) for part, start in zip(parts, starts, strict=False)]
            found += [[block[k] for block in blocks] for k in range(len(group))]
        return trees.unflatten(self.y, iter([trees.unflatten(self.chosen, map(as_result, row)) for row in found]))


def jacobian(
    f: Function, args: Sequence[Tree], keywords: dict[str, Tree], argnums: Any, mode: str, has_aux: bool, transform: str
) -> Any:
    """Return the Jacobian, by backward or by forward passes; by whichever are fewer if the mode is "auto"."""
    chosen, positions = choose(args, argnums)

    def call(values: Sequence[Operand]) -> tuple[Tree, Tree]:
        full = with_chosen(args, positions, trees.unflatten(chosen, iter(values)), argnums)
        return with_aux(f, f(*full, **keywords), has_aux)

    columns, rows = _shared(trees.leaves(chosen), call)
    is_reverse = mode == "reverse"
    if mode == "auto" and columns is not None and rows is not None:
        is_reverse = columns.count >= rows.count
    if is_reverse or (mode == "auto" and columns is None):
        run = ReverseCall(f, args, keywords, argnums, has_aux, transform)
        if is_reverse or size(run.y) <= size(run.chosen):
            found = run.rows(rows if rows is not None and rows.is_shared else None)
            return (found, run.aux) if has_aux else found
    xs = [floating(x) for x in trees.leaves(chosen)]
    return _by_columns(call, chosen, xs, columns, has_aux, transform)


def _by_columns(
    call: Call,
    chosen: Tree,
    xs: Sequence[Operand],
    basis: Basis | None,
    has_aux: bool,
    transform: str,
) -> Any:
    """Return the Jacobian, by batched forward passes over groups of leaves of the arguments."""
    is_shared = basis is not None and basis.is_shared
    rows: list[list[Operand]] = []
    start = 0
    y, aux = (None, None) if xs else call(())
    for group in [xs] if is_shared else _grouped(xs):
        own = basis if basis is not None and is_shared else _basis(group)
        seeds: list[Operand | None] = [None] * len(xs)
        seeds[start : start + len(group)] = own.directions()
        start += len(group)
        y, aux, tangents = _along(call, xs, seeds, None if own.is_one else own.count, transform)
        starts = [n // max(own.count, 1) for n in (0, *itertools.accumulate(map(size, tangents)))]
        blocks = [own.columns(t, begin) for t, begin in zip(tangents, starts, strict=False)]
        rows = [[*before, *block] for before, block in zip(rows or [[]] * len(blocks), blocks, strict=True)]
    rows = rows if xs else [[] for _ in trees.leaves(y)]
    result = trees.unflatten(y, iter([trees.unflatten(chosen, map(as_result, row)) for row in rows]))
    return (result, aux) if has_aux else result


#: The most numbers that have a pass each, without a batch, so that a trace of scalars stays one.
_MOST_PASSES = 8


def _grouped(values: Sequence[Operand]) -> list[list[Operand]]:
    """Divide values into groups that share a batched pass."""
    is_few = len(values) <= _MOST_PASSES and all(size(x) == 1 for x in values)
    return [[x] for x in values] if is_few else [list(values)]


def _basis(values: Sequence[Operand]) -> Basis:
    """Return directions along all elements of some values, as constants of a trace if the values are symbols of one."""
    below: Operand | None = values[0] if values else None
    while isinstance(below, Tracer) and type(below) is not Symbol:
        below = below.held[0]
    return Basis([_aval(x) for x in values], below.recorder if type(below) is Symbol else None)


def _aval(x: Operand) -> Aval:
    return Aval(shape_of(x), dtype_of(x))


class ForwardResult(NamedTuple):
    """Result of a call along tangents.

    y: the result. aux: the aux result.
    primals, tangents: for each leaf of the result; a tangent of None is zero.
    has_choices: whether supports may change the tangents.
    """

    y: Any
    aux: Any
    primals: list[Result]
    tangents: list[Result]
    has_choices: bool


def run_forward(
    call: Call,
    xs: Sequence[Operand],
    tangents: Sequence[Operand | None],
    transform: str,
    wrap: Callable[[Operand], Operand] = full_support,
) -> ForwardResult:
    """Call a function along tangents; if a tangent of the result is not finite, call it again with supports.

    call: takes values of the leaves of the arguments; returns the result and aux.
    xs: the leaves of the arguments.
    tangents: their tangents; None for zeros.
    transform: the name that users call it by.
    wrap: adds the supports to a tangent; `masking.nonzero` if its zeros are structural.
    """
    calls: list[ForwardResult] = []

    def run(is_masked: bool) -> list[Result]:
        calls.append(_called(call, xs, [wrap(t) if is_masked and t is not None else t for t in tangents], transform))
        return calls[-1].tangents

    found = run_settled([*xs, *tangents], run, lambda: calls[-1].has_choices or wrap is nonzero)
    # Supports change tangents only; primals and aux are those of the first call.
    return calls[0]._replace(tangents=found)


def _called(call: Call, xs: Sequence[Operand], tangents: Sequence[Operand | None], transform: str) -> ForwardResult:
    forward = Forward(next_level(), transform)
    try:
        with np.errstate(all="ignore"):
            y, aux = call([*map(forward.pair, xs, tangents)])
        pairs = [forward.parts(live_value(leaf)) for leaf in trees.leaves(y)]
    finally:
        end(forward)
    check_hidden(y)
    aux = answer(aux, lambda leaf: forward.parts(leaf)[0])
    return ForwardResult(y, aux, [p for p, _ in pairs], [unmask(t) for _, t in pairs], forward.has_choices)


def _along(
    call: Call,
    xs: Sequence[Operand],
    directions: Sequence[Operand | None],
    count: int | None,
    transform: str,
) -> tuple[Tree, Tree, list[Result]]:
    """Return the result along the directions of a basis, aux, and for each leaf of the result all its tangents.

    count: the number of directions; None for one direction without an axis.
    """
    batch = None if count is None else Batch(next_level(), count)
    seeds = [t if t is None or batch is None else batch.wrap(t) for t in directions]
    try:
        found = run_forward(call, xs, seeds, transform, nonzero)
    finally:
        if batch is not None:
            end(batch)
    for primal in found.primals:
        check_floating(primal)
    tangents = [zeros(p) if t is None else t for p, t in zip(found.primals, found.tangents, strict=True)]
    return found.y, found.aux, tangents if batch is None else [*map(batch.unwrap, tangents)]


def _shared(xs: Sequence[Result], call: Call) -> tuple[Basis, Basis] | tuple[None, None]:
    """Return the bases of shared directions along the arguments and along the results.

    (None, None) if the arguments are not on a trace, or if the sparsity pattern is not worth it.
    """
    trace = _trace_of(xs[0]) if xs else None
    if trace is None or size(list(xs)) < SMALLEST or any(_trace_of(x) is not trace for x in xs):
        return None, None
    xs = [floating(x) for x in xs]
    alone = xs
    looked_at = trace
    if any(type(x) is not Symbol for x in xs):
        # Trace one row of a batch on a separate trace, to find its pattern.
        looked_at = Trace(trace.limits, next_level(), takes_foreign=True)
        alone = [looked_at.input(f"x{k}", _aval(x)) for k, x in enumerate(xs)]
    elif not all(trace.steps[x.index].name for x in xs) or len({x.index for x in xs}) < len(xs):
        # Simplification may bypass a step that was computed from others; a cut cannot be bypassed.
        alone = [trace.cut(x) for x in xs]
    ys = [value_of(leaf) for leaf in trees.leaves(call(alone)[0])]
    if any(type(y) is not Symbol or y.recorder is not looked_at for y in ys):
        return None, None
    known = pattern(looked_at, ys, alone)
    if known is None:
        return None, None
    columns = Basis([_aval(x) for x in xs], trace, known)
    return columns, Basis([_aval(y) for y in ys], trace, known.transposed())


def _trace_of(x: object) -> Trace | None:
    """Return the trace of a symbol, or of the symbol inside of a batched value; None for any other value."""
    while isinstance(x, Batched):
        x = x.value
    return x.recorder if type(x) is Symbol else None


def choose(args: Sequence[Tree], argnums: Any) -> tuple[Any, list[int]]:
    """Return the arguments to differentiate with respect to, one or a tuple of them, and their positions.

    Raises:
        BadAttributeError: there is no argument of that number, or it is named twice.
    """
    positions = []
    for n in argnums if isinstance(argnums, list | tuple) else [argnums]:
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or not -len(args) <= n < len(args):
            raise BadAttributeError(f"argnums is {n!r}; the function was called with {len(args)} positional arguments")
        positions.append(int(n) % len(args))
    if len(set(positions)) < len(positions):
        raise BadAttributeError(f"argnums {tuple(argnums)} name an argument twice")
    chosen = tuple(args[n] for n in positions)
    return (chosen if isinstance(argnums, list | tuple) else chosen[0]), positions


def with_chosen(args: Sequence[Tree], positions: Sequence[int], chosen: Any, argnums: Any) -> list[Tree]:
    """Return the arguments with those that `choose` returned replaced by `chosen`, one or a tuple of them."""
    full = list(args)
    for i, x in zip(positions, chosen if isinstance(argnums, list | tuple) else [chosen], strict=True):
        full[i] = x
    return full


def with_aux(f: Function, y: Tree, has_aux: bool) -> tuple[Tree, Tree]:
    """Split what a function returned into the result and aux; aux is None without `has_aux`.

    Raises:
        InvalidValueError: with `has_aux`, it is not a pair.
    """
    if not has_aux:
        return y, None
    if not isinstance(y, tuple) or len(y) != 2:
        raise InvalidValueError(f"with has_aux, {getattr(f, '__name__', 'f')} returns a pair (result, aux)")
    return y


def only_element(y: Result) -> Result:
    """Check that a function to take the gradient of returned one floating element; return it.

    Raises:
        NotScalarError: it returned several values or elements, or none.
        NotDifferentiableError: it is not floating.
    """
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


def floating(x: Result) -> Result:
    """Return an argument as a value to differentiate with respect to.

    Raises:
        NotDifferentiableError: it is not floating.
    """
    x = value_of(x)
    if isinstance(x, Tracer):
        x.check_alive()
    if isinstance(x, Symbol) and x.aval.weak:
        # A number that is differentiated with respect to is not weak, as on a tape.
        x = x.recorder.cut(x)
    if dtype_of(x).kind != "f":
        raise NotDifferentiableError(f"an argument has dtype {dtype_of(x)}; expected a floating one to differentiate")
    return x


def value_of(x: object) -> Result:
    """Return a variable or tracer as it is, any other object as a raw value."""
    return x if isinstance(x, Variable | Tracer) else as_raw(x)


def live_value(y: object) -> Result:
    """Return a result of a function as `value_of` does, while its transform is still running.

    Raises:
        LeakedValueError: it belongs to a transform that has ended.
    """
    y = value_of(y)
    if isinstance(y, Tracer):
        y.check_alive()
    return y


def check_floating(y: Operand) -> None:
    """Check that a result to differentiate is floating.

    Raises:
        NotDifferentiableError: it is not.
    """
    if dtype_of(y).kind != "f":
        raise NotDifferentiableError(f"the result has dtype {dtype_of(y)}; expected a floating one to differentiate")


def check_form(noun: str, given: Tree, expected: Tree) -> None:
    """Check that cotangents, tangents or vectors have the containers of their primals.

    Raises:
        ShapeMismatchError: they do not.
    """
    if trees.structure(given) != trees.structure(expected):
        raise ShapeMismatchError(f"{noun}: given {_shown(given)}; expected the form {_shown(expected)}")


def _shown(tree: Tree) -> str:
    def shown(leaf: object) -> str:
        value = value_of(leaf)
        return f"{dtype_of(value)}{list(shape_of(value))}"

    return str(trees.map_leaves(shown, tree)).replace("'", "")


def direction(noun: str, value: Result, x: Operand) -> Result:
    """Return a cotangent or tangent in the dtype of its primal `x`.

    Raises:
        ShapeMismatchError: it does not have the shape of `x`.
    """
    value = value_of(value)
    if shape_of(value) != shape_of(x):
        raise ShapeMismatchError(f"{noun}: shape {shape_of(value)}; expected {shape_of(x)}")
    if dtype_of(x).kind == "f" and dtype_of(value) != dtype_of(x):
        value = ROW_CALLS["astype"](value, str(dtype_of(x)))
    return value


def zeros(x: Operand) -> Result:
    """Return zeros in the shape and dtype of a value."""
    return ROW_CALLS["zeros_like"](x)


def size(tree: Tree) -> int:
    """Return the number of elements of all leaves together."""
    return sum(math.prod(shape_of(value_of(leaf))) for leaf in trees.leaves(tree))


def as_result(value: Result) -> Result:
    """Return a value for the user; an array as a copy, which shares no memory with other results or arguments.

    Raises:
        LeakedValueError: it belongs to a transform that has ended.
    """
    if isinstance(value, Tracer):
        value.check_alive()
        return value
    if isinstance(value, Variable):
        return value
    value = canonical(float(value) if type(value) is int else value)
    return value if type(value) is float else value.copy()
