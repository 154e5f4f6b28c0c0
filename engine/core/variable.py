"""Variable: a value that records how it was computed. The variable itself is the node of the tape."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from engine.core.attributes import Attributes, Given
from engine.core.backward import run_backward
from engine.core.config import is_recording
from engine.core.errors import InvalidValueError, NotScalarError, ShapeMismatchError
from engine.core.lost_derivatives import advice, place, warn_lost
from engine.core.operation import Operation
from engine.core.operators import Operators
from engine.core.values import Array, DType, Operand, Shape, Value, as_raw, dtype_of, shape_of

#: `_attrs` of a constant leaf: a gradient, or a result of an operation inside `no_grad`.
CONSTANT: Attributes = {}


class Variable(Operators):
    """A number or an array with a gradient.

    Args:
        values: one number, nested list or array (copied), or several numbers for a vector. Python numbers become
            float64, arrays keep float64, float32, int64 or bool.
        name: shown by `str` and in graph pictures.
        dtype: dtype to convert `values` to.

    >>> x = Variable(0.5)
    >>> y = x * x
    >>> y.backward()
    >>> print(y, x.grad)
    variable(0.25) variable(1.0)
    >>> Variable(1.0, 2.0, 3.0).shape
    (3,)

    Raises:
        InvalidValueError: ragged lists, unsupported dtypes, objects that are not numbers.
    """

    # _op, _parents, _saved, _attrs: its operation (None for a leaf), operands, their raw values then, and attributes.
    __slots__ = ("__weakref__", "_attrs", "_data", "_grad", "_op", "_parents", "_saved", "generation", "name")

    carries_derivative = True
    is_taped = True
    # See `powers`.
    _content = ("_data",)
    _may_be_differentiated = True

    _data: Value
    _op: Operation | None
    _parents: tuple[Operand, ...]
    _saved: tuple[Value, ...]
    _attrs: Attributes | None
    _grad: "Variable | None"
    generation: int
    name: str | None

    def __init_subclass__(cls) -> None:
        raise TypeError("Variable has no subclasses: dispatch is by its exact type; hold one instead")

    def __init__(self, *values: Given, name: str | None = None, dtype: npt.DTypeLike | None = None) -> None:
        if not values:
            raise InvalidValueError("Variable: expected a number, a list, an array or several numbers; got nothing")
        given = values[0] if len(values) == 1 else values
        self._data = as_raw(given, dtype)
        if type(given) is Variable and given.dtype.kind == "f":
            given._warn_lost("x.data")
        self._op = None
        self._parents = self._saved = ()
        self._attrs = None
        self._grad = None
        self.generation = 0
        self.name = name

    @property
    def data(self) -> Value:
        """The value: a `float` for a float64 scalar, otherwise a read-only array. Replace it; do not write into it."""
        data = self._data
        if type(data) is not float:
            base: object = data
            while isinstance(base, np.ndarray):
                base.flags.writeable = False
                base = base.base
        return data

    @data.setter
    def data(self, value: Given) -> None:
        if self._op is not None:
            raise InvalidValueError(
                f"data: this variable was computed by {self._op.name}; only a leaf's data can be replaced. "
                "Call unchain() first, or make a new Variable"
            )
        raw = as_raw(value)
        if self._grad is not None and shape_of(raw) != self._grad.shape:
            self._grad = None
        self._data = raw

    @property
    def grad(self) -> "Variable | Any":  # Any in place of None: no check is needed after backward()
        """The gradient: a variable of the same shape, None before a backward pass and after `cleargrad`."""
        return self._grad

    @grad.setter
    def grad(self, value: "Variable | None") -> None:
        if value is not None and (type(value) is not Variable or value.shape != self.shape):
            given = f"a variable of shape {value.shape}" if type(value) is Variable else type(value).__name__
            raise ShapeMismatchError(f"grad: expected None or a variable of shape {self.shape}, got {given}")
        self._grad = value

    @property
    def creator(self) -> Operation | None:
        """The operation that computed the variable; None for a leaf."""
        return self._op

    @property
    def shape(self) -> Shape:
        """Lengths of the axes; () for a scalar."""
        return shape_of(self._data)

    @property
    def dtype(self) -> DType:
        """float64, float32, int64 or bool."""
        return dtype_of(self._data)

    @property
    def held(self) -> tuple[Value, ...]:
        """The raw value."""
        return (self._data,)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __copy__(self) -> "Variable":
        """Return a new variable with the same value, gradient and operands; `copy.deepcopy` copies these as well."""
        copied = Variable._leaf(self._data)
        copied._op, copied._parents, copied._saved, copied._attrs = self._op, self._parents, self._saved, self._attrs
        copied._grad, copied.generation, copied.name = self._grad, self.generation, self.name
        return copied

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> object:
        # To type checkers it is no array: `array + variable` is a variable, and NumPy's functions do not take it.
        if self.dtype.kind == "f":
            raise InvalidValueError(
                f"a NumPy function would lose the tape{advice() or '; use the functions of F'}, "
                f"or x.data for the value alone{place()}"
            )
        return np.array(self._data, dtype=dtype)

    def __float__(self) -> float:
        return float(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def _number(self) -> Value:
        number = self.item()
        if type(number) is float:
            self._warn_lost("x.item()")
        return number

    def _warn_lost(self, alone: str) -> None:
        if is_recording() and self._is_recorded():
            warn_lost(alone)

    def _is_recorded(self) -> bool:
        """Return whether it is, or was computed from, a leaf that is not a constant."""
        pending, seen = [self], {self}
        while pending:
            v = pending.pop()
            if v._op is None and v._attrs is None:
                return True
            parents = [p for p in v._parents if type(p) is Variable and p not in seen]
            seen.update(parents)
            pending.extend(parents)
        return False

    def _as_index(self) -> Array:
        return np.asarray(self._data)

    def item(self) -> Value:
        """Return the only element as a Python number; `float(v)` and `int(v)` also warn that the derivative is lost.

        Raises:
            NotScalarError: there are several elements, or none.
        """
        if self.size != 1:
            raise NotScalarError(f"expected one element, this variable has shape {self.shape}")
        return self._data if type(self._data) is float else self._data.item()

    def __str__(self) -> str:
        data = self._data
        text = (
            repr(data)
            if type(data) is float
            else np.array2string(data, floatmode="unique", separator=" ", prefix=" " * 9, threshold=1000)
        )
        return f"{self.name or 'variable'}({text})"

    __repr__ = __str__

    def backward(self, *, create_graph: bool = False, retain_grad: bool = False, cotangent: Given = None) -> None:
        """Add the gradient of this variable to `grad` of every leaf from which it was computed.

        The initial cotangent is `cotangent` if given, otherwise `grad` if set, otherwise ones. Gradients accumulate
        until they are cleared.

        Args:
            create_graph: record the backward pass, so that gradients can be differentiated again.
            retain_grad: keep the gradients of intermediate variables too.
            cotangent: initial cotangent, of this variable's shape.

        Raises:
            NoGradError: create_graph inside `no_grad`.
            NotDifferentiableError: this variable is not floating.
            ShapeMismatchError: the cotangent has another shape.
            StaleDataError: a leaf's data was replaced since the forward pass: by a value of another shape, or, with
                create_graph, by any value.
        """
        run_backward(self, create_graph, retain_grad, cotangent)

    def cleargrad(self) -> None:
        """Clear the gradient: set `grad` to None."""
        self._grad = None

    def unchain(self) -> None:
        """Make the variable a leaf: drop its operation and operands, keep its value."""
        self._op = None
        self._parents = self._saved = ()
        self._attrs = None

    def unchain_backward(self) -> None:
        """Unchain every variable from which this one was computed (truncated backpropagation through time)."""
        stack = [p for p in self._parents if isinstance(p, Variable)]
        while stack:
            v = stack.pop()
            stack.extend(p for p in v._parents if isinstance(p, Variable))
            v.unchain()

    @classmethod
    def _leaf(cls, data: Value, attrs: Attributes | None = None) -> Self:
        """Return a leaf that holds a raw value without copying it; no other code may write to the value."""
        v = cls.__new__(cls)
        v._data = data
        v._op = None
        v._parents = v._saved = ()
        v._attrs = attrs
        v._grad = None
        v.generation = 0
        v.name = None
        return v

    @classmethod
    def _constant(cls, data: Value) -> Self:
        """Return a constant leaf: it does not count as recorded, see `_is_recorded`."""
        return cls._leaf(data, CONSTANT)
