"""Ready: a plan with what it is run on, the same plan again and again with other values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.config import test_mode
from engine.errors import InvalidValueError
from engine.graph.application import Application
from engine.graph.choices import narrow_fault
from engine.graph.names import quoted
from engine.graph.plan import Plan
from engine.table import nearest
from engine.values import FLOAT64, Value, aval

#: The names of inputs, and what computes all values from numbers in that order.
OfNumbers = tuple[Sequence[str], Callable[[Sequence[float]], list[Value]]]


@dataclass(frozen=True, slots=True)
class Direction:
    """A cotangent, tangent or vector: `key` is its name as an input of the plan, `of` what it belongs to."""

    key: str
    of: str
    is_float32: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """What was checked.

    values: of all inputs of the plan, by their names there; those that were left out have to be given.
    forms: shapes and dtypes of what may be given.
    directions: what can be given along, by name.
    """

    plan: Plan
    application: Application
    values: dict[str, Value]
    forms: dict[str, Any]
    directions: dict[str, Direction]

    @classmethod
    def of(
        cls, plan: Plan, application: Application, along: Mapping[str, tuple[Direction, Value]] | None = None
    ) -> "Ready":
        """A plan with the inputs of an application and the values of directions."""
        given = application.inputs | {direction.key: value for direction, value in (along or {}).values()}
        avals = {key: aval(value) for key, value in given.items()}
        forms = {key: (known.shape, known.dtype) for key, known in avals.items()}
        directions = {name: direction for name, (direction, _) in (along or {}).items()}
        return cls(plan, application, application.graph.bound | given, forms, directions)

    @property
    def of_numbers(self) -> OfNumbers | None:
        """The plan by itself, where it is one of numbers alone and nothing is given along."""
        computed = self.plan.of_numbers
        return None if computed is None or self.directions else (self.plan.names, computed)

    def without_values(self) -> "Ready":
        """The same without values of inputs and directions: every run has to be given all of them."""
        bound = self.application.graph.bound
        return replace(self, application=replace(self.application, inputs={}), values=dict(bound))

    def run(
        self, inputs: Mapping[str, Value] | None, along: Mapping[str, Value] | None, seed: int | None
    ) -> list[Value]:
        """What the plan computes.

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
        if len(values) < len(self.forms) + len(self.application.graph.bound):
            missing = next(name for name in self.forms if name not in values)
            raise InvalidValueError(f"{quoted(missing)} is missing: the program was prepared without values")
        number = seed if seed is not None else self.application.seed or 0
        if self.application.train or not self.plan.is_random:
            return self.plan.run(values, number)
        with test_mode():
            return self.plan.run(values, number)

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
