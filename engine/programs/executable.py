"""Executable: a plan with its inputs, to run again and again with other values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from engine.core import FLOAT32, FLOAT64, Aval, InvalidValueError, Value, aval, nearest, test_mode
from engine.graph import quoted
from engine.plans.cost import Cost
from engine.plans.plan import Plan
from engine.programs.call import ProgramCall

Result = TypeVar("Result")
#: Names of inputs, and the function from floats in that order to all values.
ScalarFunction = tuple[Sequence[str], Callable[[Sequence[float]], list[Value]]]


@dataclass(frozen=True, slots=True)
class Direction:
    """A cotangent, tangent or vector.

    key: its name as an input of the plan.
    of: the user's name for its primal.
    is_float32: whether the primal is float32.
    """

    key: str
    of: str
    is_float32: bool


@dataclass(frozen=True, slots=True)
class Executable(Generic[Result]):
    """A plan with its inputs: everything that a run needs, without the program.

    values: values of the plan's inputs by name; a run must give those that are missing.
    avals: shapes and dtypes of the inputs that a run may give, by name.
    directions: the directions that a run may give as `along`, by name.
    result: builds the result from the values that the plan computes.
    train: whether random operations are active.
    seed: the default seed of random operations.
    """

    plan: Plan
    values: dict[str, Value]
    avals: dict[str, Aval]
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
        """Return the executable of a plan, with the inputs of a call and the values of directions."""
        given = call.inputs | {direction.key: value for direction, value in along.values()}
        avals = {key: aval(value)._replace(weak=None) for key, value in given.items()}
        directions = {name: direction for name, (direction, _) in along.items()}
        return cls(plan, call.graph.bound | given, avals, directions, result, call.train, call.seed or 0)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.plan.nbytes + sum(aval(value).nbytes for value in self.values.values())

    @property
    def scalar_function(self) -> ScalarFunction | None:
        """Return the names of inputs and the function from their values to those that `result` takes.

        None if any value is not a float, or if there are directions.
        """
        computed = self.plan.scalar_function
        return None if computed is None or self.directions else (self.plan.names, computed)

    def without_values(self) -> "Executable[Result]":
        """Return the executable without values of inputs and directions, which every run must then give."""
        return replace(self, values={name: value for name, value in self.values.items() if name not in self.avals})

    def run(
        self,
        inputs: Mapping[str, Value] | None = None,
        *,
        along: Mapping[str, Value] | None = None,
        seed: int | None = None,
    ) -> Result:
        """Run the plan; return the result.

        Args:
            inputs: values that replace those of inputs, of the same shapes and dtypes.
            along: values that replace those of cotangents, tangents or vectors.
            seed: of random operations, in place of the default one.

        Raises:
            InvalidValueError: a value is missing or has an unknown name or another shape or dtype, or an operation is
                not defined on the data.
        """
        values = self.values
        if inputs or along:
            values = values.copy()
            for name, value in (inputs or {}).items():
                values[self._checked(name, value, name in self.avals)] = value
            for name, value in (along or {}).items():
                values[self._directed(name, value)] = value
        if not self.avals.keys() <= values.keys():
            missing = next(name for name in self.avals if name not in values)
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
            raise InvalidValueError(f"there is no input {quoted(name)}{nearest(name, list(self.avals))}")
        shape, dtype, _ = self.avals[name]
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
    """A checked program with its inputs, and its executable."""

    call: ProgramCall
    executable: Executable[Result]

    @property
    def cost(self) -> Cost:
        """Cost of one run."""
        return self.executable.plan.cost

    @property
    def source(self) -> str:
        """Return the generated code."""
        return self.executable.plan.source

    def run(
        self,
        inputs: Mapping[str, Value] | None = None,
        *,
        along: Mapping[str, Value] | None = None,
        seed: int | None = None,
    ) -> Result:
        """Run the executable; arguments and errors as of `Executable.run`."""
        return self.executable.run(inputs, along=along, seed=seed)


def narrow_fault(field: str, value: Value, of: str) -> str:
    """Explain why a value cannot be a direction of a float32 value (it overflows); empty if it can."""
    with np.errstate(all="ignore"):
        narrow = np.asarray(value, FLOAT32)
    is_beyond = (np.isinf(narrow) & np.isfinite(value)).any()
    return f'{field}: a number is more than float32, the dtype of "{of}", holds' if is_beyond else ""
