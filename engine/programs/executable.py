"""Executable: a plan with what it is run on, the same plan again and again with other values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from engine.core.config import test_mode
from engine.core.errors import InvalidValueError
from engine.core.messages import nearest
from engine.core.values import FLOAT32, FLOAT64, Value, aval
from engine.graph.names import quoted
from engine.plans.cost import Cost
from engine.plans.plan import Plan
from engine.programs.call import ProgramCall

Result = TypeVar("Result")
#: The names of inputs, and what computes all values from numbers in that order.
OfNumbers = tuple[Sequence[str], Callable[[Sequence[float]], list[Value]]]


@dataclass(frozen=True, slots=True)
class Direction:
    """A cotangent, tangent or vector: `key` is its name as an input of the plan, `of` what it belongs to."""

    key: str
    of: str
    is_float32: bool


@dataclass(frozen=True, slots=True)
class Executable(Generic[Result]):
    """What is left of a program that was checked: all that a run needs, and nothing else.

    values: of all inputs of the plan, by their names there; those that were left out have to be given.
    forms: shapes and dtypes of what may be given.
    directions: what can be given along, by name.
    result: what was asked for, put together from what the plan computes.
    train: random operations are active.
    seed: of these.
    """

    plan: Plan
    values: dict[str, Value]
    forms: dict[str, Any]
    directions: dict[str, Direction]
    result: Callable[[Iterable[Value]], Result]
    train: bool
    seed: int

    @classmethod
    def of(
        cls,
        plan: Plan,
        call: ProgramCall,
        result: Callable[[Iterable[Value]], Result],
        along: Mapping[str, tuple[Direction, Value]],
    ) -> "Executable[Result]":
        """Return a plan with the inputs of a program and the values of directions."""
        given = call.inputs | {direction.key: value for direction, value in along.values()}
        avals = {key: aval(value) for key, value in given.items()}
        forms = {key: (known.shape, known.dtype) for key, known in avals.items()}
        directions = {name: direction for name, (direction, _) in along.items()}
        return cls(plan, call.graph.bound | given, forms, directions, result, call.train, call.seed or 0)

    @property
    def nbytes(self) -> int:
        """What it takes to keep it."""
        return self.plan.nbytes + sum(aval(value).nbytes for value in self.values.values())

    @property
    def of_numbers(self) -> OfNumbers | None:
        """The inputs that it reads and what computes the values that `result` takes, where all are numbers."""
        computed = self.plan.of_numbers
        return None if computed is None or self.directions else (self.plan.names, computed)

    def without_values(self) -> "Executable[Result]":
        """The same without values of inputs and directions: every run has to be given all of them."""
        return replace(self, values={name: value for name, value in self.values.items() if name not in self.forms})

    def run(
        self,
        inputs: Mapping[str, Value] | None = None,
        *,
        along: Mapping[str, Value] | None = None,
        seed: int | None = None,
    ) -> Result:
        """Computes.

        Args:
            inputs: values in place of those that are kept, of the same shapes and dtypes.
            along: the same for cotangents, tangents or vectors.
            seed: of random operations, in place of the one that was given.

        Raises:
            InvalidValueError: a value of another name, shape or dtype, or none where one is needed; data on which an
                operation is not defined.
        """
        values = self.values
        if inputs or along:
            values = values.copy()
            for name, value in (inputs or {}).items():
                values[self._checked(name, value, name in self.forms)] = value
            for name, value in (along or {}).items():
                values[self._directed(name, value)] = value
        if not self.forms.keys() <= values.keys():
            missing = next(name for name in self.forms if name not in values)
            raise InvalidValueError(f"{quoted(missing)} is missing: the program was prepared without values")
        number = self.seed if seed is None else seed
        if self.train or not self.plan.is_random:
            return self.result(self.plan.run(values, number))
        with test_mode():
            return self.result(self.plan.run(values, number))

    def _directed(self, name: str, value: Value) -> str:
        if name not in self.directions:
            known = list(self.directions)
            raise InvalidValueError(f"nothing was prepared along {quoted(name)}{nearest(name, known)}")
        direction = self.directions[name]
        if direction.is_float32 and (fault := narrow_fault(name, value, direction.of)):
            raise InvalidValueError(fault)
        return self._checked(direction.key, value, True)

    def _checked(self, name: str, value: Value, is_known: bool) -> str:
        if not is_known:
            raise InvalidValueError(f"there is no input {quoted(name)}{nearest(name, list(self.forms))}")
        shape, dtype = self.forms[name]
        if type(value) is float and dtype is FLOAT64 and not shape:
            return name
        given = aval(value)
        if (given.shape, given.dtype) != (shape, dtype):
            raise InvalidValueError(
                f"{quoted(name)} is {given.dtype}{list(given.shape)}; the program was prepared for {dtype}{list(shape)}"
            )
        return name


@dataclass(frozen=True, slots=True)
class CheckedProgram(Generic[Result]):
    """A program that was checked with its inputs, and what is ready to be run of it."""

    call: ProgramCall
    executable: Executable[Result]

    @property
    def cost(self) -> Cost:
        """Of one run."""
        return self.executable.plan.cost

    @property
    def source(self) -> str:
        """The code that is run."""
        return self.executable.plan.source

    def run(
        self,
        inputs: Mapping[str, Value] | None = None,
        *,
        along: Mapping[str, Value] | None = None,
        seed: int | None = None,
    ) -> Result:
        """Computes; arguments and errors as of `Executable.run`."""
        return self.executable.run(inputs, along=along, seed=seed)


def narrow_fault(field: str, value: Value, of: str) -> str:
    """Explain why a value is no direction of a float32 value; empty if it is one."""
    with np.errstate(all="ignore"):
        narrow = np.asarray(value, FLOAT32)
    is_beyond = (np.isinf(narrow) & np.isfinite(value)).any()
    return f'{field}: a number is more than float32, the dtype of "{of}", holds' if is_beyond else ""
