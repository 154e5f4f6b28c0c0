"""Schedule: the steps of a trace that some of its values need, in order, and when each result can be let go."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.errors import InvalidValueError
from engine.graph.cost import cost_of
from engine.graph.trace import Step, Trace
from engine.symbol import Symbol
from engine.values import FLOAT64, Value, canonical

#: Computes one step from the values of its operands and the seed of the run.
Compute = Callable[[list[Any], int], Any]
#: Fewer elements than this are allocated faster than it is found out that they need not be.
_SMALLEST_REUSED = 1024
#: The objects that stand for a step.
_BYTES_PER_STEP = 2048


class Schedule:
    """What is left of a trace to compute some values.

    cost: of one run, known before it.
    nbytes: what it takes to keep it.
    """

    def __init__(self, trace: Trace, outputs: Sequence[Symbol]) -> None:
        self._outputs = [x.place for x in outputs]
        live = trace.live(outputs)
        self._inputs = [(trace.steps[p].name, p) for p in live if trace.steps[p].name]
        self._constants = [(p, trace.steps[p].value) for p in live if _is_constant(trace.steps[p])]
        repeated = [(p, value) for p in live if (value := _repeated(trace, trace.steps[p])) is not None]
        self._constants += repeated
        known = {p for p, _ in self._constants}
        self._work = _work(trace, [p for p in live if p not in known], set(self._outputs))
        self._length = len(trace.steps)
        self.cost = cost_of(trace, live)
        constants = sum(step.value.nbytes for step in trace.steps if isinstance(step.value, np.ndarray))
        self.nbytes = _BYTES_PER_STEP * len(trace.steps) + constants

    def run(self, inputs: Mapping[str, Value], seed: int = 0) -> list[Value]:
        """The values, from those of the inputs by name.

        Raises:
            InvalidValueError: data on which an operation is not defined, such as labels out of range.
        """
        values: list[Any] = [None] * self._length
        for name, place in self._inputs:
            values[place] = inputs[name]
        for place, value in self._constants:
            values[place] = value() if callable(value) else value
        with np.errstate(all="ignore"):
            for place, args, compute, done in self._work:
                values[place] = compute([values[a] for a in args], seed)
                for p in done:
                    values[p] = None
        return [_result(values[p]) for p in self._outputs]


def _result(value: Any) -> Value:
    """What is handed out: an array that may be an input, a constant or a part of another result is not written to."""
    value = canonical(float(value) if type(value) is int else value)
    if type(value) is np.ndarray:
        value = value.view()
        value.flags.writeable = False
    return value


def _is_constant(step: Step) -> bool:
    return step.op is None and not step.name and not step.args


def _repeated(trace: Trace, step: Step) -> Any:
    """A constant that is repeated along axes, None for all else: it is a view, and costs no memory before the run."""
    if step.op is None or step.op.name != "broadcast_to":
        return None
    value = trace.known(trace.symbol(step.args[0]))
    return None if value is None else step.op.forward(np.asarray(value, step.aval.dtype), **step.attrs)


def _work(
    trace: Trace, live: Sequence[int], kept: set[int]
) -> list[tuple[int, tuple[int, ...], Compute, tuple[int, ...]]]:
    last: dict[int, int] = {}
    for place in live:
        for a in trace.steps[place].args:
            last[a] = place
    done: dict[int, list[int]] = {}
    for a, place in last.items():
        if a not in kept:
            done.setdefault(place, []).append(a)
    ends = _ends(trace, live, kept)
    return [
        (place, step.args, _compute(trace, step, _reused(trace, place, ends)), tuple(done.get(place, ())))
        for place in live
        if (step := trace.steps[place]).args
    ]


def _ends(trace: Trace, live: Sequence[int], kept: set[int]) -> dict[int, int]:
    """The last step that reads the memory of each value, be it through what may be a view of it."""
    ends = dict.fromkeys(kept, len(trace.steps))
    for place in reversed(live):
        step = trace.steps[place]
        end = ends.get(place, place)
        for a in step.args:
            ends[a] = max(ends.get(a, 0), place if _is_fresh(step) else end)
    return ends


def _is_fresh(step: Step) -> bool:
    """Whether a result never shares memory with an operand."""
    return step.op is not None and step.op.ufunc is not None and bool(step.aval.shape)


def _reused(trace: Trace, place: int, ends: Mapping[int, int]) -> int | None:
    """Which operand of a step its result may be written over: one of its form whose memory nothing reads later."""
    step = trace.steps[place]
    if _is_fresh(step) and step.aval.size >= _SMALLEST_REUSED:
        for i, a in enumerate(step.args):
            x = trace.steps[a]
            is_same = (x.aval.shape, x.aval.dtype) == (step.aval.shape, step.aval.dtype)
            if is_same and _is_fresh(x) and ends[a] == place:
                return i
    return None


def _compute(trace: Trace, step: Step, reused: int | None) -> Compute:
    """How a step is run: the choices that `dispatch.apply` makes each time, made once."""
    op, attrs = step.op, step.attrs
    if op is None:
        return lambda xs, seed: xs[0]
    avals = [trace.steps[a].aval for a in step.args]
    if step.stream is not None:
        return _random(op, attrs, step.stream)
    if all(not a.shape and (a.weak or a.dtype == FLOAT64) for a in avals):
        return _of_scalars(op, attrs, all(a.weak is bool for a in avals))
    if op.ufunc is not None and all(a.dtype == FLOAT64 for a in avals):
        return _of_doubles(op.ufunc, reused)
    strong = [i for i, a in enumerate(avals) if not a.shape and a.dtype == FLOAT64 and a.weak is None]
    forward = op.forward

    def compute(xs: list[Any], seed: int) -> Any:
        for i in strong:
            xs[i] = np.float64(xs[i])
        try:
            y = forward(*xs, **attrs)
        except (ValueError, TypeError, IndexError, ArithmeticError) as error:
            raise InvalidValueError(f"{op.name}: {error}") from error
        return y if type(y) is np.ndarray and y.ndim and y.dtype is FLOAT64 else canonical(y)

    return compute


def _of_doubles(ufunc: np.ufunc, reused: int | None) -> Compute:
    if reused is None:
        return lambda xs, seed: ufunc(*xs)

    def compute(xs: list[Any], seed: int) -> Any:
        x = xs[reused]
        # In another layout, sums over the result could round otherwise than over one of its own.
        return ufunc(*xs, out=x) if x.flags.c_contiguous else ufunc(*xs)

    return compute


def _of_scalars(op: Any, attrs: dict[str, Any], are_bools: bool) -> Compute:
    scalar, forward = op.scalar, op.forward

    def compute(xs: list[Any], seed: int) -> Any:
        if not are_bools:
            xs = [float(x) for x in xs]
            if scalar is not None:
                try:
                    return canonical(scalar(*xs, **attrs))
                except (ArithmeticError, ValueError):
                    return canonical(forward(*map(np.float64, xs), **attrs))
        try:
            return canonical(forward(*map(np.asarray, xs), **attrs))
        except (ValueError, TypeError, IndexError, ArithmeticError) as error:
            raise InvalidValueError(f"{op.name}: {error}") from error

    return compute


def _random(op: Any, attrs: dict[str, Any], stream: Any) -> Compute:
    def compute(xs: list[Any], seed: int) -> Any:
        if stream.rows is None:
            return canonical(op.forward(*xs, **attrs, rng=stream.generator(seed)))
        drawn = [
            op.forward(*(np.asarray(x)[i] for x in xs), **attrs, rng=stream.generator(seed, i))
            for i in range(stream.rows)
        ]
        return np.stack(drawn) if drawn else canonical(op.forward(*xs, **attrs, rng=stream.generator(seed)))

    return compute
