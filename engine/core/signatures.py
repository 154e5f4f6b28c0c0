"""Types of the functions `F.*`, by the number of operands and by the result.

A variable among the operands makes the result a variable. Otherwise the result is a float or an array; each decorator
below says which. Decorators leave a function as it is: they only tell type checkers what it accepts and returns.
Operands are positional, as `P`, the attributes, may have any names.
"""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt

from .values import Value
from .variable import Variable

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

Array = npt.NDArray[Any]
#: Numbers of Python and of NumPy.
Number = float | np.generic
#: A nested list of numbers.
Nested = list[Any] | tuple[Any, ...]
Arrays = Array | np.generic | Nested
Numbers = float | Arrays
Argument = Variable | Numbers


class One(Protocol[P, R_co]):
    """Function of one operand; R: its result for numbers."""

    @overload
    def __call__(self, x: Variable, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, /, *args: P.args, **attrs: P.kwargs) -> R_co: ...


class Two(Protocol[P, R_co]):
    """Function of two operands; R: its result for numbers."""

    @overload
    def __call__(self, x: Variable, y: Argument, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Variable, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Numbers, /, *args: P.args, **attrs: P.kwargs) -> R_co: ...


class Three(Protocol[P, R_co]):
    """Function of three operands; R: its result for numbers."""

    @overload
    def __call__(self, x: Variable, y: Argument, z: Argument, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Variable, z: Argument, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Numbers, z: Variable, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Numbers, z: Numbers, /, *args: P.args, **attrs: P.kwargs) -> R_co: ...


class TwoOrThree(Protocol):
    """Function of two operands and an optional third, a bias, which is never a number or a list."""

    @overload
    def __call__(self, x: Variable, y: Argument, /, b: Variable | Array | None = None) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Variable, /, b: Variable | Array | None = None) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Numbers, /, b: Variable) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Numbers, /, b: Array | None = None) -> Value: ...


class LikeOne(Protocol[P]):
    """Function of one operand whose result is like it."""

    @overload
    def __call__(self, x: Variable, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: float, /, *args: P.args, **attrs: P.kwargs) -> float: ...
    @overload
    def __call__(self, x: Arrays, /, *args: P.args, **attrs: P.kwargs) -> Array: ...


class LikeTwo(Protocol[P]):
    """Function of two operands whose result is a float only if both are."""

    @overload
    def __call__(self, x: Variable, y: Argument, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Variable, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: float, y: float, /, *args: P.args, **attrs: P.kwargs) -> float: ...
    @overload
    def __call__(self, x: Arrays, y: Numbers, /, *args: P.args, **attrs: P.kwargs) -> Array: ...
    @overload
    def __call__(self, x: float, y: Arrays, /, *args: P.args, **attrs: P.kwargs) -> Array: ...


class LikeThree(Protocol[P]):
    """Function of three operands whose result is a float only if all are."""

    @overload
    def __call__(self, x: Variable, y: Argument, z: Argument, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Variable, z: Argument, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: Numbers, y: Numbers, z: Variable, /, *args: P.args, **attrs: P.kwargs) -> Variable: ...
    @overload
    def __call__(self, x: float, y: float, z: float, /, *args: P.args, **attrs: P.kwargs) -> float: ...
    @overload
    def __call__(self, x: Arrays, y: Numbers, z: Numbers, /, *args: P.args, **attrs: P.kwargs) -> Array: ...
    @overload
    def __call__(self, x: float, y: Arrays, z: Numbers, /, *args: P.args, **attrs: P.kwargs) -> Array: ...
    @overload
    def __call__(self, x: float, y: float, z: Arrays, /, *args: P.args, **attrs: P.kwargs) -> Array: ...


class Several(Protocol[P]):
    """Function of one operand with several results."""

    @overload
    def __call__(self, x: Variable, /, *args: P.args, **attrs: P.kwargs) -> tuple[Variable, ...]: ...
    @overload
    def __call__(self, x: Numbers, /, *args: P.args, **attrs: P.kwargs) -> tuple[Value, ...]: ...


class Many(Protocol):
    """Function of any number of operands, given one by one or as one list, along an axis."""

    @overload
    def __call__(self, x: Variable, /, *xs: Argument, axis: int = 0) -> Variable: ...
    @overload
    def __call__(self, x: Number | Array, y: Variable, /, *xs: Argument, axis: int = 0) -> Variable: ...
    @overload
    def __call__(self, xs: list[Variable] | tuple[Variable, ...], /, *, axis: int = 0) -> Variable: ...
    @overload
    def __call__(self, x: Array, /, *xs: Numbers, axis: int = 0) -> Array: ...
    @overload
    def __call__(self, x: Number, /, *xs: Argument, axis: int = 0) -> Value: ...
    @overload
    def __call__(self, xs: Nested, /, *, axis: int = 0) -> Value: ...


class Subscripts(Protocol):
    """Function of subscripts and any number of operands, given one by one or as one list."""

    @overload
    def __call__(self, subscripts: str, x: Variable, /, *xs: Argument) -> Variable: ...
    @overload
    def __call__(self, subscripts: str, x: Numbers, y: Variable, /, *xs: Argument) -> Variable: ...
    @overload
    def __call__(self, subscripts: str, xs: list[Variable] | tuple[Variable, ...], /) -> Variable: ...
    @overload
    def __call__(self, subscripts: str, x: Numbers, /, *xs: Argument) -> Value: ...


def like_of_one(f: Callable[Concatenate[Any, P], Any]) -> LikeOne[P]:
    """Declare a function of one operand: a float for a float, an array for an array."""
    return f


def like_of_two(f: Callable[Concatenate[Any, Any, P], Any]) -> LikeTwo[P]:
    """Declare a function of two operands: a float for floats, otherwise an array."""
    return f


def like_of_three(f: Callable[Concatenate[Any, Any, Any, P], Any]) -> LikeThree[P]:
    """Declare a function of three operands: a float for floats, otherwise an array."""
    return f


def array_of_one(f: Callable[Concatenate[Any, P], Any]) -> One[P, Array]:
    """Declare a function of one operand that gives an array."""
    return f


def array_of_two(f: Callable[Concatenate[Any, Any, P], Any]) -> Two[P, Array]:
    """Declare a function of two operands that gives an array."""
    return f


def array_of_three(f: Callable[Concatenate[Any, Any, Any, P], Any]) -> Three[P, Array]:
    """Declare a function of three operands that gives an array."""
    return f


def value_of_one(f: Callable[Concatenate[Any, P], Any]) -> One[P, Value]:
    """Declare a function of one operand that gives a float or an array, depending on shapes."""
    return f


def value_of_two(f: Callable[Concatenate[Any, Any, P], Any]) -> Two[P, Value]:
    """Declare a function of two operands that gives a float or an array, depending on shapes."""
    return f


def value_of_two_or_three(f: Callable[..., Any]) -> TwoOrThree:
    """Declare a function of two or three operands that gives a float or an array, depending on shapes."""
    return f


def several_of_one(f: Callable[Concatenate[Any, P], Any]) -> Several[P]:
    """Declare a function of one operand with several results."""
    return f


def of_many(f: Callable[..., Any]) -> Many:
    """Declare a function that joins its operands along an axis."""
    return f


def of_subscripts(f: Callable[..., Any]) -> Subscripts:
    """Declare a function of subscripts and operands."""
    return f
