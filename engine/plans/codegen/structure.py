"""Structure: what some values of a trace need, numbered so that programs which compute alike have one structure.

Neither names nor the order in which steps were written, nor steps that are not needed, show in it: steps are numbered
as they are reached where each value in turn is computed from its operands, left to right.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from engine.core.dispatch import apply
from engine.core.tracer import Symbol
from engine.core.values import Aval, Value
from engine.graph.order import reached
from engine.plans.step import Step
from engine.plans.trace import Trace

#: Constants are computed once where they have at most so many bytes, one by one and all together.
_LARGEST_KEPT = 2**20
_MOST_KEPT = 2**23


class Structure:
    """The steps that some values need.

    steps: in order; operands are numbers of steps before.
    inputs: numbers of the inputs, in the order in which they are reached; `names` are theirs.
    constants: numbers of what is no input but not in the code either: arrays, and what is made of these alone.
    outputs: numbers of the values.
    watched: places of those outputs that a flag tells to be finite; the last of the values is that flag, then, and only
        the first `count` outputs are values.
    places: of the steps in the trace.

    Args:
        trace: the steps.
        outputs: the values.
        inputs: some that are to come first, needed or not.
    """

    def __init__(self, trace: Trace, outputs: Sequence[Symbol], inputs: Sequence[Symbol] = ()) -> None:
        live = trace.live(outputs)
        known = _known(trace, live)
        self.places = reached(
            [x.place for x in (*inputs, *outputs)], lambda place: () if place in known else trace.steps[place].args
        )
        numbers = {place: n for n, place in enumerate(self.places)}
        self.steps: list[Step] = []
        self.inputs: list[int] = []
        self.constants: list[int] = []
        self.names: list[str] = []
        for n, place in enumerate(self.places):
            step = trace.steps[place]
            if step.name:
                self.inputs.append(n)
                self.names.append(step.name)
                step = Step(None, (), {}, step.aval)
            elif place in known:
                if _is_array(step):
                    self.constants.append(n)
                    step = Step(None, (), {}, step.aval)
            else:
                args = tuple(numbers[a] for a in step.args)
                step = Step(step.op, args, step.attrs, step.aval, None, "", step.stream)
            self.steps.append(step)
        self.outputs = [numbers[x.place] for x in outputs]
        self.watched: tuple[int, ...] = ()
        self.count = len(outputs)

    def replaced(self, steps: Sequence[Step], stand_for: Mapping[int, int]) -> "Structure":
        """The same values by other steps, which are no longer those of a trace.

        steps: the own ones, and others behind them, whose operands may be any.
        stand_for: for numbers of steps those of the ones that stand for them.
        """

        def args(n: int) -> tuple[int, ...]:
            return tuple(stand_for.get(a, a) for a in steps[n].args)

        outputs = [stand_for.get(n, n) for n in self.outputs]
        order = reached([*self.inputs, *self.constants, *outputs], args)
        numbers = {old: n for n, old in enumerate(order)}
        found = copy(self)
        found.places = []
        found.steps = [replace(steps[old], args=tuple(numbers[a] for a in args(old))) for old in order]
        found.inputs = [numbers[n] for n in self.inputs]
        found.constants = [numbers[n] for n in self.constants]
        found.outputs = [numbers[n] for n in outputs]
        return found

    def key(self) -> bytes:
        """What structures share that are the same, with all shapes, dtypes, attributes and numbers in them."""
        digest = hashlib.blake2b(digest_size=20)
        inputs, constants = set(self.inputs), set(self.constants)
        for n, step in enumerate(self.steps):
            kind = "x" if n in inputs else "c" if n in constants else step.operation.name if step.op else ""
            stream = step.stream and (step.stream.place, step.stream.rows)
            number = struct.pack("<d", step.value) if type(step.value) is float else step.value
            weak = step.aval.weak and step.aval.weak.__name__
            about = (kind, step.args, step.attrs, step.aval.shape, step.aval.dtype.str, weak, number, stream)
            digest.update(repr(about).encode())
        digest.update(repr((self.outputs, self.watched, self.count)).encode())
        return digest.digest()

    def constant_values(self, trace: Trace) -> list[Value]:
        """The values of the constants, from the trace that the structure is one of."""
        values: dict[int, Any] = {}
        needed = _needed(trace, [self.places[n] for n in self.constants])
        with np.errstate(all="ignore"):
            for place in needed:
                step = trace.steps[place]
                given = [_operand(trace.steps[a].aval, values[a]) for a in step.args]
                values[place] = apply(step.op, tuple(given), step.attrs) if step.op else _value(step, given)
        return [values[self.places[n]] for n in self.constants]


def _is_array(step: Step) -> bool:
    """Whether a constant is not a number that can stand in code."""
    return step.op is not None or bool(step.args) or callable(step.value) or type(step.value) is np.ndarray


def _known(trace: Trace, live: Sequence[int]) -> set[int]:
    """The constants, and what is made of constants alone while it is small or takes no memory of its own."""
    found: set[int] = set()
    room = _MOST_KEPT
    for place in live:
        step = trace.steps[place]
        if step.name or step.stream is not None:
            continue
        if step.op is None and not step.args:
            found.add(place)
        elif found.issuperset(step.args):
            size = 0 if step.runs("broadcast_to") else step.aval.nbytes
            if size <= min(_LARGEST_KEPT, room):
                room -= size
                found.add(place)
    return found


def _needed(trace: Trace, places: Sequence[int]) -> list[int]:
    return trace.live([trace.symbol(place) for place in places])


def _operand(known: Aval, value: Value) -> Value:
    """A constant beside others: a scalar that has a dtype of its own keeps it."""
    return np.float64(value) if type(value) is float and known.weak is None else value


def _value(step: Step, args: list[Value]) -> Value:
    """A constant that no operation makes."""
    if args:
        return float(args[0]) if type(args[0]) is np.float64 else args[0]
    return step.value() if callable(step.value) else step.value
